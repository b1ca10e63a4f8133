"""Generation, the same for all four flavors: find the model, hold a runner, wait for a slot, say the pieces."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import zstandard

from proxy.simulator import model_names
from proxy.simulator.generation_job import Job, Piece, Reason, Speech, Usage, compose
from proxy.simulator.go_json import BadJSON, NoJSON
from proxy.simulator.held_text import HeldText
from proxy.simulator.host import Host
from proxy.simulator.http_reply import Headers, Reply, RunnerFailed
from proxy.simulator.loaded_models import BadOption, Busy, Slot
from proxy.simulator.offline import cloud_failure
from proxy.simulator.refusals import MAX_QUEUE, Flavor, Refuse, not_found
from proxy.simulator.repeat_guard import RepeatGuard
from proxy.simulator.request import Request
from proxy.simulator.runner_checks import check_runner
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


async def infer(sim: Host, request: Request, reply: Reply, read: Reader, headers: Headers = ()) -> None:
    """Answer one generation request; `headers` come with every answer to one that asks for a stream."""
    started = time.perf_counter_ns()
    job, voice = await read_job(request, read)
    if job.stream:
        reply.extra = [*reply.extra, *headers]
    model, name = find(sim, request, job.model)
    if request.cloud:
        job.model = name.base
        await Speaker(sim, request, reply, job, voice, started).cloud(name.key)
        return
    if job.empty and job.keep_alive == 0:
        sim.engine.unload(name.key)
        await plain(reply, job, voice, "unload")
        return
    check_capabilities(model, job, request.route or "")
    try:
        options = {**job.options, "shift": job.shift}
        async with sim.engine.hold(name.key, model, options, job.keep_alive) as runner:
            speaker = Speaker(sim, request, reply, job, voice, started)
            if job.empty:
                reply.check(0)
                await plain(reply, job, voice, "load")
                return
            context = runner.options["num_ctx"]
            check_runner(job, model, context)
            if not job.shift:
                job.fit(context)
            async with sim.engine.slot(runner) as slot:
                await speaker.say(reply.spoken(compose(sim.settings, name.key, model, job)), slot)
    except Busy:
        raise Refuse(503, MAX_QUEUE) from None
    except BadOption as error:
        raise Refuse(500, str(error)) from None
    except RunnerFailed as error:
        raise Refuse(500, str(error), chunked=job.stream and not job.empty) from None


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
    lenient = request.route in (
        "/api/generate",
        "/v1/completions",
        "/api/embed",
    )  # no name is a model that is not there
    try:
        name = model_names.parse(raw)
    except model_names.ConflictingSource as error:
        raise Refuse(400, str(error)) from None
    except model_names.NameRequired:
        raise (not_found(raw) if lenient else Refuse(400, "model is required")) from None
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
    if not sim.settings.network:
        raise Refuse(502, cloud_failure(request.path), native=True)
    if not sim.settings.signed_in:
        raise Refuse(401, "unauthorized", more={"signin_url": "https://ollama.com/connect?name=simulator&key=none"})
    known = sim.settings.cloud
    if known is not None and name.key not in {model_names.parse(each).key for each in known}:
        raise not_found(name.base)
    return Model(name.base, capabilities=("completion", "tools", "thinking"))


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
    if job.suffix and "insert" not in model.capabilities:
        raise Refuse(400, f"{model_names.parse(job.model).key} does not support insert")


async def plain(reply: Reply, job: Job, voice: Voice, reason: Reason) -> None:
    """Answer a load or unload: one object in Ollama's own flavor, the end of a stream in the others."""
    usage = Usage(reason, 0, 0, 0, 0, 0, 0)
    if voice.flavor == "ollama" or not job.stream:
        kind, body = voice.whole([], usage)
        await reply.whole(200, kind, body)
        return
    records = voice.done(usage)
    if len(records) == 1:
        await reply.whole(200, voice.content_type, records[0])
        return
    await reply.start(200, [(b"Content-Type", voice.content_type)])
    for record in records:
        await reply.send(record)
    await reply.end()


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
        self._guard = RepeatGuard()
        self._held = HeldText(parses=bool(job.tools))
        self._due = 0.0

    async def cloud(self, key: str) -> None:
        """Send the answer of the cloud: without runners and slots, and in chunks that are no records."""
        self._splitter = Splitter(self._sim.settings.seed + self._request.id)
        model = Model(self._job.model, capabilities=("completion", "tools", "thinking"))
        try:
            speech = compose(self._sim.settings, key, model, self._job)
            await self.say(self._reply.spoken(speech), Slot())
        except RunnerFailed as error:
            raise Refuse(500, str(error)) from None

    async def say(self, speech: Speech, slot: Slot) -> None:
        """Send the whole reply.

        Raises:
            RunnerFailed: the runner died before the first token, or in an answer that is not streamed.
        """
        await self._evaluate(slot)
        begun = time.perf_counter_ns()
        if self._job.stream:
            await self._stream(speech, begun)
        else:
            await self._whole(speech, begun)

    async def _evaluate(self, slot: Slot) -> None:
        """Evaluate the prompt; for a client that leaves meanwhile the runner goes on to the end of the batch."""
        if not (delay := self._sim.settings.prompt_delay):
            return
        clock = asyncio.get_running_loop().time
        end = clock() + delay
        try:
            await asyncio.sleep(delay)
        except asyncio.CancelledError:
            rest = end - clock()
            if batch := self._sim.settings.batch:
                slot.busy = min(rest, batch - (delay - rest) % batch)
            raise

    async def _stream(self, speech: Speech, begun: int) -> None:
        produced = held = 0
        try:
            for produced, piece in enumerate(speech.pieces):
                await self._generate(produced)
                if self._guard.trips(piece.text):
                    await self._unterminated()
                    return
                held += 1
                if said := self._held.take(piece):
                    await self._put(self._voice.piece(said))
                    self._sim.delivered(self._request, held)
                    held = 0
            self._reply.check(speech.count)
        except RunnerFailed as error:
            if not self._reply.started:
                raise
            await self._put(self._voice.failed(str(error)))
        else:
            await self._put(self._voice.done(self._usage(speech, begun)))
            self._sim.delivered(self._request, held)
        await self._end()

    async def _end(self) -> None:
        if self._splitter and (rest := self._splitter.rest()):
            await self._reply.send(rest)
        await self._reply.end()

    async def _unterminated(self) -> None:
        """End a stream as Ollama's guard does; one that has no record yet has not got the type of its flavor either."""
        if not self._reply.started:
            await self._reply.start(200, [(b"Content-Type", b"application/x-ndjson")])
        await self._end()

    async def _whole(self, speech: Speech, begun: int) -> None:
        pieces = []
        usage = None
        for produced, piece in enumerate(speech.pieces):
            await self._generate(produced)
            if self._guard.trips(piece.text):
                usage = Usage("", 0, 0, 0, 0, 0, 0)
                break
            if said := self._held.take(piece):
                pieces.append(said)
        self._reply.check(speech.count)
        usage = usage or self._usage(speech, begun)
        if usage.held:
            pieces.append(Piece("content", usage.held))
        kind, body = self._voice.whole(pieces, usage)
        await self._reply.whole(200, kind, body)
        self._sim.delivered(self._request, usage.tokens or len(pieces))

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
        wanted = self._sim.settings.context
        if wanted is None:
            wanted = self._job.prompt_tokens + speech.count
        return Usage(
            reason=speech.reason,
            prompt_tokens=self._job.prompt_tokens,
            tokens=speech.count,
            total=now - self._started,
            load=self._loaded - self._started,
            prompt=max(1, begun - self._loaded),
            eval=max(1, now - begun),
            context=list(range(128_000, 128_000 + wanted)) if self._job.keeps_context else [],
            held=self._held.text,
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
