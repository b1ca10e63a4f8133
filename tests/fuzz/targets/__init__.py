"""The targets, by name. Each module has these.

- ``check(data)``: raises AssertionError, or whatever the code under test should not have raised.
- ``TOKENS``: pieces that its language is made of, for whoever mutates inputs.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Final, Protocol, cast


class Target(Protocol):
    """What a module in this folder offers."""

    TOKENS: Sequence[bytes]

    def check(self, data: bytes) -> None:
        """Raise where something is wrong with how `data` is read."""


NAMES: Final = (
    "answer_parser",
    "authorization",
    "chunked_body",
    "json_edit",
    "json_gate",
    "key_files",
    "log_line",
    "multipart_form",
    "redaction",
    "request_head",
    "stream_ending",
    "yaml_loader",
)


def target(name: str) -> Target:
    """Import one."""
    return cast(Target, import_module(f"tests.fuzz.targets.{name}"))
