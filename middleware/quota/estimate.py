"""What a request will probably cost, and what it cost: tokens."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from middleware.quota.options import Estimate
from proxy.exchange import Exchange
from proxy.routes import Route

BYTES_PER_TOKEN: Final = 4
"""Of a JSON request; English text has a little more, most other text, code and JSON's own signs less."""
IMAGE_TOKENS: Final = 768
"""Of one picture; vision models take between 256 and 1,600."""
SMALL: Final = 16 * 1024
"""Bytes of a body in which a picture would not matter."""

_BOUNDS: Final[Mapping[str, str]] = {
    "/v1/chat/completions": "max_tokens",
    "/v1/completions": "max_tokens",
    "/v1/responses": "max_output_tokens",
    "/v1/messages": "max_tokens",
}
"""The member that says how long an answer may be, by route; on Ollama's own routes ``num_predict`` in the options."""


class Expected(NamedTuple):
    """Tokens that a request is expected to use; `total` is bounded, so it may be less than `prompt` and output."""

    prompt: int = 0
    total: int = 0


def expect(route: Route, document: Mapping[str, Any], estimate: Estimate) -> Expected:
    """Return what a request to `route` with the JSON body `document` will use."""
    try:
        size = len(orjson.dumps(document))
    except orjson.JSONEncodeError:  # nested deeper than it writes; no policy that reads bodies lets it come so far
        size = 0
    images = list(_images(document)) if size > SMALL else []
    prompt = (size - sum(map(len, images))) // BYTES_PER_TOKEN + IMAGE_TOKENS * len(images)
    output = estimate.output if route.stream is not None else 0  # the other routes only read: embeddings
    source = document if route.path in _BOUNDS else document.get("options")
    if output and isinstance(source, dict):
        bound = source.get(_BOUNDS.get(route.path, "num_predict"))
        if isinstance(bound, int) and bound > 0:  # nothing and less are no bound
            output = int(bound)
    return Expected(prompt, min(prompt + output, estimate.max))


def used(exchange: Exchange, expected: Expected) -> int:
    """Return the tokens that a finished request counts for.

    What the backend reported; of an answer without a report, one that broke off or whose reader left, the prompt's
    estimate and a token for each chunk that was delivered. Nothing, where no answer came or none but an error.
    """
    usage = exchange.usage
    if usage is None and exchange.gone and exchange.attempts:
        return expected.prompt  # a backend was at it
    if usage is None or exchange.status is None or exchange.status >= 400:
        return 0
    prompt = expected.prompt if usage.tokens_in is None and usage.source == "estimated" else usage.tokens_in
    return (prompt or 0) + (usage.tokens_out or 0)


def _images(document: Mapping[str, Any]) -> Iterator[str]:
    """The pictures in a request of any flavor, each as base64 or URL."""
    yield from _texts(document.get("images"))
    for message in (*_objects(document.get("messages")), *_objects(document.get("input"))):
        yield from _texts(message.get("images"))
        for part in _objects(message.get("content")):
            image = part.get("image_url") or part.get("source")
            if isinstance(image, dict):
                image = image.get("url") or image.get("data")
            if isinstance(image, str):
                yield image


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
