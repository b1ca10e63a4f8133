"""proxy/pool/parallel_runs.py."""

from collections import deque
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.pool import parallel_runs
from proxy.pool.parallel_runs import LONGEST, REMEMBERED, ParallelRuns, ParallelRunsByModel, Run


class Host:
    """A runner as Ollama has it, and a queue before it that keeps to what was learned. Time is counted in steps."""

    def __init__(self, parallel: int, *, seed: int = 0, prompt: int = 2, length: tuple[int, int] = (4, 20)) -> None:
        self.parallel = parallel
        self.runs = ParallelRuns()
        self.line: deque[int] = deque()  # when each came, in steps
        self.inside: dict[Run, list[int]] = {}  # steps of prompt and of answer that are left
        self.now = 0
        self.served = self.trials = 0
        self._random = Random(seed)
        self._prompt, self._length = prompt, length

    def send(self) -> None:
        while self.line and (self.runs.room or self.runs.trial_due):
            self.line.popleft()
            run = self.runs.began(self.now, "loaded")
            self.trials += run.trial
            self.inside[run] = [self._random.randint(1, self._prompt), self._random.randint(*self._length)]

    def step(self) -> None:
        self.now += 1
        self.send()
        for run, work in list(self.inside.items())[: self.parallel]:
            if work[0]:
                work[0] -= 1
                if not work[0]:
                    self.runs.answered(run, self.now, streamed=True)
            elif work[1]:
                work[1] -= 1
            else:
                del self.inside[run]
                self.runs.ended(run, self.now)
                self.served += 1
        self.send()

    def busy(self, steps: int, *, clients: int = 8) -> None:
        """Let so many steps pass while each of the clients asks again as soon as it was answered."""
        for _ in range(steps):
            while len(self.line) + len(self.inside) < clients:
                self.line.append(self.now)
            self.step()

    @property
    def unseen(self) -> int:
        """Requests that wait inside the host."""
        return max(0, len(self.inside) - self.parallel)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([1, 2, 4]), st.integers(0, 1000), st.integers(0, 40))
def test_it_comes_to_what_the_host_runs_at_once(parallel: int, seed: int, burst: int) -> None:
    host = Host(parallel, seed=seed)
    host.line.extend([0] * burst)
    host.busy(2500)
    assert host.runs.limit == parallel
    assert host.unseen <= 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]), st.integers(0, 1000), st.booleans())
def test_it_survives_a_host_that_is_restarted_with_another_number(
    before: int, after: int, seed: int, noticed: bool
) -> None:
    host = Host(before, seed=seed)
    host.busy(2500)
    host.parallel = after
    for run in list(host.inside):  # what ran there is cut off
        del host.inside[run]
        host.runs.ended(run, host.now)
    if noticed:
        host.runs.doubt()
    host.busy(6000)
    assert host.runs.limit == after


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000), st.integers(1, 30), st.lists(st.integers(0, 30), max_size=20))
def test_nobody_starves(parallel: int, seed: int, prompt: int, gaps: list[int]) -> None:
    """Whatever was learned, and however long the prompts are: who comes has a turn, and all are served in the end."""
    host = Host(parallel, seed=seed, prompt=prompt)
    for gap in gaps:
        host.line.append(host.now)
        for _ in range(gap):
            host.step()
            assert host.runs.limit is None or host.runs.limit >= 1
            assert not host.line or host.inside
    for _ in range((len(gaps) + 1) * (prompt + 25)):
        host.step()
    assert (host.served, len(host.line), len(host.runs)) == (len(gaps), 0, 0)


def test_one_more_than_the_limit_is_tried_ever_more_rarely_and_never_two() -> None:
    host = Host(2)
    host.busy(1500)
    over = host.served = host.trials = 0
    for _ in range(4000):
        host.busy(1)
        over = max(over, host.unseen)
    assert over == 1
    assert 0 < host.trials <= host.served / LONGEST + 1


