import pytest

from config.entries import Entry
from proxy.kernel.units import Mistake


@pytest.mark.parametrize(
    ("written", "entry"),
    [
        ("metrics", Entry("metrics", "metrics")),
        ("acme.redact:Redact", Entry("acme.redact:Redact", "acme.redact:Redact")),
        ({"retry": None}, Entry("retry", "retry", "retry")),
        ({"retry": {"attempts": 3}}, Entry("retry", "retry", "retry")),
        ({"use": "a:B"}, Entry("a:B", "a:B")),
        ({"use": "rate_limit", "name": "burst", "requests": "5/10s"}, Entry("burst", "rate_limit")),
    ],
)
def test_the_three_spellings(written: object, entry: Entry) -> None:
    assert Entry.parse(written) == entry


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (5, "expected a plugin"),
        (None, "expected a plugin"),
        ("", "expected a plugin"),
        ([], "expected a plugin"),
        ({}, "expected a plugin"),
        ({"a": None, "b": None}, "expected a plugin"),
        ({"retry": 3}, "the options of retry must be a mapping"),
        ({"use": 5}, "use and name must be text"),
        ({"use": "a:B", "name": None}, "use and name must be text"),
    ],
)
def test_what_is_no_entry(written: object, message: str) -> None:
    with pytest.raises(Mistake, match=message):
        Entry.parse(written)


def test_where_the_options_stand() -> None:
    assert Entry.parse({"retry": {}}).below(("middleware", 2)) == ("middleware", 2, "retry")
    beside = Entry.parse({"use": "retry", "name": "again"})
    assert beside.below(("middleware", 2)) == ("middleware", 2)
    assert beside.reserved == {"use", "name"}
    assert Entry.parse({"retry": {"name": "an option"}}).reserved == frozenset()
