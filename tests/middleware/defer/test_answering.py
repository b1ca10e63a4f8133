"""middleware/defer/answering.py."""

import pytest

from middleware.defer.answering import Answering
from proxy.kernel.errors import Refused


def test_a_key_is_held_by_one_request_of_its_owner() -> None:
    answering = Answering()
    with answering.hold("by alice", "k"):
        with answering.hold("by bob", "k"), answering.hold("by alice", "j"), answering.hold("by alice", None):
            pass
        with pytest.raises(Refused) as refused, answering.hold("by alice", "k"):
            pass
        assert (refused.value.status, refused.value.headers) == (409, {"retry-after": "2"})
        with pytest.raises(Refused), answering.hold("by alice", "k"):
            pass
    with pytest.raises(ZeroDivisionError), answering.hold("by alice", "k"):
        raise ZeroDivisionError
    with answering.hold("by alice", "k"):
        pass
