"""Whether a backend may be silent for long in the middle of an answer, and still be well."""

from proxy.kernel.exchange import Exchange


def may_hold_back(exchange: Exchange) -> bool:
    """Return whether Ollama may send nothing for long between two chunks of the answer to `exchange`.

    With ``tools`` it holds back what may become a tool call, up to a whole call with all its arguments, and says
    nothing while it searches the web. All of its APIs have them in the same member. Also True where the body cannot be
    read here.
    """
    route = exchange.route
    if route is None or route.kind != "inference" or route.body != "json" or not route.writes:
        return False
    document = exchange.document
    return document is None or bool(document.get("tools"))
