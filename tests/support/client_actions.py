"""What each client program has to show: it streams, it stops, and it says in words what went wrong.

An action runs a program against a proxy with the policy file that ships, in front of a simulated Ollama, and raises
AssertionError with what its user saw instead.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key
from proxy.simulator import Ollama, Request
from proxy.testing import TemporaryProxy, temporary_proxy
from tests.support.client_programs import ROOT, Interpreter, Recipe, Run, Seen, Shell
from tests.support.wire import ask

SHIPPED: Final = (ROOT / "proxy.yaml").read_text("utf-8")
POLICIES: Final = """\
  exhausted:
    rate_limit: {requests: 1/day}
  elsewhere:
    access: {models: [nomic-embed-text]}
"""
"""Further policies: one for a caller who has used up what she may, one for a caller who may not use `MODEL`."""
WRONG_KEY: Final = "op_4fQn0ZrT7LkP_0000000000000000000000000000000"
MODEL: Final = "llama3.2"
"""The model that every recipe names."""
GENERATIONS: Final = frozenset(
    {"/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"}
)
TOKENS: Final = 40
"""Of an answer."""

WORDS: Final[Mapping[str, str]] = {
    "wrong_key": "the API key is not known",
    "refused_model": "is not allowed for policy",
    "rate_limited": "requests per day are used for this identity; try again in",
    "cut": "broke the connection",
}
"""The proxy's words for each kind of error, by action: whoever reads them knows what to do."""


@dataclass
class Scene:
    """A proxy, the host behind it, and the keys of three callers."""

    proxy: TemporaryProxy
    sim: Ollama
    keys: Mapping[str, str]


@asynccontextmanager
async def scene(folder: Path, *, port: int = 0) -> AsyncIterator[Scene]:
    """Run the policy file that ships for three callers: `alice`; `stranger`, who may not use the
    model; `spent`, who spent her limit.

    The one request that used the limit up is the first that the host has seen.
    """
    keys = {}
    for name, policy in (("alice", None), ("stranger", "elsewhere"), ("spent", "exhausted")):
        keys[name], entry = new_key(name, now=0.0, policy=policy)
        add_key(folder / "keys.yaml", entry)
    async with Ollama(tokens=TOKENS, max_tokens=TOKENS, call_tools=False) as sim:
        text = (SHIPPED + POLICIES).replace("http://127.0.0.1:11434", sim.url)
        async with temporary_proxy(text, folder=folder, listen=f"127.0.0.1:{port}", probes=False) as proxy:
            used_up = await ask(
                proxy.address, "POST", "/api/chat", {"model": MODEL}, {"Authorization": f"Bearer {keys['spent']}"}
            )
            assert used_up.status == 200, used_up.body
            yield Scene(proxy, sim, keys)


@dataclass
class Subject:
    """A program, and where it runs.

    Attributes:
        recipe: the program.
        runner: what runs it.
        streams: whether it prints an answer as it comes.
        says: its own words for an action, where it does not show the proxy's.
        env: further variables of its environment.
        patience: seconds until it is given up if it says nothing.
        fails: whether its exit status, or a traceback, tells of an error.
    """

    recipe: Recipe
    runner: Interpreter | Shell
    streams: bool = True
    says: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    patience: float = 100.0
    fails: bool = True

    @property
    def so_far(self) -> int:
        """How many pieces of an answer the host has sent before it pauses, or breaks the connection."""
        return 20 if self.streams else 0

    async def start(self, at: Scene, who: str, *, stop_after: int | None = None) -> Run:
        """Start it for a caller; one who is not known has a wrong key."""
        code = self.recipe.at(at.proxy.url)
        env = {**self.env, "KEY": at.keys.get(who, WRONG_KEY)}
        run = await self.runner.start(code, env, stop_after=stop_after)
        run.patience = self.patience
        return run


