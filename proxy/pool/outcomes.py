"""What the end of a request says about its backend."""

from proxy.kernel.errors import ProxyError, UpstreamAnswer, UpstreamError, UpstreamTimeout


def is_failure(error: UpstreamError) -> bool:
    """Whether `error` may be a sign that its backend is sick.

    Being full is not (503, maximum pending requests), a model it does not have is not, an error about the content of
    the request is not, nor is a request that could not be written, or took as long as one may take in all.
    """
    if isinstance(error, UpstreamAnswer):
        return error.status >= 500 and not error.busy and error.about != "request"
    return error.status >= 500 and not (isinstance(error, UpstreamTimeout) and error.timer == "total")


def word_for(error: BaseException | None) -> str | None:
    """Return what `Attempt.error` says of an attempt that ended with `error`."""
    match error:
        case None:
            return None
        case UpstreamAnswer():
            if error.about == "request":
                return "content"
            return "busy" if error.busy else "missing" if error.missing else f"status_{error.status}"
        case ProxyError():
            return error.code
    return "cancelled"