def test_long_prompts_that_short_ones_overtake_lower_nothing() -> None:
    """A prompt that takes long looks like a wait, but for those that came later and are answered sooner."""
    runs = ParallelRuns()
    short = runs.began(0.0, "loaded")
    runs.answered(short, 0.0, streamed=True)
    for _ in range(20):
        long = runs.began(0.0, "loaded")
        later = runs.began(0.0, "loaded")
        runs.answered(later, 0.0, streamed=True)
        runs.ended(short, 0.0)
        runs.answered(long, 0.0, streamed=True)
        runs.ended(long, 0.0)
        short = later
    assert runs.limit is None


@pytest.mark.parametrize(("ended", "limit"), [(3.0, None), (6.0, 1)])
def test_a_request_waited_only_if_its_answer_begins_soon_after_the_end_of_another(
    ended: float, limit: int | None
) -> None:
    """Sent at 0, answered at 10: of these it ran for 10 - `ended` at most if it waited."""
    runs = ParallelRuns()
    last = runs.began(0.0, "loaded")
    runs.answered(last, 0.0, streamed=True)
    for number in range(10):
        run = runs.began(10.0 * number, "loaded")
        runs.ended(last, 10.0 * number + ended)
        runs.answered(run, 10.0 * number + 10, streamed=True)
        last = run
    assert runs.limit == limit


def test_answers_in_one_piece_show_that_more_run_but_not_that_one_waited() -> None:
    runs = ParallelRuns()
    for _ in range(20):
        first, second = runs.began(0.0, "loaded"), runs.began(0.0, "loaded")
        for run in (first, second):
            runs.answered(run, 0.0, streamed=False)
            runs.ended(run, 0.0)
    assert runs.limit is None
    runs.limit = 1
    first, second = runs.began(0.0, "loaded"), runs.began(0.0, "loaded")
    runs.answered(second, 0.0, streamed=False)  # while the one that was sent before is not over
    assert runs.limit == 2


def test_who_waits_for_the_model_to_be_loaded_anew_says_nothing() -> None:
    runs = ParallelRuns()
    last = runs.began(0.0, "loaded")
    runs.answered(last, 0.0, streamed=True)
    for _ in range(20):
        run = runs.began(0.0, "cold")
        runs.ended(last, 0.0)
        runs.answered(run, 0.0, streamed=True)
        last = run
    assert runs.limit is None


@pytest.mark.parametrize("left", [False, True])
def test_nothing_is_tried_while_the_runner_may_be_busy_with_one_that_left(left: bool) -> None:
    runs = ParallelRuns()
    runs.limit = 1
    run = runs.began(0.0, "loaded")
    if left:
        runs.left(run)
    assert runs.trial_due is not left
    runs.ended(run, 0.0)
    assert (runs.room, len(runs)) == (True, 0)


def test_what_was_learned_is_remembered_by_model_and_the_rest_forgotten() -> None:
    models = ParallelRunsByModel()
    for number in range(REMEMBERED + 10):
        models.ended(f"m{number}", models.began(f"m{number}", 0.0, "cold"), 0.0)
    assert all(models.of(f"m{number}") is None for number in range(REMEMBERED + 10))
    for number in range(REMEMBERED + 10):
        run = models.began(f"m{number}", 0.0, "cold")
        run.runs.limit = 2
        models.ended(f"m{number}", run, 0.0)
    assert sum(models.of(f"m{number}") is not None for number in range(REMEMBERED + 10)) == REMEMBERED
    kept = models.of(f"m{REMEMBERED + 9}")
    assert kept is not None
    assert kept.room


def test_only_so_many_are_counted_where_an_answer_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_runs, "FARTHEST", 3)
    runs = ParallelRuns()
    runs.limit = 1
    last = [runs.began(0.0, "loaded") for _ in range(10)][-1]
    runs.answered(last, 0.0, streamed=True)
    assert runs.limit == 4
