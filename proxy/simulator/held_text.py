"""The text that Ollama's tool parser holds back: nothing of it is sent before it is known whether it is a tool call."""

from proxy.simulator.generation_job import Piece


class HeldText:
    """Looks at the pieces of one answer, for models whose tool calls are JSON objects.

    Text that begins with a brace is held until its braces are balanced, and with it a tool call that is not complete.

    Args:
        parses: whether there are tools to call; without, nothing is held.

    Attributes:
        text: what is held now.
    """

    def __init__(self, *, parses: bool) -> None:
        self.text = ""
        self._parses = parses

    def take(self, piece: Piece) -> Piece | None:
        """Return what can be sent once `piece` has come; None while it is held."""
        if piece.kind == "tool":
            self.text = ""
            self._parses = False
            return piece
        if piece.kind == "thinking" or not self._parses:
            return piece
        self.text += piece.text
        if not self.text.lstrip().startswith("{"):
            self._parses = not self.text.strip()
            return self._release()
        if self.text.count("{") > self.text.count("}"):
            return None
        self._parses = False
        return self._release()

    def _release(self) -> Piece:
        text, self.text = self.text, ""
        return Piece("content", text)
