"""What `retry` changes in an exchange beyond its own part: the backends tried, and what a second attempt found."""

from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import PoolPart, RelayPart


def forget_tried(exchange: Exchange) -> None:
    """Forget the backends that were tried, as another model replaces the one asked for."""
    exchange.part(RelayPart).tried = ()


def account_for(second: Exchange, exchange: Exchange) -> None:
    """Add the sends of the second attempt, which has ended, to those of the request."""
    exchange.part(RelayPart).account_for(second.part(RelayPart))
    exchange.part(PoolPart).history += second.part(PoolPart).history


def take_answer(second: Exchange, exchange: Exchange) -> None:
    """Make the second attempt's answer the answer of the request."""
    exchange.part(RelayPart).take_answer_of(second.part(RelayPart))
    if exchange.committed:
        exchange.release_body()
