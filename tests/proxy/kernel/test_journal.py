"""proxy/kernel/journal.py."""

from dataclasses import replace
from typing import get_args

from proxy.kernel.journal import OVER, State, StoredCaller
from tests.support.journals import row


def test_an_owner_is_an_identity_or_an_address_and_never_confused() -> None:
    owners = [
        StoredCaller(identity="10.0.0.1", client="10.0.0.9").owner,
        StoredCaller(identity="10.0.0.1", client="10.0.0.8").owner,
        StoredCaller(client="10.0.0.1").owner,
        StoredCaller(identity="", client="10.0.0.1").owner,
    ]
    assert owners[0] == owners[1]
    assert len(set(owners)) == 3


def test_an_entry_is_over_where_nothing_more_happens_to_it() -> None:
    entry = row().entry
    over = {state for state in get_args(State) if replace(entry, state=state).over}
    assert over == OVER == set(get_args(State)) - {"queued", "running"}
