"""What the end of a request says about its backend."""

from proxy.errors import ProxyError, UpstreamAnswer, UpstreamError, UpstreamTimeout


def is_failure(error: UpstreamError) -> bool:
    """Whether `error` is a sign that its backend is sick.

    Being full is not (503, maximum pending requests), a model it does not have is not, and a request that took as long
    as one may take in all is not.
    """
    if isinstance(error, UpstreamAnswer):
        return error.status >= 500 and not error.busy
    return not (isinstance(error, UpstreamTimeout) and error.timer == "total")


def word_for(error: BaseException | None) -> str | None:
    """Return what `Attempt.error` says of an attempt that ended with `error`."""
    match error:
        case None:
            return None
        case UpstreamAnswer():
            return "busy" if error.busy else "missing" if error.missing else f"status_{error.status}"
        case ProxyError():
            return error.code
    return "cancelled"
