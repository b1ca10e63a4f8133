"""proxy/workers/pause.py."""

from proxy.workers.pause import CALM, LONGEST, Pause


def test_it_doubles_up_to_its_longest_and_begins_anew_after_a_calm_minute() -> None:
    pause = Pause()
    assert [pause.after(1.0) for _ in range(11)] == [
        0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, LONGEST, LONGEST,
    ]  # fmt: skip
    assert [pause.after(CALM), pause.after(CALM - 1)] == [0.1, 0.2]
