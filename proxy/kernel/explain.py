"""The contract of plugins that explain their decision: the protocol behind ``ollama-proxy explain``."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from proxy.kernel.exchange import Exchange

Verdict = Literal["pass", "refuse", "change", "wait", "skip"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision that a plugin would make about a request, and its reason.

    Attributes:
        verdict: "skip" where the plugin has nothing to do with such a request, "change" where it would rewrite it.
        text: the reason, as one sentence for a person; no secrets.
    """

    verdict: Verdict
    text: str


@runtime_checkable
class Explains(Protocol):
    """A plugin that explains its decision."""

    async def explain(self, exchange: Exchange) -> Explanation:
        """Return the decision about this request.

        Count, queue and send nothing, and do not call the inner app. Do write on the exchange as usual, so that the
        plugins below explain the request that they would see.
        """
