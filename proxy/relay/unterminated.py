"""Decide what becomes of an answer that ended cleanly at the transport, without its terminator.

Ollama ends a generation like this when the model repeats itself: see `proxy.relay.repeat_guard`. So it does, rarely,
when a runner is shut down in order in the middle of an answer. The policy's rule decides (`Exchange.unterminated`):

=========  ====================================================================================================
``auto``   passed on, where the model repeated itself, or may have done so in text that Ollama held back: behind its
           tool parser, behind thoughts, or all of it, which leaves an empty 200. Any other stream is cut.
``pass``   passed on as it came
``error``  cut, as if the backend had died
=========  ====================================================================================================

A pull, a push or a create repeats nothing, and is cut under every rule. So is a stream whose end is only the end of its
connection: nobody can tell whether that end is clean.
"""

from proxy.kernel.exchange import Exchange
from proxy.relay.answer_end import Ending, Tail
from proxy.relay.backend_answer import BackendAnswer
from proxy.upstream.answer import Answer


def terminated(exchange: Exchange, answer: BackendAnswer, ending: Ending) -> bool | None:
    """Return whether the terminator of `answer` came; None where the answer needs none."""
    if answer.status != 200:
        return None
    if answer.streams:
        return ending.terminated
    if not answer.chunk:
        return False if owes_text(exchange) else None
    return None if ending.terminated else False


def owes_text(exchange: Exchange) -> bool:
    """Return whether the answer is to be text of a model, so that an empty 200 lacks its end."""
    route = exchange.route
    return route is not None and route.kind == "inference" and route.writes and exchange.scope["method"] != "HEAD"


def is_passed_on(exchange: Exchange, answer: BackendAnswer, tail: Tail, ending: Ending) -> bool:
    """Return whether `answer`, which ended cleanly without its terminator, is passed on as it came."""
    rule = exchange.unterminated
    if not owes_text(exchange) or rule == "error":
        return False
    if answer.streams and isinstance(answer.stream, Answer) and answer.stream.framing == "close":
        return False
    if rule == "pass" or not answer.streams or not answer.chunk:
        return True
    return ending.boundary and (answer.holds_back or tail.why() != "other")
