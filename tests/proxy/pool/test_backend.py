"""proxy/pool/backend.py."""

from math import inf

import pytest

from proxy.pool.backend import Backend, compare
from tests.support.options import health_rules, make_backend


def backend(name: str = "a", **more: object) -> Backend:
    return make_backend(name, "http://127.0.0.1:1", **more)


def test_what_it_has() -> None:
    one = backend()
    assert one.has("m") is None
    assert one.has(None) is True
    one.models = {"m": {}}
    assert (one.has("m"), one.has("n")) == (True, False)


def test_what_was_changed_there_it_may_have() -> None:
    one = backend()
    one.models = {"m": {}}
    one.changed_at = 1.0
    assert (one.has("m"), one.has("n")) == (True, None)


def test_what_it_lacks_it_does_not_have() -> None:
    one = backend()
    one.models = {"m": {}, "n": {}}
    one.residency.began("m", (), 0.0)
    one.residency.answered("m")
    one.lacks("m")
    one.lacks("m")
    assert (one.has("m"), one.has("n")) == (False, True)
    assert not one.resident


def test_slots_bound_what_runs() -> None:
    one = backend(slots=2, model_slots={"big": 1})
    assert one.free("big")
    one.residency.began("big", (), 0.0)
    one.active = 1
    assert not one.free("big")
    assert one.free("small")
    one.active = 2
    assert not one.free("small")
    assert one.free(None)
    assert (one.active_by_model["big"], one.loading["big"]) == (1, 1)


def test_failures_count_as_load_for_a_while() -> None:
    one = backend()
    one.active = 2
    assert one.busy(100.0) == 2
    one.failed(100.0)
    assert one.busy(100.0) == 3
    one.failed(100.0)
    assert one.busy(100.0) == 4
    assert one.busy(110.0) == pytest.approx(3)
    one.failed(110.0)
    assert one.busy(110.0) == pytest.approx(4)
    assert one.busy(10_000.0) == 2


@pytest.mark.parametrize("slots", [None, 0, 1, 3])
@pytest.mark.parametrize("per_model", [None, 0, 2])
def test_it_has_places_while_a_slot_is_free(slots: int | None, per_model: int | None) -> None:
    one = backend(slots=slots, slots_per_model=per_model)
    assert (one.places("m") > 0) is one.free("m")
    assert one.places(None) == inf
    one.active += 1
    one.residency.began("m", (), 0.0)
    assert (one.places("m") > 0) is one.free("m")


def test_it_gets_work_by_its_weight_and_less_while_it_comes_back() -> None:
    assert backend(weight=2.0).room(0.0) == 2.0
    back = backend(weight=2.0, rules=health_rules(down_after=1, ramp=10.0))
    back.health.probe_failed(0.0, "refused")
    back.health.probe_succeeded(100.0)
    assert back.room(100.0) == pytest.approx(0.2)
    assert back.room(110.0) == 2.0


def test_who_is_slow_is_told_model_by_model() -> None:
    fast, slow, other = backend("fast"), backend("slow"), backend("other")
    for one, seconds in ((fast, 0.1), (slow, 0.9), (other, 0.5)):
        one.waited("m", seconds, 0.0)
    other.waited("n", 9.0, 0.0)
    compare([fast, slow, other], 1.0)
    assert fast.slowness == {"m": 0.5}
    assert slow.slowness == {"m": pytest.approx(1.8)}
    assert other.slowness == {}  # the mean, and a model that nobody else runs
    assert other.first_byte == pytest.approx(2.2)


