"""Where a network may cut bytes; drawn from the bytes themselves, so that an input alone reproduces a finding."""

import random
import zlib
from collections.abc import Iterator
from typing import Final

BYTEWISE: Final = 160
"""Bytes up to which an input is cut everywhere."""


def dice(data: bytes) -> random.Random:
    """Return a generator that gives the same numbers for the same bytes."""
    return random.Random(zlib.crc32(data))


def pieces(data: bytes, dice: random.Random, most: int = 8) -> list[bytes]:
    """Cut `data` at up to `most` places; no piece is empty."""
    cuts = sorted({dice.randrange(1, len(data)) for _ in range(dice.randint(1, most))}) if len(data) > 1 else []
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if end > start]


def bytewise(data: bytes) -> list[bytes]:
    """Cut `data` everywhere."""
    return [data[at : at + 1] for at in range(len(data))]


def ways(data: bytes) -> Iterator[list[bytes]]:
    """Yield some ways to cut `data`: byte by byte if that is not too many, and at random."""
    if data:
        numbers = dice(data)
        yield bytewise(data) if len(data) <= BYTEWISE else pieces(data, numbers, 60)
        yield pieces(data, numbers)
