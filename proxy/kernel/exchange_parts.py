"""The parts of an exchange that change while its request runs: one class for each writer.

Any code reads their fields from the exchange (``exchange.status``). There they cannot be assigned, nor changed in
place: they are numbers, texts, tuples, frozen records and read-only mappings. A writer of a field needs its part::

    exchange.part(RelayPart).committed = True

and so the class of the part. Only the writers that its first line names import that class; tests/test_house.py checks
this. The class of a part also decides what a second attempt (`Exchange.second_attempt`) gets: the same part (`Shared`),
or a new one (`Own`).

Class attributes hold the default values, so that a part costs almost nothing until one of its fields is set.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Self

from proxy.kernel.answer_recorder import Recorder, Stop
from proxy.kernel.asgi import Header, Send
from proxy.kernel.attempts import Attempt, Failure, Held, Usage
from proxy.kernel.errors import Outcome, ProxyError, Unterminated, UpstreamError
from proxy.kernel.model_names import ModelName

NO_CLAIMS: Final[Mapping[str, Any]] = MappingProxyType({})


class Part:
    """The fields of one writer; each part is a subclass of `Shared` or of `Own`."""

    def for_second_attempt(self) -> Self:
        """Return the part for a second attempt at the same request."""
        raise NotImplementedError


class Shared(Part):
    """A part that both attempts of a request share."""

    def for_second_attempt(self) -> Self:
        """Return this part itself."""
        return self


class Own(Part):
    """A part that each attempt has for itself."""

    def for_second_attempt(self) -> Self:
        """Return a new part with the default values."""
        return type(self)()


class FramePart(Shared):
    """Written by `proxy.chain.frame` and `proxy.chain.heartbeats`: what came, what went out, and how the request ended.

    Attributes:
        status: the status of the response, None until it begins.
        bytes_in: the bytes of the request body that came.
        bytes_out: the bytes of the response body that went out.
        chunks: the number of chunks of the response body that went out.
        ended: whether the whole response went out.
        ended_at: when the request ended, in seconds of the monotonic clock.
        gone: whether the client left.
        outcome: how the request ended, None while it runs.
        answer_code: the ``x-error-code`` of a response for which no error was raised.
        error: the error that was answered, or that cut the answer off.
        shortcut: the frame's `send`, and a function that writes a chunk without awaiting; see `server_extensions`.
        heartbeats: the number of heartbeats that went out. Where there were any, the client got the status 200.
        beat: sends heartbeats until the response begins. Its arguments are the caller's `send`, the seconds between
            two, and the header fields of the stream. It does nothing where a plugin further out wraps `send`.
        record: lets a recorder see all that is sent to the client, and returns what ends the request; None where the
            response, or heartbeats, began before.
        detached: whether the client left, and the answer went on to be recorded.
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
    answer_code: str | None = None
    shortcut: tuple[Send, Callable[[bytes], bool]] | None = None
    heartbeats: int = 0
    beat: Callable[[Send, float, list[Header]], None] | None = None
    record: Callable[[Recorder], Stop | None] | None = None
    detached: bool = False

    def let_go(self) -> None:
        """Drop what leads to the client, as the request has ended; it would be a cycle."""
        self.shortcut = self.beat = self.record = None


class ChainPart(Shared):
    """Written by `proxy.chain.build`: the plugins to ask before the body is read.

    Attributes:
        before_body: asks the plugins further in, which may refuse the request before its body is read; its argument is
            the exchange.
    """

    before_body: Callable[[Any], Awaitable[None]] | None = None

    async def ask(self, exchange: object) -> None:
        """Ask them about `exchange`; they are asked once."""
        ask, self.before_body = self.before_body, None
        if ask is not None:
            await ask(exchange)


class TracingPart(Shared):
    """Written by the plugin `tracing`.

    Attributes:
        trace_id: the id of the trace that the request belongs to, 32 hexadecimal digits.
    """

    trace_id: str | None = None


class AuthPart(Shared):
    """Written by the plugin `auth`, and by `proxy.ops.explaining` in exchanges that it makes up: the caller.

    Attributes:
        identity: the name of the caller.
        tenant: the tenant that the caller belongs to.
        policy: the name of the caller's policy.
        claims: the claims of the caller's token.
        known_by: how the caller was known; see `proxy.kernel.journal.StoredCaller.method`.
        end_user: the person for whom a trusted caller calls; None where it did not say.
        end_user_in_body: whether the body may name that person; see `Exchange.end_user`.
    """

    identity: str | None = None
    tenant: str | None = None
    policy: str | None = None
    claims: Mapping[str, Any] = NO_CLAIMS
    known_by: str = "none"
    end_user: str | None = None
    end_user_in_body: bool = False


class AccessPart(Shared):
    """Written by the plugin `access`.

    Attributes:
        dropped: what the plugin left out of the request: members of its body, and types of tools.
    """

    dropped: tuple[str, ...] = ()


