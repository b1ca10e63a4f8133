"""Ollama's guard against a model that loops.

After `LIMIT` pieces that equal the one before but for white space, Ollama stops reading from the model. It then ends
the answer as if it were complete: no final record, no error, and a proper end of the body (llm/server.go).
"""

from typing import Final

LIMIT: Final = 30


class RepeatGuard:
    """Watches the pieces of one answer."""

    def __init__(self) -> None:
        self._last = ""
        self._repeats = 0

    def trips(self, text: str) -> bool:
        """Return whether the answer ends before this piece."""
        text = text.strip()
        self._repeats = self._repeats + 1 if text == self._last else 0
        self._last = text
        return self._repeats > LIMIT
