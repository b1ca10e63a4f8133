"""The time-outs of a request to a backend: one shape, from the policy file to the socket."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_FIELD_OF: Final = {"connect": "connect", "pool": "connect", "read": "idle", "write": "write"}
"""Which of our time-outs stands for which of httpx's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds that each part of a request to a backend may take; infinite means never.

    Only the policy file has defaults (`config.backends.Timeouts`). `proxy.wiring` makes this object of its settings,
    and the same object travels as the `timeout` extension of an `httpx.Request` to the connection.

    Attributes:
        connect: until a connection is made, with its TLS handshake; where their number is bounded, until one is free.
        load: from the end of the request to the response head, where the model has yet to be loaded.
        first_byte: from the end of the request to the response head.
        idle: between two bytes of the answer, while we read.
        write: while the backend takes nothing of the request.
        total: for the whole answer.
    """

    connect: float = math.inf
    load: float = math.inf
    first_byte: float = math.inf
    idle: float = math.inf
    write: float = math.inf
    total: float = math.inf

    def get(self, name: str, default: float | None = None) -> float | None:
        """Return one of httpx's time-outs, None for never: httpx's own transports read the extension like a mapping."""
        field = _FIELD_OF.get(name)
        seconds = math.inf if field is None else getattr(self, field)
        return default if seconds == math.inf else seconds

    @classmethod
    def of(cls, extension: "Timeouts | Mapping[str, float | None] | None") -> "Timeouts":
        """Return the time-outs in the `timeout` extension of a request, which may be the mapping that httpx defines.

        httpx has one time-out for both the response head and what follows it: ``read``.
        """
        if isinstance(extension, Timeouts):
            return extension
        found = {name: math.inf if value is None else value for name, value in (extension or {}).items()}
        idle = found.get("read", math.inf)
        return cls(
            connect=found.get("connect", math.inf), first_byte=idle, idle=idle, write=found.get("write", math.inf)
        )
