"""The error for a request that no route fits."""

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Scope
from proxy.kernel.errors import NotRouted
from proxy.kernel.routes import NoMatch


def not_routed(found: NoMatch, scope: Scope) -> NotRouted:
    """Return the error: 404, 405, or a redirect where the path without its last slash is a route."""
    if found.location is not None:
        # A relative location keeps whatever prefix the caller used.
        location = {"location": "../" + found.location.rpartition("/")[2]}
        return NotRouted(
            301 if scope["method"] in ("GET", "HEAD") else 307, "moved", code=codes.MOVED, headers=location
        )
    if found.allow:
        allow = sorted(found.allow, key=lambda method: method != "HEAD")  # Ollama names HEAD first
        return NotRouted(405, "405 method not allowed", headers={"allow": ", ".join(allow)})
    return NotRouted(404, "404 page not found")
