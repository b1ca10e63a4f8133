"""proxy/queue/people.py; what it is for is tested with the queue, in test_fair_queue.py."""

from proxy.queue.people import REMEMBERED, PeoplesTurns, Person


def go(turns: PeoplesTurns[str], person: str | None, cost: int, number: int) -> None:
    turns.serve()
    turns.leave(person, cost, number)


def test_the_lowest_turn_is_first_and_of_equals_who_came_first() -> None:
    turns: PeoplesTurns[str] = PeoplesTurns()
    for number, person in enumerate(("ann", "ann", "bob")):
        turns.push(person, 10, number, f"{person} {number}")
    assert turns.first() == "ann 0"
    go(turns, "ann", 10, 0)
    assert turns.first() == "bob 2"
    go(turns, "bob", 10, 2)
    assert turns.first() == "ann 1"


def test_a_debt_is_kept_and_absence_earns_nothing() -> None:
    turns: PeoplesTurns[str] = PeoplesTurns()
    turns.charge("ann", 100)
    turns.push("ann", 10, 0, "ann")
    turns.push("bob", 10, 1, "bob")
    assert turns.first() == "bob"
    turns.leave("bob", 10, 1)
    go(turns, "ann", 10, 0)
    turns.push("cyd", 10, 2, "cyd")
    turns.push("ann", 10, 3, "ann")
    assert turns.first() == "cyd"


def test_what_goes_before() -> None:
    turns: PeoplesTurns[int] = PeoplesTurns()
    assert turns.before("ann", 10, 0) == 0
    for number in range(10):
        turns.push("ann", 10, number, number)
    assert turns.before("ann", 10, 100) == 100
    assert turns.before("bob", 10, 100) == 10
    turns.push("bob", 10, 10, 10)
    assert turns.before("bob", 10, 110) == 30
    assert turns.before("ann", 10, 110) == 110


def test_what_has_left_is_let_go_of() -> None:
    turns: PeoplesTurns[object] = PeoplesTurns()
    for number in range(3 * REMEMBERED):
        turns.push("ann", 1, number, object())
    for number in range(3 * REMEMBERED):
        turns.leave("ann", 1, number)
    assert (len(turns._waiting), len(turns._costs)) == (0, 0)
    assert len(turns._heap) <= REMEMBERED


def test_a_persons_waiters() -> None:
    person: Person[int] = Person("ann")
    person.entries[1] = None
    assert (person.waiting, person.crowding) == (1, 1.0)
