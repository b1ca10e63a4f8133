"""Generation, the same for all four flavors: find the model, hold a runner, wait for a slot, say the pieces."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import zstandard

from proxy.simulator import go_json, model_names
from proxy.simulator.generation_job import Job, Piece, Reason, Speech, Usage, compose
from proxy.simulator.go_json import BadJSON, NoJSON
from proxy.simulator.host import Host
from proxy.simulator.http_reply import Reply, RunnerFailed
from proxy.simulator.loaded_models import BadOption, Busy
from proxy.simulator.refusals import MAX_QUEUE, Flavor, Refuse, not_found
from proxy.simulator.request import Request
from proxy.simulator.settings import Model

BURST: Final = 8  # tokens written before others get their turn, when there is no pacing
ZSTD_LIMIT: Final = 20 << 20  # Ollama's bound on a decompressed body


class Voice(Protocol):
    """The records of one answer in one flavor. Each `bytes` of `piece`, `done` and `failed` becomes one HTTP chunk."""

    @property
    def flavor(self) -> Flavor:
        """Return the flavor of its errors."""

    @property
    def content_type(self) -> bytes:
        """Return the Content-Type of its stream."""

    def piece(self, piece: Piece) -> Sequence[bytes]:
        """Return the records of one token."""

    def done(self, usage: Usage) -> Sequence[bytes]:
        """Return the records that end the stream."""

    def failed(self, message: str) -> Sequence[bytes]:
        """Return the records of an error in mid-stream."""

    def whole(self, pieces: list[Piece], usage: Usage) -> tuple[bytes, bytes]:
        """Return (content type, body) of an answer that is not streamed."""


Reader = Callable[[bytes], tuple[Job, Voice]]


async def infer(sim: Host, request: Request, reply: Reply, read: Reader) -> None:
    """Answer one generation request."""
    started = time.perf_counter_ns()
    job, voice = await read_job(request, read)
    model, name = find(sim, request, job.model)
    if request.cloud:
        job.model = name.base
        await Speaker(sim, request, reply, job, voice, started).cloud(name.key)
        return
    if job.empty and job.keep_alive == 0:
        sim.engine.unload(name.key)
        await plain(reply, voice, "unload")
        return
    check_capabilities(model, job, request.route or "")
    try:
        async with sim.engine.hold(name.key, model, job.options, job.keep_alive) as runner:
            speaker = Speaker(sim, request, reply, job, voice, started)
            if job.empty:
                reply.check(0)
                await plain(reply, voice, "load")
                return
            check_format(job)
            async with sim.engine.slot(runner):
                await speaker.say(compose(sim.settings, name.key, model, job))
    except Busy:
        raise Refuse(503, MAX_QUEUE) from None
    except BadOption as error:
        raise Refuse(500, str(error)) from None
    except RunnerFailed as error:
        raise Refuse(500, str(error)) from None


async def read_job(request: Request, read: Reader) -> tuple[Job, Voice]:
    """Read the body into a job, decompressing it where Ollama does."""
    body = await request.read()
    early = request.path.startswith("/v1/")
    if early and request.header("content-encoding") == b"zstd":
        body = decompress(body)
    try:
        return read(body)
    except NoJSON:
        raise Refuse(400, "EOF" if early else "missing request body", early=early) from None
    except BadJSON as error:
        raise Refuse(400, str(error), early=early) from None


def decompress(body: bytes) -> bytes:
    """Return a zstd body decompressed, or refuse it."""
    try:
        with zstandard.ZstdDecompressor(max_window_size=8 << 20).stream_reader(body) as reader:
            plain_body = reader.read(ZSTD_LIMIT + 1)
    except zstandard.ZstdError:
        raise Refuse(400, "failed to decompress zstd body", early=True) from None
    if len(plain_body) > ZSTD_LIMIT:
        raise Refuse(400, "http: request body too large", early=True)
    return plain_body


def find(sim: Host, request: Request, raw: str) -> tuple[Model, model_names.Name]:
    """Find the model called `raw`, note it with the request, and say whether the cloud has it.

    Raises:
        Refuse: 404 or 400 with Ollama's texts; 401 if the cloud is asked without an account.
    """
    generates = request.route == "/api/generate" or request.route == "/v1/completions"
    try:
        name = model_names.parse(raw)
    except model_names.ConflictingSource as error:
        raise Refuse(400, str(error)) from None
    except model_names.NameRequired:
        raise (not_found(raw) if generates else Refuse(400, "model is required")) from None
    except model_names.BadName:
        raise Refuse(400, "invalid model name") from None
    request.model = name.key
    if name.source == "cloud":
        return cloud_model(sim, request, name), name
    model = sim.store.get(name.key)
    if model is None or (name.source == "local" and model.remote):
        raise not_found(raw)
    return model, name


def cloud_model(sim: Host, request: Request, name: model_names.Name) -> Model:
    """Pass a request on to the simulated cloud."""
    request.cloud = True
    if not sim.settings.signed_in:
        raise Refuse(401, "unauthorized", more={"signin_url": "https://ollama.com/connect?name=simulator&key=none"})
    known = sim.settings.cloud
    if known is not None and name.key not in {model_names.parse(each).key for each in known}:
        raise not_found(name.base)
    return Model(name.base, capabilities=("completion", "tools", "thinking"))


def check_format(job: Job) -> None:
    """Refuse a format that is neither ``json`` nor a schema: with 500, as Ollama's runner client does."""
    if isinstance(job.format, str) and job.format not in ("", "json"):
        shown = go_json.dumps(go_json.dumps(job.format).decode()).decode()
        raise Refuse(500, f'invalid format: {shown}; expected "json" or a valid JSON Schema object')


