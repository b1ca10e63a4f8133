"""Who counts as one caller where none may use up, or spoil, what all need."""

from proxy.address import block
from proxy.exchange import Exchange


def caller_of(exchange: Exchange) -> str:
    """Return who called: by identity, of somebody nobody knows by address (IPv6: the /64, which one subscriber owns).

    The two never come out alike.
    """
    return f"by {exchange.identity}" if exchange.identity else f"at {block(exchange.client)}"