async def streams(subject: Subject, at: Scene) -> None:
    """It prints what there is while the host pauses, and all of the answer in the end."""
    pause = at.sim.fault("stall", when=_generates, after=subject.so_far)
    run = await subject.start(at, "alice")
    if subject.streams:
        assert await run.first_text()
        assert at.sim.counters.active == 1, "the answer was over when its first text was printed"
        before = len(run.seen.text)
        pause.release()
        seen = await run.end()
        assert len(seen.text) > before, "nothing more was printed"
    else:
        ending = asyncio.ensure_future(run.end())
        await _until(at, ending, lambda: pause.hits == 1, subject.patience)
        pause.release()
        seen = await ending
        assert seen.text, "nothing was printed"
    assert seen.error is None, seen.error


async def stops(subject: Subject, at: Scene) -> None:
    """The host's generation ends when the user stops the program, whose process lives on if it is an interpreter."""
    settings = at.sim.settings
    settings.tokens = settings.max_tokens = 3000
    settings.token_delay = 0.01
    before = at.sim.counters.cancelled
    run = await subject.start(at, "alice", stop_after=2 if subject.streams else None)
    ending = asyncio.ensure_future(run.end())
    if not subject.streams:
        await _until(at, ending, lambda: at.sim.counters.generating == 1, subject.patience)
        subject.runner.interrupt()
    await ending
    await at.sim.wait_for(lambda: at.sim.counters.active == 0, timeout=10)
    assert at.sim.counters.cancelled == before + 1, "the answer came to its own end"
    assert subject.runner.alive
    settings.tokens = settings.max_tokens = TOKENS
    settings.token_delay = 0.0


async def wrong_key(subject: Subject, at: Scene) -> None:
    """A key that nobody has."""
    _check(subject, "wrong_key", await (await subject.start(at, "nobody")).end())


async def refused_model(subject: Subject, at: Scene) -> None:
    """A model that the caller may not use."""
    _check(subject, "refused_model", await (await subject.start(at, "stranger")).end())


async def rate_limited(subject: Subject, at: Scene) -> None:
    """A limit that is used up for hours, which no retry outwaits."""
    _check(subject, "rate_limited", await (await subject.start(at, "spent")).end())


async def cut(subject: Subject, at: Scene) -> None:
    """A host that breaks the connection in the middle of every answer."""
    at.sim.fault("reset", when=_generates, after=subject.so_far, times=None)
    _check(subject, "cut", await (await subject.start(at, "alice")).end())


ACTIONS: Final[Mapping[str, Callable[[Subject, Scene], Awaitable[None]]]] = {
    "stream": streams,
    "stop": stops,
    "wrong_key": wrong_key,
    "refused_model": refused_model,
    "rate_limited": rate_limited,
    "cut": cut,
}
"""All actions, in the order in which they are tried: `cut` leaves the host broken."""


async def try_all(subject: Subject, at: Scene) -> None:
    """Try every action; an AssertionError or a TimeoutError has the action's name as a note."""
    for name, action in ACTIONS.items():
        try:
            await action(subject, at)
        except (AssertionError, TimeoutError) as error:
            error.add_note(f"action: {name}")
            raise


async def _until(at: Scene, ending: asyncio.Task[Seen], condition: Callable[[], object], patience: float) -> None:
    """Wait until the host is in a state; raises AssertionError if the program ends before."""
    waiting = asyncio.ensure_future(at.sim.wait_for(condition, timeout=patience))
    await asyncio.wait({ending, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        raise AssertionError(f"it ended before it asked for an answer: {(await ending).all[-300:]}")
    await waiting


def _generates(request: Request) -> bool:
    return request.route in GENERATIONS


def _check(subject: Subject, action: str, seen: Seen) -> None:
    words = subject.says.get(action, WORDS[action])
    assert seen.error is not None or not subject.fails, f"it ended well: {seen.all[-300:]!r}"
    assert words in " ".join(seen.all.split()), f"its user reads not {words!r} but {seen.all[-300:]!r}"
