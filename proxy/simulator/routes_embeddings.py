"""Handlers of ``/api/embed``, ``/api/embeddings`` and ``/v1/embeddings``."""

import asyncio
import base64
import struct
import time
from typing import Any, Final

from proxy.simulator import go_json, made_up_text
from proxy.simulator.generation_job import read_keep_alive
from proxy.simulator.go_json import ANY, BOOL, INT, MAP, POINTER, STRING
from proxy.simulator.host import Host
from proxy.simulator.http_reply import Reply, RunnerFailed
from proxy.simulator.inference import decompress, find
from proxy.simulator.loaded_models import BadOption, Busy, runner_options
from proxy.simulator.model_names import Name
from proxy.simulator.refusals import JSON, MAX_QUEUE, Refuse, not_pulled
from proxy.simulator.request import Request
from proxy.simulator.settings import Model

EMBED: Final = {
    "model": STRING,
    "input": ANY,
    "truncate": POINTER + BOOL,
    "dimensions": INT,
    "keep_alive": ANY,
    "options": MAP,
}
EMBEDDINGS: Final = {"model": STRING, "prompt": STRING, "keep_alive": ANY, "options": MAP}
OPENAI: Final = {"model": STRING, "input": ANY, "dimensions": INT, "encoding_format": STRING}


async def embed(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/embed``."""
    started = time.perf_counter_ns()
    fields = await read(request, EMBED, "api.EmbedRequest")
    model, name = find_embedder(sim, request, fields["model"])
    texts = read_input(fields["input"])
    if fields["truncate"] is False and any(count([text]) > context_of(model, fields) for text in texts):
        raise Refuse(400, "the input length exceeds the context length")
    vectors, loaded = await run(sim, reply, model, name, fields, texts)
    body: dict[str, Any] = {"model": fields["model"], "embeddings": vectors}
    if texts:
        body |= {
            "total_duration": time.perf_counter_ns() - started,
            "load_duration": loaded - started,
            "prompt_eval_count": count(texts),
        }
    await reply.json(body)


async def embeddings(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/embeddings``."""
    fields = await read(request, EMBEDDINGS, "api.EmbeddingRequest")
    model, name = find_embedder(sim, request, fields["model"])
    texts = [fields["prompt"]] if fields["prompt"] else []
    vectors, _ = await run(sim, reply, model, name, fields, texts, status=500)
    await reply.json({"embedding": vectors[0] if vectors else []})


async def openai(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/v1/embeddings``."""
    fields = await read(request, OPENAI, "openai.EmbedRequest", early=True)
    form = fields["encoding_format"].lower()
    if form not in ("", "float", "base64"):
        text = f"Invalid value for 'encoding_format' = {form}. Supported values: ['float', 'base64']."
        raise Refuse(400, text, early=True)
    if fields["input"] in (None, []):
        raise Refuse(400, "invalid input", early=True)
    texts = [""] if fields["input"] == "" else read_input(fields["input"])
    model, name = find_embedder(sim, request, fields["model"])
    vectors, _ = await run(sim, reply, model, name, fields, texts)
    data = [
        {"object": "embedding", "embedding": packed(vector) if form == "base64" else vector, "index": index}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": count(texts), "total_tokens": count(texts)}
    body = {"object": "list", "data": data, "model": fields["model"], "usage": usage}
    await reply.whole(200, JSON, go_json.dumps(body) + b"\n")


async def run(
    sim: Host,
    reply: Reply,
    model: Model,
    name: Name,
    fields: dict[str, Any],
    texts: list[str],
    *,
    status: int = 501,
) -> tuple[list[list[float]], int]:
    """Return (one vector per text, when the model was loaded in nanoseconds).

    A model that embeds nothing is refused with `status`.
    """
    keep_alive = read_keep_alive(fields.get("keep_alive"))
    size = fields.get("dimensions") or model.dimensions
    try:
        async with sim.engine.hold(name.key, model, fields.get("options") or {}, keep_alive) as runner:
            loaded = time.perf_counter_ns()
            if texts and not sim.settings.chat_embeds and "embedding" not in model.capabilities:
                raise Refuse(status, "This server does not support embeddings. Start it with `--embeddings`")
            async with sim.engine.embedding_slot(runner):
                await asyncio.sleep(sim.settings.embed_delay)
                reply.connection.check()
                reply.check(0)
                seed = sim.settings.seed
                return [
                    made_up_text.vector(seed, name.key, text, min(size, model.dimensions)) for text in texts
                ], loaded
    except Busy:
        raise Refuse(503, MAX_QUEUE) from None
    except (BadOption, RunnerFailed) as error:
        raise Refuse(500, str(error)) from None


def find_embedder(sim: Host, request: Request, raw: str) -> tuple[Model, Name]:
    """Find the model called `raw`, and say so in these routes' own words when it is not there."""
    try:
        return find(sim, request, raw)
    except Refuse as refusal:
        if refusal.status == 404 and raw:
            raise not_pulled(raw) from None
        raise


def context_of(model: Model, fields: dict[str, Any]) -> int:
    """Return how many tokens of a text the model reads."""
    return int(runner_options({**model.parameters, **(fields.get("options") or {})}, model)["num_ctx"])


async def read(request: Request, shape: go_json.Shape, struct: str, *, early: bool = False) -> dict[str, Any]:
    """Read the body into a struct of `shape`, whose Go type is called `struct`."""
    body = await request.read()
    if early and request.header("content-encoding") == b"zstd":
        body = decompress(body)
    try:
        return go_json.decode(body, shape, struct)
    except go_json.NoJSON:
        raise Refuse(400, "EOF" if early else "missing request body", early=early) from None
    except go_json.BadJSON as error:
        raise Refuse(400, str(error), early=early) from None


def read_input(value: object) -> list[str]:
    """Return the texts of ``input``: a string, or an array of strings."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    raise Refuse(400, "invalid input type")


def count(texts: list[str]) -> int:
    """Return the tokens of the texts: their words."""
    return sum(max(1, len(text.split())) for text in texts)


def packed(vector: list[float]) -> str:
    """Return a vector as OpenAI's base64 of little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
