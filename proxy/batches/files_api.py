"""OpenAI's files, as far as batches need them: uploaded requests, and the results of batches."""

from collections.abc import Mapping
from secrets import token_hex
from typing import Any, Final

from proxy.batches.owned import Owned, behind, named_in_path, terms_for
from proxy.batches.routes import CONTENT, DELETE_FILE, FILE, FILES, UPLOAD
from proxy.kernel import error_codes as codes
from proxy.kernel.acceptance import stored_caller_of
from proxy.kernel.asgi import Header, Send, header, start_response
from proxy.kernel.body_form import FilePart, parts
from proxy.kernel.clock import Clock
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.journal import Entry, Journal, NewEntry, Query
from proxy.kernel.route import Route
from proxy.kernel.stored_request_handler import Handler, page_size, parameters, send_json
from proxy.kernel.worker_threads import off_loop

PIECE: Final = 256 * 1024
"""Bytes that are sent at once."""
_LONGEST_NAME: Final = 255


class FilesApi:
    """Answers the routes of files.

    Args:
        journal: where they are.
        clock: tells the time.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._owned = Owned(journal, "openai")
        self._journal = journal
        self._clock = clock
        self.handlers: Mapping[Route, Handler] = {
            UPLOAD: self._upload,
            FILES: self._list,
            FILE: self._show,
            CONTENT: self._content,
            DELETE_FILE: self._delete,
        }

    async def _upload(self, exchange: Exchange, send: Send) -> None:
        terms = terms_for(exchange)
        uploaded = [entry for entry in await self._owned.all_of(exchange, "file") if entry.meta["purpose"] == "batch"]
        if len(uploaded) >= terms.bounds.files:
            message = f"{len(uploaded)} files of yours are kept, which is as many as may: delete one"
            raise Refused(429, message, code=codes.TOO_MANY_FILES, headers={"retry-after": "60"})
        if header(exchange.scope["headers"], b"content-encoding") is not None:
            raise Refused(415, "a form with a file is read without Content-Encoding: send it as it is")
        body = await exchange.body()
        if len(body) > terms.bounds.size:
            message = f"the upload has {len(body)} bytes, and a file may have {terms.bounds.size}"
            raise Refused(413, message, code=codes.FILE_TOO_LARGE)
        told = await off_loop(exchange.caller, parts, body, exchange.scope)
        files = [part for part in told if isinstance(part, FilePart) and part.name == "file"]
        texts = {part.name: part.value for part in told if not isinstance(part, FilePart)}
        if len(files) != 1:
            raise Refused(400, "the form must have one file, in the part named file", code=codes.INVALID_FILE)
        if texts.get("purpose") != "batch":
            raise Refused(400, "purpose must be batch: no other files are kept here", code=codes.INVALID_FILE)
        (file,) = files
        now = self._clock.time()
        new = NewEntry(
            id=f"file-{token_hex(16)}",
            kind="file",
            caller=stored_caller_of(exchange),
            body=body[file.start : file.end],
            flavor="openai",
            created_at=now,
            expires_at=now + _seconds(texts.get("expires_after[seconds]"), terms.bounds.keep),
            meta={"filename": file.filename[:_LONGEST_NAME], "purpose": "batch", "bytes": file.end - file.start},
        )
        await send_json(send, file_object(await self._owned.add(new)))

    async def _list(self, exchange: Exchange, send: Send) -> None:
        asked = parameters(exchange)
        entries = await self._owned.all_of(exchange, "file")
        if (purpose := asked.get("purpose")) is not None:
            entries = [entry for entry in entries if entry.meta["purpose"] == purpose]
        if asked.get("order") == "asc":
            entries.reverse()
        rest = behind(entries, asked.get("after"))
        page = rest[: page_size(asked.get("limit"), 1000, 1000)]
        await send_json(send, list_object([file_object(entry) for entry in page], more=len(rest) > len(page)))

    async def _show(self, exchange: Exchange, send: Send) -> None:
        await send_json(send, file_object(await self._file(exchange)))

    async def _content(self, exchange: Exchange, send: Send) -> None:
        entry = await self._file(exchange)
        await send_file(send, await self._journal.body(entry.id) or b"", b"application/octet-stream")

    async def _delete(self, exchange: Exchange, send: Send) -> None:
        entry = await self._file(exchange)
        asked = Query(owner=entry.caller.owner, kinds=("batch",), states=("queued", "running"), limit=1000)
        if any(batch.meta.get("input") == entry.id for batch in await self._journal.entries(asked)):
            raise Refused(409, "a batch that has not ended reads its requests from this file", code=codes.FILE_IN_USE)
        await self._journal.delete(entry.id)
        await send_json(send, {"id": entry.id, "object": "file", "deleted": True})

    async def _file(self, exchange: Exchange) -> Entry:
        named = named_in_path(exchange)
        entry = await self._owned.find(exchange, named, "file")
        if entry is None or entry.meta.get("hidden"):
            raise no_such_file(named)
        return entry


def file_object(entry: Entry) -> dict[str, Any]:
    """Return a file as the SDK's type ``FileObject``."""
    return {
        "id": entry.id,
        "object": "file",
        "bytes": entry.meta["bytes"],
        "created_at": int(entry.created_at),
        "expires_at": int(entry.expires_at),
        "filename": entry.meta["filename"],
        "purpose": entry.meta["purpose"],
        "status": "processed",
        "status_details": None,
    }


def list_object(data: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """Return a page of a list of OpenAI's."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": more,
    }


def no_such_file(named: str) -> Refused:
    """Return the error for a file that the caller does not have."""
    shown = named[:64].encode("unicode_escape").decode()
    return Refused(404, f"No such File object: {shown}", code=codes.NO_SUCH_FILE)


async def send_file(send: Send, body: bytes, kind: bytes) -> None:
    """Answer with the contents of a file, a piece at a time."""
    fields: list[Header] = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await start_response(send, 200, fields)
    for start in range(0, len(body), PIECE):
        await send({"type": "http.response.body", "body": body[start : start + PIECE], "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _seconds(text: str | None, most: float) -> float:
    """Return how long a file is kept: as its client says, and no longer than `most`."""
    if text is None:
        return most
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) > 0):
        raise Refused(400, "expires_after[seconds] is a number of seconds", code=codes.INVALID_FILE)
    return min(float(text), most)
