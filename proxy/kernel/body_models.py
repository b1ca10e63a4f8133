"""The places where a request names models. Code that decides by model must look at all of them."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from proxy.kernel.asgi import Scope
from proxy.kernel.body_form import fields
from proxy.kernel.body_json import CONTROL, fold
from proxy.kernel.errors import Refused
from proxy.kernel.route import Route
from proxy.kernel.routes import Match


def model_member(route: Route | None, document: Mapping[str, Any]) -> str:
    """Return the member of a JSON body that names the model that a request runs."""
    members = () if route is None else route.models
    return next((member for member in members if document.get(member)), "model")


def names_in(match: Match, document: Mapping[str, Any] | None, plain: bytes, scope: Scope) -> dict[str, str]:
    """Return the names of models in a request by the place where each stands, the one Ollama prefers first.

    Places are ``path``, the members of a JSON body that the route lists (``model``, ``name``, ``from``, …), and for
    forms ``query`` and ``form``. What Ollama takes for left out (``null``, an empty text) is left out.

    Args:
        match: the route, and what of the path is its argument.
        document: the body where it is JSON.
        plain: the body without its Content-Encoding; looked at for forms only.
        scope: its headers say how a form is written.

    Raises:
        Refused: 400. A name that is not text, a form that cannot be read safely, or one that names two models.
    """
    named = {"path": match.argument} if match.argument is not None and match.route.model_in_path else {}
    if document is not None:
        return named | {place: text for place in match.route.models if (text := _text(document, place))}
    if match.route.body == "multipart":
        query = [value for key, value in parse_qsl(match.target.partition(b"?")[2].decode()) if key == "model"]
        form = [field.value for field in fields(plain, scope) if field.name == "model"]
        if len(query) + len(form) > 1:
            raise Refused(400, "the request names its model twice")
        places = {"query": query, "form": form}
        return named | {place: found[0] for place, found in places.items() if found and found[0]}
    return named


def _text(document: Mapping[str, Any], place: str) -> str:
    value = document.get(place)
    if place not in CONTROL and any(key != place and fold(key) == fold(place) for key in document):
        raise Refused(400, f'the key "{place}" of the request body must be written so, and stand there once')
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise Refused(400, f'"{place}" in the request body must be text')
