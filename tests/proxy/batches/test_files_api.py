"""proxy/batches/files_api.py; what its routes do is in tests/live/test_sdk_batches.py."""

from openai.types import FileObject

from proxy.batches.files_api import PIECE, file_object, list_object, no_such_file, send_file
from proxy.testing import call, make_exchange
from tests.support.batches import Bench, lines


async def test_a_file_is_the_sdks_type() -> None:
    bench = Bench()
    await bench.begin(lines("a"))
    entry = await bench.journal.get("file-in")
    assert entry is not None
    found = FileObject.model_validate(file_object(entry), strict=True)
    assert (found.id, found.bytes, found.purpose, found.expires_at) == ("file-in", len(lines("a")), "batch", 1_010_000)


def test_a_page_names_its_ends() -> None:
    page = list_object([{"id": "a"}, {"id": "b"}], more=True)
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("a", "b", True)
    assert list_object([], more=False)["first_id"] is None


def test_a_name_from_a_path_is_shown_as_text() -> None:
    assert no_such_file("a\n" + "b" * 100).message == "No such File object: a\\n" + "b" * 62


async def test_a_file_is_sent_in_pieces() -> None:
    body = b"x" * (2 * PIECE + 1)

    async def app(scope: object, receive: object, send: object) -> None:
        await send_file(send, body, b"application/octet-stream")  # type: ignore[arg-type]

    answer = await call(app, make_exchange("GET", "/v1/files"))
    assert (answer.body, answer.header("content-length")) == (body, str(len(body)))
