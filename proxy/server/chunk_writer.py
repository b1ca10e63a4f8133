"""Writing a chunk of a response as uvicorn's `send` writes it, without waking a task."""

from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def chunk_writer(cycle: RequestResponseCycle) -> Callable[[bytes], bool]:
    """Return a function that writes one chunk, not empty, of the response of `cycle`, which has begun.

    The function returns whether the client keeps up. Where it does not, the next chunk has to go through `send`, which
    waits. A response that is not chunked, because a plugin announced a length, does not take the chunk and fails at its
    end, as it does with `send`.
    """
    flow = cycle.flow
    transport = cycle.transport

    def write(chunk: bytes) -> bool:
        if cycle.chunked_encoding and not cycle.disconnected:
            transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        return not flow.write_paused

    return write
