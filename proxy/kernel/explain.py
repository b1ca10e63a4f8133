"""How a plugin tells what it would do: the protocol behind ``ollama-proxy explain``."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from proxy.kernel.exchange import Exchange

Verdict = Literal["pass", "refuse", "change", "wait", "skip"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a plugin would do with a request, and why.

    Attributes:
        verdict: "skip" where the plugin has nothing to do with such a request, "change" where it would rewrite it.
        text: the reason, as one sentence for a person; no secrets.
    """

    verdict: Verdict
    text: str


@runtime_checkable
class Explains(Protocol):
    """A plugin that can be asked."""

    async def explain(self, exchange: Exchange) -> Explanation:
        """Say what would happen to this request.

        Nothing is counted, queued or sent. What the plugin would write on the exchange it writes, so that the plugins
        below it are asked about the request that they would see; the inner app is not called.
        """