class DeferPart(Shared):
    """Written by the plugin `defer`.

    Attributes:
        deferred: the id of the journal's entry that the request became, or that it runs; None for neither.
    """

    deferred: str | None = None


class ParametersPart(Shared):
    """Written by the plugin `parameters`.

    Attributes:
        num_ctx: the context, in tokens, that the model shall have, of a request whose API has no place for it; None
            where the request's own body says it, or nothing does.
    """

    num_ctx: int | None = None


class QueuePart(Own):
    """Written by `proxy.queue.scheduler`; a second attempt does not wait, but takes a free slot.

    Attributes:
        queued: the seconds that the request has waited for slots.
        queue_position: its place in the queue when it began to wait, from 1.
        deadline: when the caller needs the whole answer, in seconds of the monotonic clock; None where that is unknown.
        queue_reason: what it waited for last: its ``turn``, or ``slots`` (of any backend, or of those that could).
        ticket: the scheduler's object for the request, None where it does not queue.
        lease: the slot that the request got; dispatch takes it by `Exchange.take_lease`.
    """

    queued: float = 0.0
    queue_position: int | None = None
    queue_reason: str | None = None
    deadline: float | None = None
    ticket: object | None = None
    lease: Held | None = None


class RetryPart(Shared):
    """Written by the plugin `retry`.

    Attributes:
        asked: the model that the client asked for, where another model replaces it.
        hurry: the time-out in seconds for the first byte, while another backend is left to try.
        gave_up: why the plugin stopped retrying.
        patience: the seconds that the request has waited for a backend to come back.
        resend: whether the plugin sends a request that was lost on a kept connection again, so that dispatch does not.
    """

    asked: ModelName | None = None
    hurry: float | None = None
    gave_up: str | None = None
    patience: float = 0.0
    resend: bool = False


class StreamingPart(Shared):
    """Written by the plugin `streaming`; the values here hold where the chain has no such plugin.

    Attributes:
        unterminated: the rule for an answer that ended cleanly at the transport, without its terminator.
        usage_added: whether the request asks for token counts that its client did not ask for, so that the relay takes
            them out of the answer.
    """

    unterminated: Unterminated = "auto"
    usage_added: bool = False


class PoolPart(Own):
    """Written by `proxy.pool.outcome_recorder`, `proxy.pool.request_needs` and `proxy.kernel.retrying`.

    Attributes:
        need: what the request needs of a backend, and the facts that this was derived from.
        history: the attempts that have ended.
    """

    need: object = None
    history: tuple[Attempt, ...] = ()


class BlamePart(Shared):
    """Written by `proxy.pool.blame`, which judges the failures of both attempts together.

    Attributes:
        failed: the failed sends that may be a backend's fault, in order.
        doubted: those whose backend is already suspected.
        settled: those for which it is decided whose fault they are.
    """

    failed: tuple[Failure, ...] = ()
    doubted: frozenset[Failure] = frozenset()
    settled: frozenset[Failure] = frozenset()


class RelayPart(Own):
    """Written by `proxy.relay` and `proxy.kernel.retrying`: the backend that was asked, and its answer.

    Attributes:
        backend: the name of the last backend that got the request.
        tried: the names of the backends that got it, one for each send.
        attempts: the number of sends.
        reason: why the pool chose this backend.
        committed: whether the answer has been committed to the client, so that nothing is retried.
        first_byte_at: when the answer began, in seconds of the monotonic clock.
        terminated: whether the answer's terminator came; None of an answer that needs none, and before its end.
        failure: the error that a whole answer ended with; the client has got it.
        usage: the tokens, reported or estimated.
    """

    backend: str | None = None
    tried: tuple[str, ...] = ()
    attempts: int = 0
    reason: str | None = None
    committed: bool = False
    first_byte_at: float | None = None
    terminated: bool | None = None
    failure: UpstreamError | None = None
    usage: Usage | None = None

    def for_second_attempt(self) -> "RelayPart":
        """Return a new part with the backends that were tried, so that the second attempt uses another one."""
        second = RelayPart()
        second.tried = self.tried
        return second

    def sent_to(self, backend: str, reason: str | None) -> None:
        """Note that the request is sent to `backend`, and why."""
        self.backend, self.reason = backend, reason
        self.tried += (backend,)
        self.attempts += 1

    def account_for(self, second: "RelayPart") -> None:
        """Add the sends of the second attempt."""
        self.tried += tuple(name for name in second.tried if name not in self.tried)
        self.attempts += second.attempts

    def take_answer_of(self, second: "RelayPart") -> None:
        """Make the second attempt's answer that of the request; `account_for` adds its sends."""
        self.backend, self.reason = second.backend, second.reason
        self.committed, self.first_byte_at = second.committed, second.first_byte_at
        self.terminated, self.failure, self.usage = second.terminated, second.failure, second.usage
