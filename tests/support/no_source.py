"""The connection of an answer whose bytes a test feeds by hand."""

from proxy.upstream.answer import Source


class NoSource(Source):
    """A connection without a socket: there is nothing to pause, to resume or to close."""

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""