def check_capabilities(model: Model, job: Job, route: str) -> None:
    """Refuse what the model cannot do."""
    if job.think and "thinking" not in model.capabilities:
        if not job.relaxed:
            raise Refuse(400, f'"{job.model}" does not support thinking')
        job.think = None
    if "completion" not in model.capabilities:
        what = "generate" if route in ("/api/generate", "/v1/completions") else "chat"
        raise Refuse(400, f'"{job.model}" does not support {what}')
    if job.tools and "tools" not in model.capabilities:
        raise Refuse(400, f"{model_names.parse(job.model).key} does not support tools")


async def plain(reply: Reply, voice: Voice, reason: Reason) -> None:
    """Answer a load or unload: one object, streamed or not."""
    usage = Usage(reason, 0, 0, 0, 0, 0, 0)
    if voice.flavor != "ollama":
        usage.reason = "stop"
    kind, body = voice.whole([], usage)
    await reply.whole(200, kind, body)


class Speaker:
    """Sends one reply, streamed or whole, at the model's pace."""

    def __init__(self, sim: Host, request: Request, reply: Reply, job: Job, voice: Voice, started: int) -> None:
        self._sim = sim
        self._reply = reply
        self._request = request
        self._job = job
        self._voice = voice
        self._started = started
        self._loaded = time.perf_counter_ns()
        self._splitter: Splitter | None = None
        self._due = 0.0

    async def cloud(self, key: str) -> None:
        """Send the answer of the cloud: without runners and slots, and in chunks that are no records."""
        self._splitter = Splitter(self._sim.settings.seed + self._request.id)
        model = Model(self._job.model, capabilities=("completion", "tools", "thinking"))
        try:
            await self.say(compose(self._sim.settings, key, model, self._job))
        except RunnerFailed as error:
            raise Refuse(500, str(error)) from None

    async def say(self, speech: Speech) -> None:
        """Send the whole reply.

        Raises:
            RunnerFailed: the runner died before the first token, or in an answer that is not streamed.
        """
        if delay := self._sim.settings.prompt_delay:
            await asyncio.sleep(delay)
        begun = time.perf_counter_ns()
        if self._job.stream:
            await self._stream(speech, begun)
        else:
            await self._whole(speech, begun)

    async def _stream(self, speech: Speech, begun: int) -> None:
        try:
            for produced, piece in enumerate(speech.pieces):
                await self._generate(produced)
                await self._put(self._voice.piece(piece))
                self._sim.delivered(self._request, 1)
            self._reply.check(speech.count)
        except RunnerFailed as error:
            if not self._reply.started:
                raise
            await self._put(self._voice.failed(str(error)))
        else:
            await self._put(self._voice.done(self._usage(speech, begun)))
        if self._splitter and (rest := self._splitter.rest()):
            await self._reply.send(rest)
        await self._reply.end()

    async def _whole(self, speech: Speech, begun: int) -> None:
        pieces = []
        for produced, piece in enumerate(speech.pieces):
            await self._generate(produced)
            pieces.append(piece)
        self._reply.check(speech.count)
        kind, body = self._voice.whole(pieces, self._usage(speech, begun))
        await self._reply.whole(200, kind, body)
        self._sim.delivered(self._request, speech.count)

    async def _generate(self, produced: int) -> None:
        """Wait for the time of the next token and count it as generated.

        Times are counted from the first token, so that a late one does not make all that follow later.
        """
        if delay := self._sim.settings.token_delay:
            now = asyncio.get_running_loop().time()
            self._due = max((self._due or now) + delay, now - delay)
            await asyncio.sleep(self._due - now)
        elif produced % BURST == 0:
            await asyncio.sleep(0)
        self._reply.connection.check()
        self._reply.check(produced)
        self._sim.generated()

    async def _put(self, records: Iterable[bytes]) -> None:
        if not self._reply.started:
            await self._reply.start(200, [(b"Content-Type", self._voice.content_type)])
        for record in records:
            for chunk in self._splitter.cut(record) if self._splitter else (record,):
                await self._reply.send(chunk)

    def _usage(self, speech: Speech, begun: int) -> Usage:
        now = time.perf_counter_ns()
        wanted = self._sim.settings.context if self._request.route == "/api/generate" else 0
        return Usage(
            reason=speech.reason,
            prompt_tokens=self._job.prompt_tokens,
            tokens=speech.count,
            total=now - self._started,
            load=self._loaded - self._started,
            prompt=max(1, begun - self._loaded),
            eval=max(1, now - begun),
            context=list(itertools.islice(itertools.count(128_000), wanted)),
        )


class Splitter:
    """Cuts records into chunks at arbitrary places, as they come from the cloud."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._rest = b""

    def cut(self, record: bytes) -> list[bytes]:
        """Return chunks made of what was left over and of most of `record`."""
        data = self._rest + record
        cuts = sorted(self._rng.randrange(len(data)) for _ in range(self._rng.randrange(1, 4)))
        pieces = [data[a:b] for a, b in itertools.pairwise((0, *cuts)) if a < b]
        self._rest = data[cuts[-1] :]
        return pieces

    def rest(self) -> bytes:
        """Return the remaining bytes."""
        rest, self._rest = self._rest, b""
        return rest
