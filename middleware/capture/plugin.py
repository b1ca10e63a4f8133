"""`capture`: logs what was asked and answered, for callers whose policy wants it.

The words are not in the line of the request but in an event of their own, ``content``, with the same ``request_id``: so
they can be sent elsewhere, shown to fewer people and kept for a shorter time.
"""

from collections.abc import Awaitable, Sequence
from typing import Annotated, Final

from pydantic import Field

from middleware.capture.words import Listener, prompt_of
from proxy.kernel.asgi import ASGIApp, Message, Receive, Scope, Send
from proxy.kernel.caller_text import model_of
from proxy.kernel.clock import Clock
from proxy.kernel.exchange import Exchange
from proxy.kernel.log_lines import FormatName, make_logger
from proxy.kernel.log_sink import LogSink
from proxy.kernel.redaction import Kind, Redaction
from proxy.kernel.units import Size

Bound = Annotated[Size, Field(le=8 * 1024)]

MARGIN: Final = 1024
"""Characters gathered beyond a bound, so that what is masked is seen before it is cut in two."""


class Capture:
    """Logs prompts and answers, shortened and with secrets masked. As it stands it logs nothing: policies turn it on.

    Put it below `auth`, and turn it on with `policies: {audited: {capture: {prompt: 2KiB, answer: 2KiB}}}`. Only
    requests of inference are logged. Keeping the answer means to look at each of its chunks, which no other plugin
    does; it costs a few microseconds a chunk, for those callers only, until there is enough.

    Args:
        prompt: how much of what was asked is logged, counted from its end.
        answer: how much of the answer is logged, counted from its beginning.
        redact: what is masked: `keys` (whatever looks like a credential), `emails`, `numbers` (cards, accounts,
            phones), `addresses` (IP).
        shapes: further text that is masked, by its form: `#` stands for a digit, `?` for a letter, as in `EMP-####`.
        format: like that of `logging`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        sink: LogSink,
        clock: Clock,
        prompt: Bound | None = None,
        answer: Bound | None = None,
        redact: frozenset[Kind] = frozenset({"keys", "emails", "numbers", "addresses"}),
        shapes: Sequence[str] = (),
        format: FormatName = "json",
    ) -> None:
        self.app = app
        self._prompt = prompt
        self._answer = answer
        self._redact = Redaction(redact, shapes)
        self._log = make_logger(sink, format, now=clock.time)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass on as it is what is not logged."""
        if scope["type"] == "http" and (self._prompt or self._answer):
            exchange = Exchange.of(scope)
            if exchange.route is not None and exchange.route.kind == "inference":
                heard = _Heard(Listener(self._answer + MARGIN) if self._answer else None)
                if self._prompt:
                    exchange.before_body_release(lambda exchange: self._note_prompt(exchange, heard))
                exchange.on_finish(lambda exchange: self._write(exchange, heard))
                if heard.listener is not None:
                    send = _overheard(send, heard.listener)
        return self.app(scope, receive, send)

    def _note_prompt(self, exchange: Exchange, heard: "_Heard") -> None:
        """Take what will be logged of what was asked: the body is not kept while it is answered."""
        prompt = prompt_of(exchange.document or {}, (self._prompt or 0) + MARGIN)
        heard.prompt = self._redact.last(prompt, self._prompt or 0)

    def _write(self, exchange: Exchange, heard: "_Heard") -> None:
        answer = None
        if self._answer and heard.listener is not None:
            answer = self._redact.first(heard.listener.words(), self._answer)
        self._log.info(
            "content",
            logger="ollama_proxy.capture",
            request_id=exchange.id,
            identity=exchange.identity,
            tenant=exchange.tenant,
            policy=exchange.policy,
            model=model_of(exchange),
            outcome=exchange.outcome,
            prompt=heard.prompt,
            answer=answer,
        )


class _Heard:
    """What is gathered of one request: the prompt as it will be logged, and who listens to its answer."""

    __slots__ = ("listener", "prompt")

    def __init__(self, listener: Listener | None) -> None:
        self.listener = listener
        self.prompt: str | None = None


def _overheard(send: Send, listener: Listener) -> Send:
    async def overhear(message: Message) -> None:
        if not listener.full and message["type"] == "http.response.body":
            listener.hear(message.get("body", b""))
        await send(message)

    return overhear
