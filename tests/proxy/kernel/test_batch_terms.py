"""proxy/kernel/batch_terms.py."""

import json

from proxy.kernel.batch_terms import BatchTerms, batch_terms, set_batch_terms
from tests.support.batches import terms


def test_terms_are_kept_with_a_batch() -> None:
    on = terms(lines=7, at_once=3)
    assert BatchTerms.of_meta(json.loads(json.dumps(on.as_meta()))) == on


def test_terms_are_noted_in_a_scope() -> None:
    scope: dict[str, object] = {}
    assert batch_terms(scope) is None
    on = terms()
    set_batch_terms(scope, on)
    assert batch_terms(scope) is on
