"""The guides about several hosts and about retries say what is so."""

import inspect
import re
from pathlib import Path
from typing import Final

import pytest

from middleware.queue import Queue
from middleware.retry.verdicts import Verdict, verdict, why_not
from proxy.app import check
from proxy.kernel.errors import (
    BackendDown,
    BadAnswer,
    ConnectFailed,
    ConnectionLost,
    Timer,
    Truncated,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.kernel.route import Repeat
from proxy.kernel.selection_strategies import STRATEGIES
from proxy.pool import selection
from proxy.pool.health import RAMP_START
from proxy.pool.probes import SOONER
from proxy.services.fair_retry_budget import FairRetryBudget
from proxy.services.system_clock import SystemClock
from proxy.upstream.timeouts import Timeouts
from tests.support.errors import answered
from tests.support.options import health_rules, pool_options
from tests.support.policy import load_text

GUIDES: Final = Path(__file__).parents[2] / "docs" / "guides"
HOSTS: Final = (GUIDES / "several-hosts.md").read_text()
RETRIES: Final = (GUIDES / "retries.md").read_text()
EXAMPLES: Final = re.findall(r"^```yaml\n(.*?)^```$", HOSTS + RETRIES, re.M | re.S)
NEVER: Final = ("never", "never", "never")


def rows(guide: str, first: str) -> list[list[str]]:
    """Return the cells of the table whose first heading is `first`."""
    lines = guide[guide.index(f"| {first} |") :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_policy_file_in_them_is_right(text: str) -> None:
    backends = "" if "backends:" in text else 'backends: [{name: gpu-1, url: "http://127.0.0.1:11434"}]\n'
    check(load_text(backends + text))


# What is retried


def late(*timers: Timer) -> list[UpstreamError]:
    return [UpstreamTimeout("late", timer=timer, sent=True) for timer in timers]


LOST: Final = ConnectionLost("lost", sent=True, reused=False)
FAILURES: Final[dict[str, list[UpstreamError]]] = {
    "got nothing of the request": [ConnectFailed("refused"), ConnectionLost("lost", sent=False, reused=True)],
    "closed the connection without an answer": [LOST],
    "went down while the request waited for its first byte": [BackendDown("down")],
    "is full (503, maximum pending requests)": [answered(503, busy=True)],
    "gave an error about the content of the request": [answered(500, about="request"), answered(502, about="request")],
    "answered 502, 503 or 504": [answered(502), answered(503), answered(504)],
    "answered 500, or 404 for a model it had": [answered(500), answered(404, missing=True)],
    "answered what is no HTTP, or nothing at all": [BadAnswer("junk", sent=True, received=True)],
    "was too slow (load, first byte, write)": late("load", "first_byte", "write"),
    "let the time for the whole request run out": late("total"),
    "broke off an answer that had begun": [Truncated("cut")],
    "answered 400, 401, 403, …": [answered(400), answered(401), answered(403)],
}
NOTED: Final = "ended its answer with [an error in a 200](streaming.md#how-a-stream-ends)"
"""An error that is noted and never raised, as the client has it: there is nothing to decide."""
WORDS: Final = {Verdict.NO: "never", Verdict.ELSEWHERE: "elsewhere", Verdict.ANYWHERE: "again"}
KINDS: Final[tuple[Repeat, ...]] = ("safe", "costly", "never")


def test_the_table_of_what_is_retried_is_the_code() -> None:
    table = {name: tuple(cells) for name, *cells in rows(RETRIES, "the backend")}
    assert table.keys() == {*FAILURES, NOTED}
    assert table[NOTED] == NEVER
    for name, errors in FAILURES.items():
        for repeat, cell in zip(KINDS, table[name], strict=True):
            first, _, _ = cell.partition(", once in all")
            assert {WORDS[verdict(repeat, [error])] for error in errors} == {first}, (name, repeat)
            if ", once in all" in cell:
                again = ConnectionLost("lost", sent=True, reused=False)
                again.spent = True  # as proxy/pool/blame.py says of the second loss
                assert verdict(repeat, [*errors, again]) is Verdict.NO


def test_the_words_for_giving_up_are_all_there() -> None:
    source = (GUIDES.parents[1] / "middleware" / "retry" / "plugin.py").read_text()
    words = {*re.findall(r"gave_up = (.*)", source), *re.findall(r"return (.*)", inspect.getsource(why_not))}
    assert set(re.findall(r'"(\w+)"', " ".join(words))) == set(
        re.findall(r"`(\w+)`", RETRIES.partition("sent again: ")[2].partition(". Each")[0])
    )


def test_what_the_budget_saves_up() -> None:
    budget = FairRetryBudget(SystemClock())
    assert (budget._ceiling, budget._reserve, budget._floor) == (100.0, 10.0, 1.0)
    assert "up to a hundred saved" in RETRIES
    assert "one a second is added in any case, up to ten" in RETRIES


# Several hosts


def test_every_selection_strategy_is_in_it() -> None:
    table = HOSTS.partition("`prefer` decides")[2].partition("\n\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == list(STRATEGIES)
    reference = (GUIDES.parent / "reference" / "configuration.md").read_text()
    for name, text in STRATEGIES.items():
        assert f"- `{name}`: {text}\n" in reference


def test_every_reason_is_in_it() -> None:
    source = "".join((GUIDES.parents[1] / "proxy" / "pool" / name).read_text() for name in ("selection.py", "pool.py"))
    chosen = set(re.findall(r'Choice\(.*, "(\w+)"\)', source)) | set(re.findall(r'return .*, "(\w+)"$', source, re.M))
    said = HOSTS.partition("(`reason`: ")[2].partition(")")[0]
    assert set(re.findall(r"`(\w+)`", said)) == chosen


def test_the_numbers_in_it_are_the_defaults() -> None:
    rules, options = health_rules(), pool_options()
    assert f"`spread_after` requests ({options.spread_after})" in HOSTS
    assert f"in a row ({rules.down_after})" in HOSTS
    assert f"in a row ({rules.eject_after})" in HOSTS
    assert f"`eject.for` ({rules.eject_for:.0f} s" in HOSTS
    assert f"`eject.ramp` ({rules.ramp:.0f} s)" in HOSTS
    assert (RAMP_START, options.eject_share, SOONER) == (0.1, 0.5, 5)
    assert (selection.BOUND, selection.SLACK) == (1.25, 4.0)


def test_the_time_outs_are_those_of_the_code() -> None:
    table = {
        cells[0].strip("`"): cells for cells in rows(HOSTS, "| default") if cells[0].startswith(("`pool.t", "`queue"))
    }
    assert {name.rpartition(".")[2] for name in table if name.startswith("pool")} == set(Timeouts.__slots__)
    seconds = {"2 s": 2, "10 min": 600, "2 min": 120, "30 s": 30, "1 h": 3600}
    for name, (_, default, _, answer) in table.items():
        timer = name.rpartition(".")[2]
        if name == "queue.wait":
            assert default == "60 s"
            assert _default(Queue, "wait") == 60
            continue
        if default in seconds:
            assert seconds[default] == getattr(pool_options().timeouts, timer)
        timer = "idle" if timer == "tools" else timer  # it is a longer time of that timer
        error = UpstreamTimeout("late", timer=timer)  # type: ignore[arg-type]
        assert f"`{error.code}`" in answer
        status = re.match(r"\d+", answer)
        assert status is None or int(status[0]) == error.status


def _default(plugin: type, option: str) -> object:
    return plugin.__init__.__kwdefaults__[option]  # type: ignore[misc]
