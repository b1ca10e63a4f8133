"""proxy/server/head_reader.py. What becomes of the bytes says tests/live/test_framing.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.errors import Refused
from proxy.server.head_reader import HeadReader
from proxy.server.request_rules import Head

WHOLE = b"\r\nGET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n"


@given(st.sets(st.integers(1, len(WHOLE) + 4)))
def test_a_head_is_the_same_however_it_was_cut(cuts: set[int]) -> None:
    reader, data = HeadReader(1000, 10), WHOLE + b"behind"
    heads: list[Head] = []
    behind = b""
    ends = [*sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in zip([0, *ends], ends, strict=False):
        if heads:
            behind += data[start:end]
        elif whole := reader.take(data[start:end]):
            heads.append(whole[0])
            behind += whole[1]
    assert heads[0].data == b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
    assert behind == b"behind"
    assert not reader.begun


def test_white_space_is_no_beginning() -> None:
    reader = HeadReader(1000, 10)
    reader.take(b"\r\n")
    assert reader.begun is False
    reader.take(b"G")
    begun = reader.begun
    reader.clear()
    assert (begun, reader.begun) == (True, False)


@pytest.mark.parametrize("cut", [True, False])
def test_a_head_over_its_bounds_is_refused(cut: bool) -> None:
    head = b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20
    for reader in (HeadReader(50, 100), HeadReader(1000, 10)):
        with pytest.raises(Refused) as refused:
            reader.take(head if cut else head + b"\r\n")
        assert refused.value.status == 431