def test_noise_and_what_is_long_past_are_held_against_nobody() -> None:
    one, two = backend("one"), backend("two")
    one.waited("m", 0.10, 0.0)
    two.waited("m", 0.12, 0.0)
    compare([one, two], 1.0)
    assert (one.slowness, two.slowness) == ({}, {})
    two.waited("m", 5.0, 0.0)
    compare([one, two], 1.0)
    assert two.slowness == {"m": pytest.approx(2 * 1.096 / 1.196)}
    one.waited("m", 0.1, 400.0)
    compare([one, two], 400.0)
    assert (one.slowness, two.slowness) == ({}, {})
    one.waited("z", 0.0, 400.0)
    two.waited("z", 0.0, 400.0)
    compare([one, two], 400.0)  # nothing to divide by
    compare([], 400.0)


def test_the_same_host_in_other_words() -> None:
    one = backend(slots=2)
    one.active = 1
    one.describe_anew(backend(slots=4, weight=3.0, model_slots={"m": 1}, shown="gpu", headers=[(b"a", b"b")]))
    assert (one.slots, one.weight, one.model_slots, one.shown, one.headers) == (
        4, 3.0, {"m": 1}, "gpu", [(b"a", b"b")],
    )  # fmt: skip
    assert one.active == 1


def test_it_says_how_it_is() -> None:
    one = backend(slots=2)
    one.last_error = "refused"
    assert repr(one) == "<Backend a up (not asked yet), 0 of 2 active, 0 in flight, last error: refused>"
    one.health.request_failed(1.0, "reset")
    one.active, one.leases, one.slots = 1, 3, None
    assert repr(one) == "<Backend a suspect (reset), 1 active, 3 in flight, last error: refused>"


def test_slots_per_model_bound_each_model_by_itself() -> None:
    one = backend(slots=3, slots_per_model=2, model_slots={"big": 1})
    for model, free in (("a", True), ("a", True), ("a", False), ("b", True), ("big", False)):
        assert one.free(model) is free, model
        if free:
            one.residency.began(model, (), 0.0)
            one.active += 1
    assert (one.at_once("a"), one.at_once("big"), backend().at_once("a")) == (2, 1, None)
    one.active = 1
    assert one.free("big")


def test_what_was_learned_bounds_only_what_can_wait() -> None:
    one, named = backend(), backend(slots_per_model=4)
    for host in (one, named):
        host.parallel.began("m", 0.0, "loaded").runs.limit = 1
    assert (one.free("m"), one.free("m", queued=True), one.free("n", queued=True)) == (True, False, True)
    assert one.free("m", queued=True, trial=True)
    assert (one.trial_due("m"), one.trial_due("n")) == (True, False)
    assert named.free("m", queued=True)  # the policy file says how many
    assert (one.at_once("m"), named.at_once("m")) == (1, 4)


@pytest.mark.parametrize(
    ("version", "named", "queued", "free"),
    [
        ("0.32.15", None, True, False),
        ("0.32.15", 4, True, True),
        ("0.32.15", None, False, True),
        (None, None, True, True),  # no Ollama, as far as known
    ],
)
def test_embeddings_of_one_model_are_made_one_request_at_a_time(
    version: str | None, named: int | None, queued: bool, free: bool
) -> None:
    one = backend(model_slots={} if named is None else {"m": named})
    one.version = version
    assert one.free("m", embeds=True, queued=queued)
    one.embedding["m"] += 1
    assert one.free("m", embeds=True, queued=queued) is free
    assert one.free("m", queued=queued)
    assert one.free("n", embeds=True, queued=queued)
    assert one.at_once("m", embeds=True) == (named or (1 if version else None))


def test_a_shared_backend_is_full_when_its_permits_are_used_and_asks_for_what_others_leave() -> None:
    one = make_backend("a", "http://127.0.0.1:1", slots=3, rules=health_rules())
    one.permits, one.elsewhere = 1, 2
    assert one.free("m")
    one.slot_taken()
    assert (one.full, one.free("m")) == (True, False)
    assert not one.free("m", asking="room")
    assert one.free("m", asking="line")
    one.slot_freed()
    assert (one.permits, one.peak) == (1, 1)
    one.slot_taken()
    one.contended = True
    one.slot_freed()
    assert (one.permits, one.active) == (0, 0)
