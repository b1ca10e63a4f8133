"""The contents of a request's body: its document, the models it names, and why a policy may not depend on it.

A short body is read where somebody asks; one that takes longer is read ahead, off the event loop, as soon as it is
there. Either way it is parsed once.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from proxy.kernel import body_json, json_edit
from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Scope
from proxy.kernel.body_budget import Holding
from proxy.kernel.body_encoding import decoded
from proxy.kernel.body_models import names_in
from proxy.kernel.errors import Refused, let_go
from proxy.kernel.model_names import ModelName
from proxy.kernel.model_names import parse as parse_model
from proxy.kernel.prompt_size import PromptSize
from proxy.kernel.routes import Match
from proxy.kernel.worker_threads import off_loop

LARGE: Final = 64 * 1024
"""Bytes of a body from which on a thread reads it; shorter ones take the event loop a few milliseconds at worst."""
EDITED_LATER: Final = 8 * 1024
"""Bytes of a body from which on a thread edits it: each bracket that an edit steps over takes time."""


class Contents:
    """The contents of one body.

    Args:
        body: as it was sent, or as a plugin wrote it.
        encoded: it has a Content-Encoding, which is undone when it is read ahead.

    Attributes:
        ahead: it has to be read by `read_ahead`; until then nothing is known of it.
        known: it has been read.
        checked: its document is one that a policy may depend on.
        document: the JSON object in it, None where there is none.
        names: the models it names, by their places; empty where that cannot be told.
        model: the one that Ollama prefers.
        stream: its member of that name, None where it is not there or neither true nor false.
        edits: patches that are in the document already, but not in the body.
    """

    __slots__ = ("_flaw", "_length", "_plain", "_sent", "_size", "ahead", "checked", "document", "edits", "known",
                 "model", "names", "stream")  # fmt: skip

    def __init__(self, body: bytes = b"", *, encoded: bool = False) -> None:
        self._plain = body
        self._sent = len(body)
        self._length = 0  # of what the document was read of, without its images
        self._size: PromptSize | None = None
        self._flaw: Refused | None = None
        self.ahead = encoded or len(body) >= LARGE
        self.known = self.checked = False
        self.document: dict[str, Any] | None = None
        self.names: dict[str, str] = {}
        self.model: ModelName | None = None
        self.stream: bool | None = None
        self.edits: list[Mapping[str, Any]] = []

    @property
    def unread(self) -> bool:
        """Return whether `read_ahead` has not read the body yet."""
        return self.ahead and not self.known and self.document is None

    def glance(self, match: Match, scope: Scope) -> None:
        """Find out what a short body says, without asking whether it could be read in another way."""
        if not self.unread:
            self._look(match, scope, self._read)
            self._note()

    async def read_ahead(self, match: Match, scope: Scope, holding: Holding) -> None:
        """Find out what a long or an encoded body says, and whether a policy may depend on it.

        Args:
            match: its route.
            scope: its headers say how it is encoded, and how a form is written.
            holding: see `proxy.kernel.body_encoding.decoded`.
        """
        try:
            self._plain = await decoded(self._plain, scope, match.route, holding)
        except Refused as refused:
            self._found(refused)
        else:
            if len(self._plain) < LARGE:
                self._look(match, scope, self._read_checked)
            else:
                await off_loop(holding.caller, self._look, match, scope, self._read_checked)
        self._note()

    def _look(self, match: Match, scope: Scope, read: Callable[[], object]) -> None:
        """Find the document, by `read`, and the models in it."""
        is_json = match.route.body == "json"
        if is_json and self.document is None:
            try:
                read()
            except Refused as refused:
                self._found(refused)
        if self.document is not None or not is_json:
            try:
                self.names = names_in(match, self.document, self._plain, scope)
            except Refused as refused:
                if self.document is None:  # a JSON body whose model is no text is one all the same
                    self._found(refused)

    def _read(self) -> tuple[bytes, dict[str, Any]]:
        text, document = body_json.read(self._plain, self._sent)
        self.document, self._length = document, len(text)
        if self.ahead:  # now, as this may be in a thread; later it would be on the loop
            self._size = PromptSize.of(document, self._length)
        return text, document

    def _read_checked(self) -> None:
        body_json.check(*self._read())
        self.checked = True

    @property
    def prompt_size(self) -> PromptSize:
        """Return how much of the body a model has to read."""
        if self._size is None and self.document is not None:
            self._size = PromptSize.of(self.document, self._length)
        return self._size or PromptSize()

    def _found(self, flaw: Refused) -> None:
        let_go(flaw)  # it would keep the frames it passed through, and they us
        self._flaw = flaw

    def _note(self) -> None:
        wanted = self.document.get("stream") if self.document is not None else None
        self.stream = wanted if isinstance(wanted, bool) else None
        self.model = parse_model(next(iter(self.names.values()))) if self.names else None
        self.known = True

    async def checked_document(self, caller: str) -> dict[str, Any]:
        """Return the document if Ollama reads it the same way; raises Refused where not, or where there is none.

        Work off the loop is `caller`'s.
        """
        if not self.checked or self.document is None:
            self.refuse_flaw()
            if self.ahead:
                await off_loop(caller, self._read_checked)
            elif self.document is None:
                self._read_checked()
            else:
                body_json.check(self._plain, self.document)
                self.checked = True
        assert self.document is not None  # noqa: S101 (what is checked is one)
        return self.document

    @property
    def unambiguous(self) -> bool:
        """Return whether the document is one that a policy may depend on; a short body is checked for that now."""
        if not self.checked and self.document is not None and not self.ahead and self._flaw is None:
            try:
                body_json.check(self._plain, self.document)
                self.checked = True
            except Refused as refused:
                self._found(refused)
        return self.checked and self.document is not None

    def refuse_excess(self) -> None:
        """Raise where the body holds too much: its model is unknown, so it could escape every slot and limit."""
        if self._flaw is not None and self._flaw.code == codes.BODY_HOLDS_TOO_MUCH:
            self.refuse_flaw()

    def refuse_flaw(self) -> None:
        """Raise the error of the body: a new instance each time, so that it keeps no other object alive."""
        if (flaw := self._flaw) is not None:
            raise Refused(flaw.status, flaw.message, code=flaw.code, headers=flaw.headers)

    def edited(self, patch: Mapping[str, Any]) -> "Contents":
        """Return what the body says with `patch` merged into it; see `proxy.kernel.json_edit.edit`."""
        if not self.checked or self.document is None:
            raise RuntimeError("only a body that was read by json can be edited")
        document = json_edit.merged(self.document, patch)
        if len(self._plain) >= EDITED_LATER:
            after = Contents(self._plain)
            after.edits = [*self.edits, patch]
        else:
            after = Contents(json_edit.edit(self._plain, patch))
        after.document, after.checked = document, True
        after._length, after._size = self._length, self._size
        return after

    async def write_edits(self, caller: str) -> bytes:
        """Return the body with its edits, and let it be what was read."""
        body = self._plain
        for patch in self.edits:
            body = await off_loop(caller, json_edit.edit, body, patch)
        self._plain, self._sent, self.edits = body, len(body), []
        return body

    @property
    def text(self) -> bytes:
        """The body without its Content-Encoding."""
        return self._plain

    def release(self) -> None:
        """Release body and document; the model and the stream that they asked for stay known."""
        self._plain, self.document, self.edits = b"", None, []
        self.known, self.checked = True, False
