"""The body of one request: read once within its bounds, parsed once, edited, handed out again, and let go of."""

from collections.abc import Mapping
from copy import copy
from time import monotonic
from typing import Any

from proxy.kernel.asgi import Message, Receive, Scope, header, over, without
from proxy.kernel.body_budget import BodyBudget, Holding
from proxy.kernel.body_contents import Contents
from proxy.kernel.body_encoding import ENCODING
from proxy.kernel.body_models import names_in
from proxy.kernel.model_names import ModelName
from proxy.kernel.prompt_size import PromptSize
from proxy.kernel.routes import Match, NoMatch


class RequestBody:
    """What a client sends behind the head of its request.

    Plugins reach it by the exchange, which also asks for their consent before the first byte is read. It knows nothing
    of the exchange: a reference back would be a cycle.

    `reroute` comes first, before anything is asked of it.

    Args:
        scope: of the request; its headers say how the body is encoded, and change where another body is sent instead.
        source: brings what the client sends.
        bodies: the memory that request bodies may take.

    Attributes:
        edition: number of what the body says; another one each time that this may have changed.
        reading: seconds that it took to arrive.
    """

    __slots__ = ("_bytes", "_contents", "_holding", "_match", "_released", "_replay", "_scope", "_source", "edition",
                 "reading")  # fmt: skip

    def __init__(self, scope: Scope, source: Receive, bodies: BodyBudget) -> None:
        self._scope = scope
        self._source = source
        self._holding = Holding(bodies)
        self._match: Match | NoMatch  # `reroute` sets it, and with it what the body says
        self._contents: Contents
        self._bytes: bytes | None = None
        self._released = False
        self._replay = False
        self.edition = 0
        self.reading = 0.0

    def reroute(self, match: Match | NoMatch) -> None:
        """Forget what the body was believed to say: it is the body of another route now."""
        self._match = match
        self._says(Contents(self._bytes or b""))

    # Reading

    @property
    def is_read(self) -> bool:
        """Whether the whole body is here."""
        return self._bytes is not None

    def charge(self, caller: str) -> None:
        """Count the body's memory for `caller` from now on; raises RuntimeError where the body was let go of."""
        if self._released:
            raise RuntimeError("the body was let go of when the answer began")
        if self._bytes is None and isinstance(self._match, Match) and self._match.route.open:
            self._bytes = b""  # it means nothing there, and no stranger's takes up memory
        self._holding.charge(caller)

    async def read(self) -> bytes:
        """Read the whole body, once; raises Refused (400, 408, 413, 429, 503) beyond its bounds and ClientGone.

        `charge` comes first: it says whose memory, and whose work off the event loop, this is.
        """
        if self._bytes is None:
            await self._receive_all()
        contents = self._contents
        if contents.edits:
            self._send_instead(await contents.write_edits(self._holding.caller))
        if contents.unread and isinstance(self._match, Match):
            await contents.read_ahead(self._match, self._scope, self._holding)
            self.edition += 1
        contents.refuse_excess()
        assert self._bytes is not None  # noqa: S101 (it has just been read)
        return self._bytes

    async def _receive_all(self) -> None:
        headers = self._scope["headers"]
        declared = int(header(headers, b"content-length") or 0)
        if declared:
            self._holding.announce(declared)
        began = monotonic()
        self._bytes = body = await self._holding.read(self._source)
        self.reading = monotonic() - began
        self._replay = True
        self._says(Contents(body, encoded=header(headers, ENCODING) is not None))

    async def receive(self) -> Message:
        """Return the next message from the client, for a body that is passed on as it comes."""
        return await self._source()

    def rewind(self) -> None:
        """Hand out a body that was read from its beginning, for another attempt."""
        self._replay = self._bytes is not None

    def begins_again(self) -> bool:
        """Return whether the whole body is to be handed out now; True once after it was read, changed or rewound."""
        again, self._replay = self._replay, False
        return again

    # What it says

    async def json(self) -> dict[str, Any]:
        """Return a body that was read as a JSON object; raises Refused, see `Exchange.json`."""
        return await self._contents.checked_document(self._holding.caller)

    async def names(self) -> dict[str, str]:
        """Return the models that a body names which was read, by their places; raises Refused, see `Exchange.names`."""
        match = self._match
        if not isinstance(match, Match):
            return {}
        if match.route.body == "json":
            return names_in(match, await self.json(), b"", self._scope)
        contents = self._look()
        contents.refuse_flaw()
        return dict(contents.names)

    @property
    def document(self) -> dict[str, Any] | None:
        """The JSON object in it, None where it was not read, is none, or was let go of."""
        return self._look().document

    @property
    def prompt_size(self) -> PromptSize:
        """How much of the document a model has to read."""
        return self._look().prompt_size

    @property
    def model(self) -> ModelName | None:
        """The model that the request names, as far as it is known by now."""
        return self._look().model

    @property
    def stream(self) -> bool:
        """Whether the caller asked for a stream, by the body or by the route's default."""
        route = self._match.route if isinstance(self._match, Match) else None
        if route is None or route.stream is None:
            return False
        wanted = self._look().stream
        return route.stream if wanted is None else wanted

    def _look(self) -> Contents:
        """Return what the body says, as far as it can be told at once: of one that takes long, `read` finds out."""
        contents, match = self._contents, self._match
        if not contents.known and isinstance(match, Match) and (self.is_read or match.route.body == "none"):
            contents.glance(match, self._scope)
        return contents

    # Changing it

    def put(self, body: bytes) -> None:
        """Send `body` on, unencoded, in place of what the client sent."""
        self._send_instead(body)
        self._says(Contents(body))

    def edit(self, patch: Mapping[str, Any]) -> None:
        """Merge `patch` into a body that `json` returned; see `proxy.kernel.json_edit.edit`."""
        contents = self._contents.edited(patch)
        if not contents.edits:
            self._send_instead(contents.text)
        self._says(contents)

    def _send_instead(self, body: bytes) -> None:
        self._scope["headers"] = without(self._scope["headers"], frozenset({ENCODING}))
        self._bytes = body
        self._replay = True

    def _says(self, contents: Contents) -> None:
        self._contents = contents
        self.edition += 1

    # The end of it

    def release(self) -> None:
        """Let go of the body and of what it says, and give back its memory; model and stream stay known."""
        self._look().release()
        self._bytes = None
        self._released, self._replay = True, False
        self._holding.release()

    def close(self) -> None:
        """Give back the memory, and let go of the client: the request is over."""
        self._holding.release()
        self._source = over

    def for_second_attempt(self, scope: Scope) -> "RequestBody":
        """Return the same body for an attempt that runs beside the first one, with a `scope` of its own.

        Client, bytes, what they say, and their memory are shared. How far a body is handed out, whether it was let go
        of, and every later change are each attempt's own.
        """
        second = copy(self)
        second._scope = scope
        return second

    def __repr__(self) -> str:
        size = "unread" if self._bytes is None else f"{len(self._bytes)} bytes"
        return f"<RequestBody {'released' if self._released else size}, edition {self.edition}>"
