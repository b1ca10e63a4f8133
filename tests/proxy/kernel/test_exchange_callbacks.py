"""proxy/kernel/exchange_callbacks.py."""

import pytest

from proxy.kernel.exchange_callbacks import Callbacks


def test_a_look_runs_once_and_what_ends_is_handed_out_last_first() -> None:
    callbacks: Callbacks[str] = Callbacks()
    seen: list[str] = []
    callbacks.add_look(seen.append)
    callbacks.look("one")
    callbacks.add_look(seen.append)
    first, last = seen.append, seen.extend
    callbacks.add(first)
    callbacks.add(last)
    assert callbacks.end("two") == [last, first]
    assert seen == ["one", "two"]


def test_nothing_is_registered_after_the_end() -> None:
    callbacks: Callbacks[str] = Callbacks()
    assert callbacks.end("one") == []
    with pytest.raises(RuntimeError, match="finished already"):
        callbacks.add(lambda _: None)
    with pytest.raises(RuntimeError, match="finished already"):
        callbacks.end("one")
