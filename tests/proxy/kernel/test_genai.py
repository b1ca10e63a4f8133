"""proxy/kernel/genai.py."""

import pytest

from proxy.kernel.genai import operation_of
from proxy.kernel.ollama_routes import OLLAMA
from proxy.kernel.route import Route

WELL_KNOWN = {"chat", "text_completion", "embeddings"}


@pytest.mark.parametrize(
    "route", [route for route in OLLAMA if route.kind == "inference"], ids=lambda route: route.path
)
def test_every_route_that_runs_a_model_is_an_operation(route: Route) -> None:
    assert operation_of(route) in WELL_KNOWN | {"transcription"}


@pytest.mark.parametrize(
    "route", [route for route in OLLAMA if route.kind != "inference"], ids=lambda route: route.path
)
def test_no_other_route_is(route: Route) -> None:
    assert operation_of(route) is None


def test_a_route_that_a_policy_file_added() -> None:
    assert operation_of(Route("/v1/images", ("POST",), "inference")) == "inference"
    assert operation_of(None) is None
