"""A run of an entry says so in its scope."""

from proxy.kernel.stored_run import RUN, StoredRun, stored_run


def test_a_scope_has_the_run_that_it_is() -> None:
    run = StoredRun("1", -10, 5.0, lambda: None)
    assert stored_run({RUN: run}) is run
    assert stored_run({"headers": [(RUN.encode(), b"1")]}) is None
