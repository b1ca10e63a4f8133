"""middleware/rate_limit/compiled_limits.py."""

import pytest

from middleware.rate_limit.compiled_limits import Rule, rules_of
from middleware.rate_limit.options import Limit
from proxy.kernel.quotas import Level, Quota
from proxy.testing import make_exchange, suppose


def limit(**options: object) -> Limit:
    return Limit.model_validate({"name": "team", "requests": "60/minute", **options})


def test_a_limit_becomes_the_quota_of_a_request() -> None:
    exchange = make_exchange()
    suppose(exchange, tenant="acme")
    rule = Rule("rate_limit", limit(by="tenant", tokens=["5/10s", "900/day"], streams=7), 0.5)
    quota = rule.quota(exchange)
    assert quota.key == "rate_limit/team/tenant=acme"
    assert [window.rate.text for window in quota.requests] == ["60/minute"]
    assert [window.rate.text for window in quota.tokens] == ["5/10s", "900/day"]
    assert quota.streams == 7


def test_the_local_part_is_a_share_but_never_nothing() -> None:
    rule = Rule("rate_limit", limit(tokens=["5/10s", "1/day"], streams=1), 0.5)
    quota = rule.local(Quota("key"))
    assert quota.key == "key"
    assert [window.rate.text for window in quota.requests] == ["30/minute"]
    assert [window.rate.text for window in quota.tokens] == ["2/10s", "1/day"]
    assert quota.tokens[1].calendar == "day"
    assert quota.streams == 1


def test_a_day_and_24_hours_are_two_times() -> None:
    assert len(Rule("rate_limit", limit(tokens=["5/day", "5/24h"]), 0.5).quota(make_exchange()).tokens) == 2


def test_it_says_how_full_a_counter_is() -> None:
    rule = Rule("rate_limit", limit(by=["tenant", "model"], streams=2), 0.5)
    window = rule.quota(make_exchange()).requests[0]
    assert rule.describe(Level(0, "requests", 60, 61, 1.0, window)) == (
        "61 of 60 requests per minute are used for this tenant and model"
    )
    assert rule.describe(Level(0, "streams", 2, 2, 0.0)) == "2 of 2 requests are running for this tenant and model"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ([Limit(name="team")], "team limits nothing: give requests, tokens or streams"),
        ([limit(by=[])], "team: by must name at least one of identity, tenant, address and model"),
        ([limit(), limit()], "two limits are called team"),
        ([limit(requests=["60/minute", "9/60s"])], "team: two rates are for the same time; keep the smaller one"),
        ([limit(tokens=["5/day", "9/hour", "7/day"])], "team: two rates are for the same time; keep the smaller one"),
    ],
)
def test_limits_that_make_no_sense(limits: list[Limit], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rules_of("rate_limit", limits, 0.5)
