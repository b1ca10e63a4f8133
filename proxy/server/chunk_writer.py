"""The short way of a chunk out: written as uvicorn's `send` writes it, without a task that has to be woken for it."""

from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def chunk_writer(cycle: RequestResponseCycle) -> Callable[[bytes], bool]:
    """Return what writes one chunk, not empty, of the answer of `cycle`, which has begun.

    It returns whether the client keeps up. Where it does not, the next chunk has to go through `send`, which waits.
    An answer that is not chunked, because a plugin announced a length, has no room for it and fails at its end, as it
    does with `send`.
    """
    flow = cycle.flow
    transport = cycle.transport

    def write(chunk: bytes) -> bool:
        if cycle.chunked_encoding and not cycle.disconnected:
            transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        return not flow.write_paused

    return write
