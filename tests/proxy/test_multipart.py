"""proxy/multipart.py."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Refused
from proxy.exchange import Exchange
from proxy.multipart import Field, fields
from tests.support.asgi import make_exchange

TYPE = "multipart/form-data; boundary=b"
PATH = "/v1/audio/transcriptions"


def part(head: str, value: str = "x") -> str:
    return f"--b\r\n{head}\r\n\r\n{value}\r\n"


def field(name: str, value: str = "x") -> str:
    return part(f'Content-Disposition: form-data; name="{name}"', value)


END = "--b--\r\n"
MODEL = field("model", "llama3")


def read(body: str | bytes, *types: str) -> list[Field]:
    scope = make_exchange(path=PATH, headers=[("Content-Type", one) for one in types or (TYPE,)]).scope
    return fields(body if isinstance(body, bytes) else body.encode(), scope)


def test_fields_are_found_where_they_stand() -> None:
    body = (
        MODEL + part('Content-Disposition: form-data; name="file"; filename="model"', "\r\n-b") + field("x", "") + END
    )
    found = read(body)
    assert [(one.name, one.value) for one in found] == [("model", "llama3"), ("x", "")]
    assert all(body[one.start : one.end] == one.value for one in found)


@given(
    st.dictionaries(st.text("abc_ ä", min_size=1, max_size=5), st.text(max_size=20), min_size=1, max_size=4),
    st.binary(max_size=200),
)
def test_reads_what_httpx_writes(data: dict[str, str], audio: bytes) -> None:
    request = httpx.Request("POST", f"http://h{PATH}", data=data, files={"file": ("ä.wav", audio, "audio/wav")})
    found = read(request.read(), request.headers["content-type"])
    assert {one.name: one.value for one in found} == data


@pytest.mark.parametrize(
    "types",
    [
        ("Multipart/Form-Data;boundary=b",),
        ('multipart/form-data; charset=utf-8; boundary="b"',),
        (" multipart/form-data ; BOUNDARY=b ",),
    ],
)
def test_spellings_of_the_content_type(types: tuple[str, ...]) -> None:
    assert read(MODEL + END, *types)[0].value == "llama3"


@pytest.mark.parametrize(
    "body",
    [
        MODEL + "--b--",
        part('content-disposition: FORM-DATA; NAME="model"', "llama3") + END,
        part("Content-Disposition: form-data; name=model", "llama3") + END,
        part('Content-Type: text/plain\r\nContent-Disposition: form-data; name="model"', "llama3") + END,
        part('Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: 8bit', "llama3") + END,
        part('Content-Disposition: form-data; name="model"; filename=""', "llama3") + END,
    ],
)
def test_spellings_of_a_field(body: str) -> None:
    assert [(one.name, one.value) for one in read(body)] == [("model", "llama3")]


@pytest.mark.parametrize(
    "types",
    [
        ("application/json",),
        ("application/x-www-form-urlencoded",),
        ("multipart/mixed; boundary=b",),
        ("multipart/form-data",),
        ("multipart/form-data; boundary=",),
        ("multipart/form-data; boundary=b; boundary=c",),
        ("multipart/form-data; boundary*=utf-8''b",),
        ("multipart/form-data; boundary*0=b",),
        ('multipart/form-data; boundary="b\\""',),
        ("multipart/form-data; boundary=b, multipart/form-data; boundary=c",),
        (TYPE, TYPE),
        (f"multipart/form-data; boundary={'b' * 71}",),
    ],
)
def test_another_content_type_is_refused(types: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as caught:
        read(MODEL + END, *types)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        "",
        END,
        "preamble\r\n" + MODEL + END,
        "\r\n" + MODEL + END,
        MODEL,
        MODEL + "--b",
        MODEL + "--b\r\n",
        MODEL + END + "epilogue",
        MODEL + END + MODEL + END,
        MODEL.replace("\r\n", "\n") + END,
        MODEL.replace("--b\r\n", "--b \r\n") + END,
        MODEL.replace("llama3", "llama3\r\n--bb\r\n") + END,
        MODEL.replace("llama3", "llama3\n--b\n") + END,
        MODEL.replace("llama3", "lla--bma3") + END,
        "--b\r\n\r\nllama3\r\n" + END,
        "--b\r\n" + END,
        part("X: y") + END,
        part('Content-Disposition: attachment; name="model"') + END,
        part("Content-Disposition: form-data") + END,
        part('Content-Disposition: form-data; filename="x"') + END,
        part('Content-Disposition: form-data; name="a"; name="model"') + END,
        part("Content-Disposition: form-data; name*=utf-8''model") + END,
        part('Content-Disposition: form-data; name*0="mo"; name*1="del"') + END,
        part('Content-Disposition: form-data; name="a\\"; x="') + END,
        part('Content-Disposition: form-data; name="model"; other="x"') + END,
        part('Content-Disposition: form-data; name="model"; filename*=x') + END,
        part('Content-Disposition: form-data; name="model";') + END,
        part('Content-Disposition: form-data name="model"') + END,
        part('Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="model"') + END,
        part('Content-Disposition : form-data; name="model"') + END,
        part('Content-Disposition:\r\n form-data; name="model"') + END,
        part('Content-Disposition: form-data;\r\n name="model"') + END,
        part('Content-Disposition: form-data; name="model"\nX: y') + END,
        part('Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: quoted-printable') + END,
        part('Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: base64') + END,
        part('Content-Disposition: form-data; name="mo\x00del"') + END,
        part(f'Content-Disposition: form-data; name="model"\r\nX: {"x" * 20000}') + END,
        field("model", "x" * 70000) + END,
        field("model").encode() + b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\xff\r\n--b--",
        b'--b\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--b--',
    ],
)
def test_what_two_readers_might_see_differently_is_refused(body: str | bytes) -> None:
    with pytest.raises(Refused) as caught:
        read(body)
    assert caught.value.status == 400
    assert "cannot be read safely" in caught.value.message


async def test_a_form_of_many_parts_and_megabytes() -> None:
    audio = b"\r\n--a--b" + bytes(2**22)
    request = httpx.Request("POST", f"http://h{PATH}", data={"model": "llama3"}, files=[("file", audio)] * 3)
    exchange: Exchange = make_exchange(
        path=PATH, body=request.read(), headers=[("content-type", request.headers["content-type"])]
    )
    assert await exchange.names() == {"form": "llama3"}
