"""The parts of an exchange that change while its request runs: a class for each writer.

Everybody reads their fields at the exchange (``exchange.status``), where they can neither be assigned nor changed in
place: they are numbers, texts, tuples, frozen records and read-only mappings. Whoever writes a field needs its part::

    exchange.part(RelayPart).committed = True

and so the class of the part, which nobody imports but the writer that its first line names; tests/test_house.py holds
everybody to that. A part also says what a second attempt beside the first one (`Exchange.second_attempt`) has of it:
the same part (`Shared`), or one of its own (`Own`).

Fields begin as their class says, so that a part costs next to nothing until something is noted in it.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Self

from proxy.kernel.asgi import Send
from proxy.kernel.attempts import Attempt, Failure, Held, Usage
from proxy.kernel.errors import Outcome, ProxyError
from proxy.kernel.model_names import ModelName

NO_CLAIMS: Final[Mapping[str, Any]] = MappingProxyType({})


class Part:
    """What one writer notes of an exchange; a subclass of `Shared` or of `Own`."""

    def for_second_attempt(self) -> Self:
        """Return the part that a second attempt has, which runs beside the one that has this part."""
        raise NotImplementedError


class Shared(Part):
    """A part that both attempts of a request have in common."""

    def for_second_attempt(self) -> Self:
        """Return this very part."""
        return self


class Own(Part):
    """A part of which each attempt has one of its own."""

    def for_second_attempt(self) -> Self:
        """Return a new part, in which nothing is noted."""
        return type(self)()


class FramePart(Shared):
    """Written by `proxy.chain.frame`: what came from the client, what went out to it, and how the request ended.

    Attributes:
        status: of the response, None until it begins.
        bytes_in: bytes of the request body that came.
        bytes_out: bytes of the response body that went out.
        chunks: how many pieces they went out in.
        ended: the response went out to its end.
        ended_at: when the request was over, seconds of the monotonic clock.
        gone: the client left.
        outcome: how the request ended, None while it runs.
        error: what was answered in place of an answer, or cut it off.
        shortcut: the frame's `send`, and what takes a chunk in its place without a task, see `server_extensions`.
    """

    status: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    chunks: int = 0
    ended: bool = False
    ended_at: float | None = None
    gone: bool = False
    outcome: Outcome | None = None
    error: ProxyError | None = None
    shortcut: tuple[Send, Callable[[bytes], bool]] | None = None


class ChainPart(Shared):
    """Written by `proxy.chain.build`: who is still to be asked.

    Attributes:
        before_body: calls the plugins still to come, which may refuse the request before its body is read; its
            argument is the exchange.
    """

    before_body: Callable[[Any], Awaitable[None]] | None = None


class TracingPart(Shared):
    """Written by the plugin `tracing`.

    Attributes:
        trace_id: of the trace that the request belongs to, 32 hexadecimal digits.
    """

    trace_id: str | None = None


class AuthPart(Shared):
    """Written by the plugin `auth`, and by `proxy.ops.explaining` in exchanges that it makes up: who calls.

    Attributes:
        identity: name of the caller.
        tenant: whom the caller belongs to.
        policy: name of the policy that the caller is under.
        claims: of the caller's token.
    """

    identity: str | None = None
    tenant: str | None = None
    policy: str | None = None
    claims: Mapping[str, Any] = NO_CLAIMS


class QueuePart(Own):
    """Written by `proxy.queue.scheduler`; a second attempt does not wait, and takes a slot that is free.

    Attributes:
        queued: seconds that the request has waited for slots.
        queue_position: its place when it began to wait, from 1.
        queue_reason: what it waited for last: its ``turn``, or ``slots`` (of any backend, or of those that could).
        ticket: what the scheduler knows it by, None where it does not queue.
        lease: the slot that it got; dispatch takes it by `Exchange.take_lease`.
    """

    queued: float = 0.0
    queue_position: int | None = None
    queue_reason: str | None = None
    ticket: object | None = None
    lease: Held | None = None


class RetryPart(Shared):
    """Written by the plugin `retry`.

    Attributes:
        asked: the model that the client asked for, where another one stands in for it.
        hurry: seconds until the first byte, while another backend is left to try.
        gave_up: why it tried no further.
        resend: it sends once more what is lost on a kept connection, so that dispatch need not.
    """

    asked: ModelName | None = None
    hurry: float | None = None
    gave_up: str | None = None
    resend: bool = False


class PoolPart(Own):
    """Written by `proxy.pool.pool` and `proxy.pool.need`.

    Attributes:
        need: what the request needs of a backend, and what that was found out from.
        history: the attempts that are over.
    """

    need: object = None
    history: tuple[Attempt, ...] = ()


class BlamePart(Shared):
    """Written by `proxy.pool.blame`, which judges the failures of both attempts together.

    Attributes:
        failed: sends that failed and may be a backend's fault, in order.
        doubted: those of them whose backend is a suspect already.
        settled: those whose fault it was is decided.
    """

    failed: tuple[Failure, ...] = ()
    doubted: frozenset[Failure] = frozenset()
    settled: frozenset[Failure] = frozenset()


class RelayPart(Own):
    """Written by `proxy.relay`: which backend was asked, and what came of it.

    Attributes:
        backend: name of the last one that was asked.
        tried: names of all of them, each once a send.
        attempts: number of sends.
        reason: why it was this backend.
        committed: its answer is the client's from here on, and nothing is tried any more.
        first_byte_at: when the answer began, seconds of the monotonic clock.
        terminated: a stream came to the end that makes it whole.
        usage: tokens, as they were reported or estimated.
    """

    backend: str | None = None
    tried: tuple[str, ...] = ()
    attempts: int = 0
    reason: str | None = None
    committed: bool = False
    first_byte_at: float | None = None
    terminated: bool = False
    usage: Usage | None = None

    def for_second_attempt(self) -> "RelayPart":
        """Return a new part that knows which backends were tried, so that another one is."""
        second = RelayPart()
        second.tried = self.tried
        return second

    def sent_to(self, backend: str, reason: str | None) -> None:
        """Note that the request is sent to `backend`, for that reason."""
        self.backend, self.reason = backend, reason
        self.tried += (backend,)
        self.attempts += 1

    def account_for(self, second: "RelayPart") -> None:
        """Add where the second attempt was sent."""
        self.tried += tuple(name for name in second.tried if name not in self.tried)
        self.attempts += second.attempts

    def take_answer_of(self, second: "RelayPart") -> None:
        """Let what the second attempt got be what the request got; `account_for` adds the rest."""
        self.backend, self.reason = second.backend, second.reason
        self.committed, self.first_byte_at = second.committed, second.first_byte_at
        self.terminated, self.usage = second.terminated, second.usage
