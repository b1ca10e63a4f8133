"""Multipart forms: what we find is what Go finds. An input is a Content-Type, a line feed, and the body."""

from proxy.kernel.body_form import fields
from proxy.kernel.errors import Refused
from tests.fuzz.oracles import gomultipart

TOKENS = (
    b"multipart/form-data; boundary=b\n",
    b'multipart/form-data; boundary="b"\n',
    b"boundary=b",
    b"boundary*0=b",
    b"--b\r\n",
    b"--b\n",
    b"--b--\r\n",
    b"--b--",
    b"--b \r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b'Content-Disposition: form-data; name="model"',
    b"Content-Disposition: form-data; name=model",
    b'; name="a"',
    b'; filename="x"',
    b'; filename=""',
    b"; name*=utf-8''model",
    b'; name*0="mo"; name*1="del"',
    b"Content-Transfer-Encoding: quoted-printable",
    b"Content-Type: text/plain",
    b"llama3",
    b"=3D",
    b'"',
    b"\\",
    b";",
    b" ",
    b"\t",
    b"\xff",
    b"\x00",
    b"\x0b",
)


def check(data: bytes) -> None:
    """Raise where a form is accepted and Go finds other fields in it, or none."""
    content_type, _, body = data.partition(b"\n")
    try:
        found = fields(body, {"type": "http", "headers": [(b"content-type", content_type)]})
    except Refused as refused:
        assert refused.status in (400, 413)
        return
    for field in found:
        assert body[field.start : field.end] == field.value.encode(), "a field does not stand where it is said to stand"
    try:
        go = gomultipart.read_form(content_type, body)
    except gomultipart.BadForm as error:
        raise AssertionError(f"accepted, and for Go no form: {error}") from error
    ours = [(field.name.encode(), field.value.encode()) for field in found if field.name]
    assert ours == go, f"read as {ours}, and as {go} by Go"
