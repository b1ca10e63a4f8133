"""Failures of backends, as dispatch raises them."""

from proxy.kernel.errors import About, ConnectionLost, UpstreamAnswer


def answered(
    status: int,
    *,
    busy: bool = False,
    missing: bool = False,
    about: About = "unknown",
    said: str | None = None,
    at: str | None = None,
) -> UpstreamAnswer:
    """Return an error answer without a body, of the backend named `at`."""
    error = UpstreamAnswer(status, [], b"", busy=busy, missing=missing, about=about, said=said)
    error.backend = at
    return error


def lost(*, sent: bool = True, reused: bool = False) -> ConnectionLost:
    """Return the loss of a connection before any answer."""
    return ConnectionLost("lost", sent=sent, reused=reused)
