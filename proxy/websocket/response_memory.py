"""The conversations that one socket remembers, by the id of the response that each ends with."""

from collections.abc import Callable

from proxy.kernel.errors import Refused, let_go


class ResponseMemory:
    """Remembers conversations, the latest ones where not all fit.

    Args:
        most: bytes of all conversations.
        hold: accounts for more or fewer bytes; raises Refused where there is no memory, and then none is counted.
    """

    __slots__ = ("_hold", "_known", "_most", "_size")

    def __init__(self, most: int, hold: Callable[[int], None]) -> None:
        self._most = most
        self._hold = hold
        self._size = 0
        self._known: dict[str, bytes] = {}

    def put(self, response_id: str, text: bytes) -> None:
        """Remember the items of a conversation, those of its last response among them: a list in JSON."""
        self._drop(response_id)
        if len(text) > self._most:
            return
        while self._size + len(text) > self._most:
            self._drop(next(iter(self._known)))
        try:
            self._hold(len(text))
        except Refused as refused:
            let_go(refused)
            return
        self._known[response_id] = text
        self._size += len(text)

    def get(self, response_id: str) -> bytes | None:
        """Return the items of the conversation that ends with this response; None where it is not remembered."""
        return self._known.get(response_id)

    def forget(self) -> None:
        """Forget everything."""
        for response_id in list(self._known):
            self._drop(response_id)

    def _drop(self, response_id: str) -> None:
        text = self._known.pop(response_id, None)
        if text is not None:
            self._size -= len(text)
            self._hold(-len(text))
