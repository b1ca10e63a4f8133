"""Errors that pass are told as such to clients, too: with a status that asks to come again."""

import pytest

from proxy.kernel.error_codes import TABLE, Code
from proxy.kernel.passing_errors import NO_ROOM, NOT_YET


@pytest.mark.parametrize("code", sorted(NOT_YET))
def test_their_statuses_say_that_they_pass(code: Code) -> None:
    assert set(TABLE[code].statuses) <= {429, 502, 503, 504}


def test_a_full_queue_is_one_of_them() -> None:
    assert NO_ROOM < NOT_YET
