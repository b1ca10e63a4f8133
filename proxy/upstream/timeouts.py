"""The time-outs of a request to a backend: one shape, from the policy file to the socket."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from proxy.kernel.errors import Timer

_FIELD_OF: Final = {"connect": "connect", "pool": "connect", "read": "idle", "write": "write"}
"""The name of a time-out of httpx → the name of ours that it means."""


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
        tools: between two bytes of the answer to a request with tools.
        manage: in place of `first_byte` and `idle`, for a request that manages a host.
    """

    connect: float
    load: float
    first_byte: float
    idle: float
    write: float
    total: float
    tools: float
    manage: float

    timer: ClassVar[Timer | None] = None
    """The one timer that `first_byte` and `idle` belong to; None where each is its own."""

    def for_cold(self) -> "Timeouts":
        """Return the time-outs of a request whose model has yet to be loaded."""
        return replace(self, first_byte=self.load)

    def for_tools(self) -> "Timeouts":
        """Return the time-outs of a request with tools."""
        return replace(self, idle=self.tools)

    def for_manage(self) -> "ManageTimeouts":
        """Return the time-outs of a request that manages a host: a pull, a push, an upload."""
        each = self.manage
        return ManageTimeouts(
            connect=self.connect,
            load=each,
            first_byte=each,
            idle=each,
            write=self.write,
            total=self.total,
            tools=self.tools,
            manage=each,
        )

    def get(self, name: str, default: float | None = None) -> float | None:
        """Return one of httpx's time-outs, None for never: httpx's own transports read the extension like a mapping."""
        field = _FIELD_OF.get(name)
        seconds = math.inf if field is None else getattr(self, field)
        return default if seconds == math.inf else seconds

    @staticmethod
    def of(extension: "Timeouts | Mapping[str, float | None] | None") -> "Timeouts":
        """Return the time-outs in the `timeout` extension of a request, which may be the mapping that httpx defines.

        httpx has one time-out for both the response head and what follows it: ``read``.
        """
        if isinstance(extension, Timeouts):
            return extension
        found = {name: value for name, value in (extension or {}).items() if value is not None}
        idle = found.get("read", math.inf)
        return replace(
            NEVER,
            connect=found.get("connect", math.inf),
            first_byte=idle,
            idle=idle,
            write=found.get("write", math.inf),
        )


class ManageTimeouts(Timeouts):
    """The time-outs of a request that manages a host."""

    __slots__ = ()
    timer = "manage"


NEVER: Final = Timeouts(
    connect=math.inf,
    load=math.inf,
    first_byte=math.inf,
    idle=math.inf,
    write=math.inf,
    total=math.inf,
    tools=math.inf,
    manage=math.inf,
)
"""No part may run out of time; `dataclasses.replace` sets the parts that may."""
