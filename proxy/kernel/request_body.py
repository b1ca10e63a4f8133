"""The body of one request: read once within its bounds, parsed once, edited, handed out again, and released."""

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
    """The body of one request.

    Plugins use it through the exchange, which also asks them before the first byte is read. It has no reference to the
    exchange, as that would be a cycle.

    `reroute` must be called before any other method.

    Args:
        scope: the ASGI scope of the request; its headers give the body's encoding, and change with another body.
        source: receives the client's messages.
        bodies: the memory that request bodies may take.

    Attributes:
        edition: the number of the body's contents; changes each time that they may have changed.
        reading: the seconds that the body took to arrive.
    """

    __slots__ = ("_bytes", "_contents", "_holding", "_match", "_released", "_replay", "_scope", "_source", "edition",
                 "reading")  # fmt: skip

    def __init__(self, scope: Scope, source: Receive, bodies: BodyBudget) -> None:
        self._scope = scope
        self._source = source
        self._holding = Holding(bodies)
        self._match: Match | NoMatch  # `reroute` sets it, and `_contents`
        self._contents: Contents
        self._bytes: bytes | None = None
        self._released = False
        self._replay = False
        self.edition = 0
        self.reading = 0.0

    def reroute(self, match: Match | NoMatch) -> None:
        """Set the route of the body, and forget the contents that were read from it for another route."""
        self._match = match
        self._says(Contents(self._bytes or b""))

    # Reading

    @property
    def is_read(self) -> bool:
        """Whether the whole body was read."""
        return self._bytes is not None

    def charge(self, caller: str) -> None:
        """Count the body's memory for `caller` from now on; raises RuntimeError where the body was released."""
        if self._released:
            raise RuntimeError("the body was let go of when the answer began")
        if self._bytes is None and isinstance(self._match, Match) and self._match.route.open:
            self._bytes = b""  # an open route needs no body: do not keep a stranger's in memory
        self._holding.charge(caller)

    async def read(self) -> bytes:
        """Read the whole body, once; raises Refused (400, 408, 413, 429, 503) beyond its bounds and ClientGone.

        `charge` must be called first: it sets the caller that memory and work off the event loop count for.
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
        """Return the client's next message, for a body that is passed on as it comes."""
        return await self._source()

    def rewind(self) -> None:
        """Hand out a body that was read once more, for another attempt."""
        self._replay = self._bytes is not None

    def begins_again(self) -> bool:
        """Return whether the whole body must be handed out now; True once after it was read, changed or rewound."""
        again, self._replay = self._replay, False
        return again

    # Its contents

    async def json(self) -> dict[str, Any]:
        """Return the body, which was read, as a JSON object; raises Refused, see `Exchange.json`."""
        return await self._contents.checked_document(self._holding.caller)

    async def names(self) -> dict[str, str]:
        """Return the model names in the body, which was read, by place; raises Refused, see `Exchange.names`."""
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
        """The JSON object of the body; None where the body was not read, holds none, or was released."""
        return self._look().document

    @property
    def unambiguous(self) -> bool:
        """Whether Ollama reads the document in the same way; see `Exchange.json`. False where there is none."""
        return self._look().unambiguous

    @property
    def prompt_size(self) -> PromptSize:
        """The size of the part of the document that a model has to read."""
        return self._look().prompt_size

    @property
    def model(self) -> ModelName | None:
        """The model that the request names; None where it is not known yet."""
        return self._look().model

    @property
    def stream(self) -> bool:
        """Whether the request asks for a stream, by its body or by the route's default."""
        route = self._match.route if isinstance(self._match, Match) else None
        if route is None or route.stream is None:
            return False
        wanted = self._look().stream
        return route.stream if wanted is None else wanted

    def _look(self) -> Contents:
        """Return the contents, as far as they can be read at once; `read` reads those of a body that takes long."""
        contents, match = self._contents, self._match
        if contents.known or not isinstance(match, Match):
            return contents
        if self.is_read or match.route.body in ("none", "raw"):
            contents.glance(match, self._scope)
        return contents

    # Changing it

    def put(self, body: bytes) -> None:
        """Replace the client's body by `body`, which has no content encoding."""
        self._send_instead(body)
        self._says(Contents(body))

    def edit(self, patch: Mapping[str, Any]) -> None:
        """Merge `patch` into the body that `json` returned; see `proxy.kernel.json_edit.edit`."""
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

    # Its end

    def release(self) -> None:
        """Release the body and its contents, and give back its memory; `model` and `stream` keep their values."""
        self._look().release()
        self._bytes = None
        self._released, self._replay = True, False
        self._holding.release()

    def close(self) -> None:
        """Give back the memory and drop the reference to the client, as the request has ended."""
        self._holding.release()
        self._source = over

    def for_second_attempt(self, scope: Scope) -> "RequestBody":
        """Return the same body for a second attempt beside the first one, with its own `scope`.

        Both share the client, the bytes, their contents and their memory. The position in the body, its release, and
        later changes are each attempt's own.
        """
        second = copy(self)
        second._scope = scope
        return second

    def __repr__(self) -> str:
        size = "unread" if self._bytes is None else f"{len(self._bytes)} bytes"
        return f"<RequestBody {'released' if self._released else size}, edition {self.edition}>"
