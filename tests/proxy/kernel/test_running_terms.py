"""Terms of several policies: the largest of each bounds the process."""

from proxy.kernel.running_terms import RunningTerms, joined


def test_joined_terms_allow_what_any_allows() -> None:
    assert joined([]) is None
    assert joined([RunningTerms(3, 10), RunningTerms(5, 2)]) == RunningTerms(5, 10)
