"""proxy/queue/crowds.py."""

from dataclasses import dataclass

from proxy.queue.crowds import _OUTDATED, Crowds


@dataclass(eq=False)
class Crowd:
    waiting: int = 0
    weight: float = 1.0

    @property
    def crowding(self) -> float:
        return self.waiting / self.weight


def come(crowds: Crowds[Crowd], crowd: Crowd, number: int, others: int) -> None:
    crowd.waiting += 1
    crowds.note(crowd, number, others)


def test_the_largest_crowd_for_its_weight() -> None:
    crowds: Crowds[Crowd] = Crowds()
    a, b = Crowd(), Crowd(weight=4.0)
    assert crowds.largest() is None
    for number in range(6):
        come(crowds, a, 2 * number, 2)
        come(crowds, b, 2 * number + 1, 2)
    assert crowds.largest() is a
    a.waiting = 1
    assert crowds.largest() is b
    b.waiting = 0
    assert crowds.largest() is a
    a.waiting = 0
    assert crowds.largest() is None


def test_crowds_are_forgotten() -> None:
    crowds: Crowds[Crowd] = Crowds()
    stays = Crowd()
    come(crowds, stays, 0, 1)
    for number in range(1, 10 * _OUTDATED):
        gone = Crowd()
        come(crowds, gone, number, 1)
        gone.waiting = 0
    assert len(crowds._heap) <= _OUTDATED + 3
    assert crowds.largest() is stays
