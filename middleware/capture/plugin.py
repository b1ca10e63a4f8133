"""`capture`: logs prompts and answers, for callers whose policy turns it on.

The text is not in the line of the request but in a separate event, ``content``, with the same ``request_id``. It can
therefore be sent elsewhere, shown to fewer people and kept for a shorter time.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field

from middleware.capture.words import Listener, prompt_of
from proxy.kernel.asgi import ASGIApp, Message, Receive, Scope, Send
from proxy.kernel.caller_text import model_of
from proxy.kernel.clock import Clock
from proxy.kernel.exchange import Exchange
from proxy.kernel.log_lines import FormatName, make_logger
from proxy.kernel.log_sink import LogSink
from proxy.kernel.redaction import Kind, Redaction
from proxy.kernel.route import Route
from proxy.kernel.units import Size

Bound = Annotated[Size, Field(le=8 * 1024)]

MARGIN: Final = 1024
"""Characters gathered beyond a bound, so that a secret at the cut is masked as a whole."""


class Capture:
    """Logs prompts and answers, shortened and with secrets masked. It logs nothing until a policy turns it on.

    Put it below `auth`, and turn it on with `policies: {audited: {capture: {prompt: 2KiB, answer: 2KiB}}}`. Only
    inference requests are logged. To keep the answer, the plugin reads each of its chunks, which no other plugin does.
    This costs a few microseconds a chunk, only for those callers, until the bound is reached.

    Args:
        prompt: how much of the prompt is logged, counted from its end.
        answer: how much of the answer is logged, counted from its beginning.
        redact: what is masked: `keys` (everything that looks like a credential), `emails`, `numbers` (cards, accounts,
            phones), `addresses` (IP).
        shapes: further text that is masked, by its form: `#` stands for a digit, `?` for a letter, as in `EMP-####`.
        format: the format of lines, as in `logging`.
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

    @staticmethod
    def cannot_govern(route: Route, options: Mapping[str, Any]) -> str | None:
        """Return why prompts and answers on `route` would not be logged, or None; see `plugin_lookup.Plugin`."""
        if route.kind != "inference" or not (options.get("prompt") or options.get("answer")):
            return None
        if route.run is None or route.run.operation == "inference":
            return "nobody knows where its requests and answers keep their words"
        speech = route.body == "multipart" and route.run.operation == "transcription"  # it has no prompt to find
        if options.get("prompt") and route.body != "json" and not speech:
            return "its prompts are only found in a JSON body"
        return None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Record the prompt and answer as the options say; pass every other request on unchanged."""
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
        """Keep the part of the prompt to log: the body is released while the request is answered."""
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
    """The captured text of one request: the prompt to log, and the listener of its answer."""

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
