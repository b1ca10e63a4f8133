"""A request that goes on from an earlier response: who refuses it, and how.

Ollama takes ``previous_response_id`` and answers without what was said before. Whoever can put it in front of the input
does so and takes the member out; a request that still has it at the end of the chain is refused.
"""

from proxy.kernel import error_codes as codes
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.log_lines import clip


def previous_response(exchange: Exchange) -> object:
    """Return what the request says it goes on from; None for nothing, and where the body cannot be read."""
    route = exchange.route
    member = route.run.continues if route is not None and route.run is not None else None
    if member is None or (document := exchange.document) is None:
        return None
    return document.get(member)


def refuse_previous_response(exchange: Exchange) -> None:
    """Raise Refused (404) where the request goes on from a response that nobody has put in front of its input."""
    named = previous_response(exchange)
    if named is not None:
        raise previous_response_not_found(named)


def previous_response_not_found(named: object) -> Refused:
    """Return the error for a response that is not kept; the text is OpenAI's, with what to do."""
    shown = f"'{clip(named, 64)}'" if isinstance(named, str) else "of that kind"
    return Refused(
        404,
        f"Previous response with id {shown} not found: it is unknown here, has expired, or is not yours. Send the "
        "whole conversation in input, without previous_response_id.",
        code=codes.PREVIOUS_RESPONSE_NOT_FOUND,
    )
