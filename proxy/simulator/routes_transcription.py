"""``/v1/audio/transcriptions``: a multipart form in, a text out."""

import email.parser
import email.policy
import time
from typing import Final
from urllib.parse import parse_qs

from proxy.simulator import go_json
from proxy.simulator.generation_job import Job, Piece, Usage, compose
from proxy.simulator.host import Host
from proxy.simulator.http_reply import Reply, RunnerFailed
from proxy.simulator.inference import Speaker, check_capabilities, find
from proxy.simulator.loaded_models import Busy
from proxy.simulator.refusals import JSON, MAX_QUEUE, Refuse
from proxy.simulator.request import Request


class Transcript:
    """The voice of a transcription, which never streams."""

    flavor: Final = "openai"
    content_type: Final = JSON

    def __init__(self, form: str) -> None:
        self._form = form

    def piece(self, piece: Piece) -> tuple[bytes, ...]:
        """Return nothing; it does not stream."""
        return ()

    def done(self, usage: Usage) -> tuple[bytes, ...]:
        """Return nothing; it does not stream."""
        return ()

    def failed(self, message: str) -> tuple[bytes, ...]:
        """Return nothing; it does not stream."""
        return ()

    def whole(self, pieces: list[Piece], usage: Usage) -> tuple[bytes, bytes]:
        """Return (content type, body)."""
        text = "".join(piece.text for piece in pieces if piece.kind == "content").strip()
        if self._form == "text":
            return b"text/plain", text.encode()
        return JSON, go_json.dumps({"text": text}) + b"\n"


async def transcribe(sim: Host, request: Request, reply: Reply) -> None:
    """Answer one transcription."""
    started = time.perf_counter_ns()
    body = await request.read()
    fields, audio = read_form(request.header("content-type") or b"", body)
    # Go's FormValue prefers the query over a multipart field.
    query = parse_qs(request.query.decode("latin-1"), keep_blank_values=True)
    raw = query["model"][0] if "model" in query else fields.get("model", "")
    if not raw:
        raise Refuse(400, "model is required", early=True)
    if audio is None:
        raise Refuse(400, "file is required: http: no such file", early=True)
    if not audio:
        raise Refuse(400, "audio file is empty", early=True)
    model, name = find(sim, request, raw)
    job = Job(
        model=raw, prompt=f"{fields.get('prompt', '')}\n{len(audio)} {audio[:4096].hex()}", stream=False, think=False
    )
    check_capabilities(model, job, "")
    try:
        async with sim.engine.hold(name.key, model, {}, None) as runner, sim.engine.slot(runner) as slot:
            speaker = Speaker(sim, request, reply, job, Transcript(fields.get("response_format", "")), started)
            await speaker.say(compose(sim.settings, name.key, model, job), slot)
    except Busy:
        raise Refuse(503, MAX_QUEUE) from None
    except RunnerFailed as error:
        raise Refuse(500, str(error)) from None


def read_form(content_type: bytes, body: bytes) -> tuple[dict[str, str], bytes | None]:
    """Return (fields, content of the field ``file`` or None) of a multipart form; of two equal fields the first."""
    if not content_type.lower().startswith(b"multipart/form-data"):
        text = "failed to parse multipart form: request Content-Type isn't multipart/form-data"
        raise Refuse(400, text, early=True)
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    form = parser.parsebytes(b"Content-Type: " + content_type + b"\r\n\r\n" + body)
    fields: dict[str, str] = {}
    audio: bytes | None = None
    for part in form.iter_parts() if form.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(content, bytes):
            continue
        if part.get_filename() is None:
            fields.setdefault(name, content.decode("utf-8", "replace"))
        elif name == "file" and audio is None:
            audio = content
    return fields, audio
