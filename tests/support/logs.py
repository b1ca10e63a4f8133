"""A log sink that keeps what it gets."""

import json
from typing import Any

from proxy.kernel.log_sink import LogSink


class Lines(LogSink):
    """All lines in order."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []

    def write(self, line: bytes) -> None:
        self.raw.append(line)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw]
