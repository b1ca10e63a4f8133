"""proxy/pool/first_round.py."""

import asyncio

from proxy.pool.first_round import FirstRound
from tests.support.options import make_backend


async def test_it_is_over_when_each_was_asked_and_stays_so() -> None:
    one, two, later = (make_backend(name, "http://127.0.0.1:1") for name in ("b1", "b2", "b3"))
    first, heard = FirstRound(), asyncio.Event()
    assert first.over  # nobody asks anything
    first.expect([one, two])
    first.then(heard.set)
    first.ended(one)
    assert (first.pending, first.over, heard.is_set()) == (True, False, False)
    first.ended(two)
    assert (first.pending, first.over, heard.is_set()) == (False, True, True)
    first.expect([later])
    assert (first.pending, first.over) == (True, True)


async def test_who_wants_to_hear_of_what_is_over_hears_at_once_and_once() -> None:
    backend = make_backend("b1", "http://127.0.0.1:1")
    first, heard = FirstRound(), []
    first.expect([backend])
    first.then(lambda: heard.append("early"))
    first.ended(backend)
    first.ended(backend)
    first.then(lambda: heard.append("late"))
    assert heard == ["early", "late"]


async def test_waiting_ends_with_the_round_or_with_enough() -> None:
    one, two = (make_backend(name, "http://127.0.0.1:1") for name in ("b1", "b2"))
    first = FirstRound()
    await first.wait()
    first.expect([one, two])
    known: list[str] = []
    enough = asyncio.create_task(first.wait(lambda: bool(known)))
    whole = asyncio.create_task(first.wait())
    await asyncio.sleep(0)
    known.append("m")
    first.ended(one)
    await enough
    assert not whole.done()
    first.ended(two)
    await whole
