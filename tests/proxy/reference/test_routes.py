"""proxy/reference/routes.py."""

from proxy.kernel.ollama_routes import OLLAMA
from proxy.reference.routes import routes_page


def test_every_route_has_its_row() -> None:
    lines = routes_page().splitlines()
    for route in OLLAMA:
        rows = [line for line in lines if line.startswith(f"| `{' '.join(route.methods)} {route.path}` |")]
        assert len(rows) == 1
        assert route.summary in rows[0]
        assert all(f"`{name}`" in rows[0] for name in route.models)


def test_the_places_of_parameters_are_in_it() -> None:
    page = routes_page()
    assert "`num_predict` in `max_tokens`, `max_completion_tokens`" in page
    assert "| `/v1/embeddings` | embeddings | none |" in page
    (chat,) = (line for line in page.splitlines() if line.startswith("| `/api/chat` | chat |"))
    assert chat == "| `/api/chat` | chat | `keep_alive`; `think`; `shift`; `options.…` |"
