"""Estimates the tokens that a request will use, and that it used."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from proxy.kernel.attempts import Usage
from proxy.kernel.exchange import Exchange
from proxy.kernel.prompt_size import PromptSize
from proxy.kernel.route import Route

BYTES_PER_TOKEN: Final = 4
"""Bytes per token of JSON; English text has a little more, most other text, code and JSON's own signs less."""
IMAGE_TOKENS: Final = 768
"""Tokens of one picture; vision models take between 256 and 1,600."""
AUDIO_BYTES_PER_TOKEN: Final = 2048
"""Bytes per token of a recording: a model hears some seven tokens a second, of 32 KB as WAV and 16 KB as MP3."""

_NOT_RUN: Final = frozenset({"load", "unload"})
"""Ollama's reasons for ending where there was no prompt."""


class Estimate(BaseModel):
    """The tokens that a request reserves until its real number is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    output: Annotated[int, Field(ge=0)] = 1024
    """Tokens expected of an answer where the request sets no bound of its own (`num_predict`, `max_tokens`, …); with
    `0` nothing is reserved for it."""
    max: Annotated[int, Field(ge=1)] = 16384
    """No request reserves more."""


class Expected(NamedTuple):
    """Tokens that a request is expected to use; `total` is bounded, so it may be less than `prompt` and output."""

    prompt: int = 0
    total: int = 0


def expect(route: Route, document: Mapping[str, Any], size: PromptSize, estimate: Estimate) -> Expected:
    """Return what a request to `route` with the JSON body `document`, which is of that `size`, will use."""
    prompt = size.text // BYTES_PER_TOKEN + IMAGE_TOKENS * size.pictures
    output = estimate.output if route.writes else 0
    if output and route.run is not None and route.run.parameters is not None:
        output = route.run.parameters.bound(document) or output
    return Expected(prompt, min(prompt + output, estimate.max))


def expect_unread(size: int, route: Route, estimate: Estimate) -> Expected:
    """Return what a request will use of whose body nothing is known but its `size` in bytes."""
    prompt = size // BYTES_PER_TOKEN
    return Expected(prompt, min(prompt + (estimate.output if route.writes else 0), estimate.max))


def expect_form(size: int, estimate: Estimate) -> Expected:
    """Return what a request with a recording will use, given the bytes of its form."""
    prompt = size // AUDIO_BYTES_PER_TOKEN
    return Expected(prompt, min(prompt + estimate.output, estimate.max))


def usage_of(exchange: Exchange, expected: Expected) -> Usage | None:
    """Return the tokens that a finished request counts for, None for none.

    What the backend reported, a zero included. Of an answer without a report, whole, broken off, or left by its
    reader, the prompt's estimate, and of the text a token for each chunk of a stream or each four bytes of anything
    else. Nothing, where no answer came or none but an error, and where a model was only loaded or unloaded.
    """
    usage, route, answered = exchange.usage, exchange.route, exchange.status is not None and exchange.status < 400
    if exchange.deferred is not None and not exchange.committed:
        return None  # it runs later, and counts then
    if route is None or not (answered or (exchange.gone and exchange.attempts)):
        return None  # in the latter case a backend was at it
    if usage is not None and usage.source == "reported":
        if usage.tokens_in is not None or usage.tokens_out is not None or usage.done_reason in _NOT_RUN:
            return usage
    elif usage is not None:
        return replace(usage, tokens_in=expected.prompt)
    if route.kind != "inference":
        return None
    reason = usage.done_reason if usage is not None else None
    return Usage(expected.prompt, exchange.bytes_out // BYTES_PER_TOKEN if route.writes else None, "estimated", reason)


def used(exchange: Exchange, expected: Expected) -> int:
    """Return how many tokens a finished request counts for."""
    usage = usage_of(exchange, expected)
    return 0 if usage is None else (usage.tokens_in or 0) + (usage.tokens_out or 0)
