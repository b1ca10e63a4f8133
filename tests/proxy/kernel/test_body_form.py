"""proxy/kernel/body_form.py."""

from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel import body_form
from proxy.kernel.body_form import HEADERS, PARTS, TEXT, Field, fields, with_field
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.testing import make_exchange
from tests.support.cost import assert_flat

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


@pytest.mark.parametrize("sign", [chr(code) for code in range(128) if not chr(code).isprintable() and code != 9])
def test_a_control_sign_in_any_header_of_a_part_is_refused_as_by_go(sign: str) -> None:
    with pytest.raises(Refused, match="cannot be read safely"):
        read(part(f'Content-Disposition: form-data; name="model"\r\nX: a{sign}b') + END)


# Bounds


def test_as_many_parts_as_go_reads() -> None:
    assert len(read(field("a") * PARTS + END)) == PARTS
    with pytest.raises(Refused, match=f"more than {PARTS} parts"):
        read(field("a") * (PARTS + 1) + END)


def test_as_many_header_lines_as_go_reads() -> None:
    def form(lines: int) -> str:
        each = lines // PARTS
        names = "".join(f"\r\n{chr(97 + number)}: x" for number in range(each - 1))
        more = "\r\nmore: x" * (lines - each * PARTS)
        head = 'Content-Disposition: form-data; name="x"' + names
        return part(head) * (PARTS - 1) + part(head + more) + END

    assert len(read(form(HEADERS))) == PARTS
    with pytest.raises(Refused, match=f"more than {HEADERS} header lines"):
        read(form(HEADERS + 1))


def test_as_much_text_as_a_form_needs() -> None:
    long = field("x", "x" * 60_000)
    fits = TEXT // len(long)
    assert len(read(long * fits + END)) == fits
    with pytest.raises(Refused, match=f"longer than {TEXT} bytes in all"):
        read(long * (fits + 1) + END)
    assert read(part('Content-Disposition: form-data; name="f"; filename="x"', "x" * 2 * TEXT) + END) == []


HOSTILE = {
    "small parts": lambda size: b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n\r\n" * (size // 51) + b"--b--",
    "small files": lambda size: (
        b"--b\r\nContent-Disposition: form-data; name=x; filename=y\r\n\r\n\r\n" * (size // 62) + b"--b--"
    ),
    "almost boundaries": lambda size: a_file(b"\r\n-" * (size // 3)),
    "line ends": lambda size: a_file(b"\r\n" * (size // 2)),
    "no end": lambda size: a_file(b"x" * size)[:-7],
    "header lines": lambda size: one_head(b"".join(b"%s: y\r\n" % word(number) for number in range(size // 8))),
    "a long header": lambda size: one_head(b"y: " + b"z" * size + b"\r\n"),
    "a long name": lambda size: one_head(b"", b"y" * size),
    "parameters": lambda size: one_head(b"", b"x" + b"; name=x" * (size // 8)),
    "quotes": lambda size: one_head(b"", b'"' * size),
    "semicolons": lambda size: one_head(b"", b'"x"' + b"; " * (size // 2)),
}


def a_file(content: bytes) -> bytes:
    return b"--b\r\nContent-Disposition: form-data; name=f; filename=x\r\n\r\n" + content + b"\r\n--b--"


def one_head(lines: bytes, name: bytes = b"x") -> bytes:
    return b"--b\r\nContent-Disposition: form-data; name=" + name + b"\r\n" + lines + b"\r\nx\r\n--b--"


def word(number: int) -> bytes:
    return bytes(97 + number // 26**place % 26 for place in range(3))


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_byte_costs_the_same_in_a_longer_form(make: Callable[[int], bytes]) -> None:
    assert_flat(read, make, 256 * 1024)  # below that what is quadratic hides behind fast copies


@given(st.integers(0, 40), st.integers(1, 12))
def test_a_boundary_is_found_wherever_a_stride_ends(before: int, stride: int) -> None:
    body = a_file(b"x" * before)
    with pytest.MonkeyPatch.context() as small:
        small.setattr(body_form, "_STRIDE", stride)
        assert read(body + b"\r\n") == []
        with pytest.raises(Refused):
            read(body[:-2])


@given(st.binary(max_size=30).filter(lambda value: b"--b" not in value), st.binary(max_size=30))
def test_a_field_is_replaced_and_nothing_else(value: bytes, audio: bytes) -> None:
    request = httpx.Request("POST", f"http://h{PATH}", data={"model": "a", "x": "ä"}, files={"file": ("f", audio)})
    body, content_type = request.read(), request.headers["content-type"]
    scope = make_exchange(path=PATH, headers=[("Content-Type", content_type)]).scope
    old = b'name="model"\r\n\r\na\r\n'
    assert with_field(body, scope, "model", value) == body.replace(old, old[:-3] + value + b"\r\n", 1)
