"""What a request's content is once its Content-Encoding is undone, as far as Ollama would undo it."""

from collections.abc import Callable
from typing import Final

import zstandard

from proxy.asgi import Scope, header_values
from proxy.errors import Refused
from proxy.routes import Route

ENCODING: Final = b"content-encoding"

_WINDOW: Final = 8 * 2**20  # Ollama's decoder has no more memory either
_PIECE: Final = 256 * 1024


def decoded(body: bytes, scope: Scope, route: Route, hold: Callable[[int], None]) -> bytes:
    """Return `body` as Ollama's handlers read it; the same object where it is not encoded.

    Ollama decompresses zstd on the OpenAI and Anthropic routes that take JSON, and nothing anywhere else.

    Args:
        body: as the client sent it.
        scope: its headers say how it is encoded.
        route: where it goes.
        hold: is told of every so many decompressed bytes before they are kept; raises where they are too many.

    Raises:
        Refused: 415 for an encoding that Ollama does not undo, 400 for broken zstd, and what `hold` raises.
    """
    encodings = [value for value in header_values(scope["headers"], ENCODING) if value not in (b"", b"identity")]
    if not encodings:
        return body
    if encodings != [b"zstd"] or route.body != "json" or not route.path.startswith("/v1/"):
        raise Refused(415, "send the request body uncompressed: Ollama does not read this Content-Encoding here")
    pieces: list[bytes] = []
    try:
        with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(body, read_across_frames=True) as reader:
            while piece := reader.read(_PIECE):
                hold(len(piece))
                pieces.append(piece)
    except zstandard.ZstdError as error:
        raise Refused(400, "the request body is not valid zstd") from error
    return b"".join(pieces)
