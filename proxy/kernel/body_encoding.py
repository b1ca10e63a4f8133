"""Decodes a request's content by its Content-Encoding, as far as Ollama decodes it."""

from typing import Final

import zstandard

from proxy.kernel.asgi import Scope, header_values
from proxy.kernel.body_budget import Holding
from proxy.kernel.errors import Refused
from proxy.kernel.json_bounds import TOO_MUCH
from proxy.kernel.routes import Route
from proxy.kernel.worker_threads import off_loop

ENCODING: Final = b"content-encoding"
LONGEST: Final = 20 * 2**20
"""Largest decoded body, bytes; Ollama reads no more either (``maxDecompressedBodySize``)."""
SPARE: Final = 2**20
"""Bytes that any body may decode to, however few were sent."""
RATIO: Final = 200
"""Further bytes for each byte sent. Conversations decode to 3 to 30 times their size, bombs to thousands."""

_WINDOW: Final = 8 * 2**20  # Ollama's decoder has no more memory either
_QUICK: Final = 64 * 1024
_PIECE: Final = 2**18


async def decoded(body: bytes, scope: Scope, route: Route, holding: Holding) -> bytes:
    """Return `body` as Ollama's handlers read it; the same object where it is not encoded.

    Ollama decompresses zstd on the OpenAI and Anthropic routes that take JSON, and nothing anywhere else. What is more
    than some KiB is unpacked off the event loop, one body of a caller at a time, as each takes a window of megabytes.

    Args:
        body: as the client sent it.
        scope: its headers say how it is encoded.
        route: where it goes.
        holding: where the decompressed bytes are accounted for, and whose they are.

    Raises:
        Refused: 415 for an encoding that Ollama does not undo, 400 for broken zstd, 413 beyond `LONGEST` or beyond what
            `SPARE` and `RATIO` allow, and what `Holding.take` raises.
    """
    encodings = [value for value in header_values(scope["headers"], ENCODING) if value not in (b"", b"identity")]
    if not encodings:
        return body
    if encodings != [b"zstd"] or route.body != "json" or not route.path.startswith("/v1/"):
        raise Refused(415, "send the request body uncompressed: Ollama does not read this Content-Encoding here")
    most = min(LONGEST, SPARE + RATIO * len(body))
    enough = min(most, holding.room)
    try:
        plain = _unpacked(body, min(_QUICK, enough)) if _seems_short(body) else None
        if plain is None:
            plain = await off_loop(holding.caller, _unpacked, body, enough)
    except zstandard.ZstdError:
        raise Refused(400, "the request body is not valid zstd") from None
    if plain is None and enough == most:
        raise _too_long(most)
    holding.take(enough + 1 if plain is None else len(plain))
    return plain or b""


def _seems_short(body: bytes) -> bool:
    """Return whether the zstd head declares a small body; `_unpacked` checks it."""
    try:
        return len(body) <= _QUICK and zstandard.frame_content_size(body) <= _QUICK  # -1 where it does not say
    except zstandard.ZstdError:
        return len(body) <= _QUICK


def _unpacked(body: bytes, most: int) -> bytes | None:
    """Return what `body` is unpacked to, None where that is more than `most` bytes; raises ZstdError."""
    plain = bytearray()
    with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(body, read_across_frames=True) as reader:
        while piece := reader.read(min(_PIECE, most + 1)):
            plain += piece
            if len(plain) > most:
                return None
    return bytes(plain)


def _too_long(most: int) -> Refused:
    if most == LONGEST:
        why = f"Ollama unpacks no more than {LONGEST >> 20} MiB"
    else:
        why = f"it is packed more than {RATIO} to 1"
    return Refused(413, f"the request body cannot be unpacked: {why}; send it uncompressed", code=TOO_MUCH)
