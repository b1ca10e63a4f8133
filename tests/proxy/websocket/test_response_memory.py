"""What one socket remembers: bounded in bytes, and accounted for."""

from proxy.kernel.errors import Refused
from proxy.websocket.response_memory import ResponseMemory

TEXT = b"[" + b"x" * 100 + b"]"


class Account:
    def __init__(self, room: int = 10_000) -> None:
        self.held, self.room = 0, room

    def hold(self, change: int) -> None:
        if self.held + change > self.room:
            raise Refused(503, "full")
        self.held += change


def test_the_latest_conversations_are_remembered() -> None:
    account = Account()
    size = len(TEXT)
    memory = ResponseMemory(2 * size, account.hold)
    for name in "abc":
        memory.put(name, TEXT)
    assert (memory.get("a"), memory.get("b"), memory.get("c")) == (None, TEXT, TEXT)
    assert account.held == 2 * size
    memory.put("big", b"[" + b"x" * 1000 + b"]")
    assert memory.get("big") is None
    assert memory.get("c") is not None
    memory.forget()
    assert (memory.get("c"), account.held) == (None, 0)


def test_an_id_that_comes_again_stands_for_the_latest() -> None:
    account = Account()
    memory = ResponseMemory(1000, account.hold)
    memory.put("a", b"[1]")
    memory.put("a", b"[1,2]")
    assert memory.get("a") == b"[1,2]"
    assert account.held == len(b"[1,2]")


def test_without_room_nothing_is_remembered() -> None:
    account = Account(room=3)
    memory = ResponseMemory(1000, account.hold)
    memory.put("a", b"[text]")
    assert memory.get("a") is None
    assert account.held == 0
