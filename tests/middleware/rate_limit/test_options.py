"""middleware/rate_limit/options.py: what may be written."""

from typing import Any

import pytest
from pydantic import ValidationError

from middleware.rate_limit.options import Limit
from proxy.kernel.units import Rate


def test_a_limit_as_it_is_written() -> None:
    limit = Limit.model_validate(
        {"name": "team", "by": ["tenant", "model"], "requests": ["60/minute", "1000/day"], "tokens": "5/10s"}
    )
    assert limit.by == ("tenant", "model")
    assert limit.requests == (Rate.parse("60/minute"), Rate.parse("1000/day"))
    assert limit.tokens == Rate.parse("5/10s")
    assert limit.on_store_failure == "local"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"name": "Team"},
        {"name": 'te"am'},
        {"name": "team", "by": "user"},
        {"name": "team", "requests": 60},
        {"name": "team", "requests": "60"},
        {"name": "team", "streams": 0},
        {"name": "team", "on_store_failure": "panic"},
        {"name": "team", "bye": "identity"},
    ],
)
def test_what_no_limit_may_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Limit.model_validate(options)
