"""proxy/kernel/exchange_parts.py."""

from collections.abc import Iterator
from types import MappingProxyType

import pytest

from proxy.kernel.attempts import Usage
from proxy.kernel.exchange import PARTS, Exchange
from proxy.kernel.exchange_parts import Own, Part, Shared
from proxy.testing import make_exchange

UNREAD = {"doubted", "settled"}
"""What only the writer of a part reads."""


def fields(*kinds: type[Part]) -> Iterator[tuple[type[Part], str]]:
    for kind in kinds or PARTS:
        for name in kind.__annotations__:
            yield kind, name


@pytest.mark.parametrize(("kind", "name"), [field for field in fields() if field[1] not in UNREAD])
def test_a_field_is_read_at_the_exchange_and_written_in_its_part(kind: type[Part], name: str) -> None:
    exchange, value = make_exchange(), object()
    assert getattr(exchange, name) == getattr(kind, name)
    setattr(exchange.part(kind), name, value)
    assert getattr(exchange, name) is value
    with pytest.raises(AttributeError):
        setattr(exchange, name, None)
    with pytest.raises(AttributeError):
        object.__setattr__(exchange, name, None)
    assert getattr(make_exchange(), name) == getattr(kind, name)


def test_no_field_is_in_two_parts() -> None:
    names = [name for _, name in fields()]
    assert len(names) == len({*names})


@pytest.mark.parametrize(("kind", "name"), [*fields()])
def test_nothing_begins_as_what_can_be_changed_in_place(kind: type[Part], name: str) -> None:
    unchanging = (type(None), bool, int, float, str, tuple, frozenset, MappingProxyType)
    assert isinstance(getattr(kind, name), unchanging)


@pytest.mark.parametrize("kind", PARTS)
def test_every_part_says_what_a_second_attempt_has_of_it(kind: type[Part]) -> None:
    part = kind()
    second = part.for_second_attempt()
    assert type(second) is kind
    assert (second is part) == issubclass(kind, Shared) != issubclass(kind, Own)
    with pytest.raises(NotImplementedError):
        Part().for_second_attempt()


def test_what_is_shared_is_seen_by_both_as_it_changes() -> None:
    exchange = make_exchange()
    second = exchange.second_attempt()
    for kind in PARTS:
        assert (second.part(kind) is exchange.part(kind)) == issubclass(kind, Shared)
    assert Exchange.of(second.scope) is second
    assert Exchange.of(exchange.scope) is exchange
    second.response_headers.append((b"a", b"b"))
    assert exchange.response_headers == [(b"a", b"b")]


def test_a_record_cannot_be_changed_in_place() -> None:
    usage = Usage(1, 2)
    with pytest.raises(AttributeError):
        usage.tokens_in = 0  # type: ignore[misc]
