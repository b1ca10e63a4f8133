"""proxy/kernel/route.py."""

import pytest

from proxy.kernel.route import Route, Run


@pytest.mark.parametrize(
    ("route", "named"),
    [
        (Route("/x", ("POST",), "inference"), False),
        (Route("/x", ("POST",), "inference", body="json"), False),
        (Route("/x", ("POST",), "inference", body="json", models=("model",)), True),
        (Route("/x", ("POST",), "inference", body="multipart"), True),
        (Route("/x/{model}", ("GET",), "read", model_in_path=True), True),
    ],
)
def test_where_a_model_is_named(route: Route, named: bool) -> None:
    assert route.names_model is named


@pytest.mark.parametrize(
    ("route", "writes"),
    [
        (Route("/x", ("POST",), "inference", stream=None, run=Run("transcription")), True),
        (Route("/x", ("POST",), "inference", stream=False, run=Run("embeddings")), False),
        (Route("/x", ("POST",), "inference", run=Run()), True),
        (Route("/x", ("POST",), "manage", stream=True), True),
        (Route("/x", ("POST",), "read"), False),
    ],
)
def test_what_writes(route: Route, writes: bool) -> None:
    assert route.writes is writes
