"""proxy/membership.py."""

from proxy.kernel.body_budget import BodyBudget, SharedBodyBudget
from proxy.kernel.shared_numbers import SharedNumbers, make_shared
from proxy.membership import BODIES, COLUMNS, CONNECTIONS, Membership, first_generation, make_bodies
from proxy.server.connection_counts import SharedCounts
from proxy.services.alone import Alone
from tests.support.policy import load_text


def test_a_worker_shares_its_bounds_and_one_process_has_them_for_itself() -> None:
    settings = load_text("backends: [{name: a, url: 'http://127.0.0.1:1'}]").settings
    assert settings is not None
    numbers = SharedNumbers(make_shared(2, COLUMNS), rows=2, columns=COLUMNS, row=1)
    membership = Membership(peers=Alone(), ops=None, numbers=numbers, generation=7)
    assert (first_generation(None), first_generation(membership)) == (1, 7)
    shared = make_bodies(settings, membership)
    assert isinstance(shared, SharedBodyBudget)
    assert type(make_bodies(settings, None)) is BodyBudget
    shared.book(5, "a")
    SharedCounts(numbers, CONNECTIONS, b"k").take("b")
    first = SharedNumbers(make_shared(2, COLUMNS), rows=2, columns=COLUMNS, row=0)
    assert first.elsewhere(BODIES) == 0, "another table"
    assert COLUMNS == BODIES + 1
