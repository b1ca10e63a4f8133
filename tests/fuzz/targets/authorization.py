"""Credentials: nobody gets in without one, whatever he sends, and nothing but a refusal comes of it.

An input is a request line (``GET /api/tags?ts=…``), then header fields, with line feeds between.
"""

import asyncio
import hmac
import re
import tempfile
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr
from structlog.testing import capture_logs

from middleware.auth.jwt_options import JwtOptions
from middleware.auth.keys import SecretHash
from middleware.auth.plugin import Auth
from proxy.kernel.asgi import Header, Message
from proxy.kernel.caller_text import masked_path
from proxy.kernel.defined_policies import Policies
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.services.weak_keepsakes import WeakKeepsakes
from proxy.testing import ManualClock, make_exchange, ok
from tests.support.tokens import NOW, claims, hmac_signed

KEY_SECRET: Final = "0123456789abcdef0123456789ABCDEF"
KEY: Final = f"op_4fQn0ZrT7LkP_{KEY_SECRET}"
ISSUER: Final = "https://idp.example"
SHARED: Final = b"a secret of thirty-two bytes ...."
TOKEN: Final = hmac_signed(SHARED, claims(ISSUER, sub="bob"))
_PRIVATE: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_PUBLIC: Final = _PRIVATE.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
SIGNED: Final = f"GET,/api/tags?ts={NOW}"
SIGNATURE: Final = f"{_PUBLIC.split(' ')[1]}:{b64encode(_PRIVATE.sign(SIGNED.encode())).decode()}"

TOKENS = (
    b"GET /api/tags\n",
    f"GET /api/tags?ts={NOW}\n".encode(),
    b"POST /api/chat\n",
    f"GET /k/{KEY}/api/tags\n".encode(),
    f"GET /x/k/{KEY}\n".encode(),
    b"/k/",
    b"%2f",
    b"Authorization: ",
    b"x-api-key: ",
    b"Bearer ",
    b"Basic ",
    b"Digest ",
    KEY.encode(),
    KEY[:-1].encode(),
    b64encode(f"x:{KEY}".encode()),
    b64encode(f"{KEY}:".encode()),
    TOKEN.encode(),
    TOKEN.rpartition(".")[0].encode() + b".",
    TOKEN.partition(".")[0].encode(),
    hmac_signed(b"x" * 32, claims(ISSUER, sub="eve")).encode(),
    hmac_signed(SHARED, claims(ISSUER, sub="bob"), alg="none").encode(),
    hmac_signed(SHARED, claims(ISSUER, sub="bob", exp=NOW - 100)).encode(),
    SIGNATURE.encode(),
    SIGNATURE.partition(":")[0].encode() + b":",
    b"ollama",
    b"eyJhbGciOiJub25lIn0",
    b"W10",
    b".",
    b"=",
    b":",
    b" ",
    b"\t",
    b"\n",
    b"\xff",
    b"\xc3\xa4",
)

_REQUEST: Final = re.compile(rb"([A-Z]{1,8}) (/[!-~]*)")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t \x21-\x7e\x80-\xff]*)")
_SHOWN: Final = re.compile(r"[ -~]*")


@cache
def _folder() -> Path:
    """Write the files of keys, once."""
    folder = Path(tempfile.mkdtemp(prefix="ollama-proxy-fuzz-"))
    hashed = SecretHash.of(KEY_SECRET, bytes(16))
    (folder / "keys.yaml").write_text(f"- name: alice\n  id: 4fQn0ZrT7LkP\n  hash: {hashed}\n")
    (folder / "authorized_keys").write_text(f"{_PUBLIC} carol\n")
    return folder


def _auth() -> Auth:
    """Return the plugin as if the proxy had been started just now: no signature was used before."""
    jwt = JwtOptions(issuer=ISSUER, audience="ollama", secret=SecretStr(SHARED.decode()))
    return Auth(
        ok,
        clock=ManualClock(float(NOW)),
        policies=Policies(set()),
        keepsakes=WeakKeepsakes(),
        keys=_folder() / "keys.yaml",
        jwt=jwt,
        ollama_keys=_folder() / "authorized_keys",
        path_token=True,
    )


def check(data: bytes) -> None:
    """Raise where somebody gets in who should not, who should does not, or something else than a refusal is raised."""
    first, *lines = data.split(b"\n")
    request = _REQUEST.fullmatch(first)
    fields = [_FIELD.fullmatch(line) for line in lines if line]
    if request is None or not all(fields):
        return  # such a request gets no further than the guard
    headers = [(field[1].lower(), field[2].strip(b" \t")) for field in fields if field]
    path, _, query = request[2].partition(b"?")
    exchange = make_exchange(request[1].decode(), unquote(path.decode()), query=query)
    exchange.scope["headers"][:] = headers
    with capture_logs():
        identity = _identify(exchange)
    _check_identity(identity, request[0].split(b" ")[0].decode(), unquote(path.decode()), query, headers)
    shown = exchange.scope["path"] if exchange.route is not None else masked_path(exchange.scope["path"])
    if unquote(path.decode()).startswith("/k/"):
        assert KEY_SECRET not in shown, f"the key is still in the path: {shown}"


def _identify(exchange: Exchange) -> str | None:
    """Return who the request is let in as; None where it is refused."""

    async def send(message: Message) -> None: ...

    try:
        _loop().run_until_complete(_auth()(exchange.scope, exchange.receive, send))
    except Refused as refused:
        assert refused.status in (400, 401, 403, 429, 503), f"refused with {refused.status}"
        for text in (refused.message, *refused.headers.values()):
            assert _SHOWN.fullmatch(text), f"what a refusal says is not plain text: {text!r}"
        return None
    assert exchange.identity or (exchange.route is not None and exchange.route.open), "let in as nobody"
    return exchange.identity


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _check_identity(identity: str | None, method: str, path: str, query: bytes, headers: list[Header]) -> None:
    said = [value.decode("latin-1") for name, value in headers if name in (b"authorization", b"x-api-key")]
    texts = [path, *said, *(decoded for value in said for decoded in _base64(value))]
    match identity:
        case None:
            alone = said[0] if len(said) == 1 and path in ("/api/tags", "/api/chat") else ""
            assert alone not in (f"Bearer {KEY}", KEY, f"Bearer {TOKEN}", TOKEN), "refused, with a good credential"
        case "alice":
            assert any(KEY in text for text in texts), "let in as alice without her key"
        case "bob":
            assert any(map(_holds_token, texts)), "let in as bob without his token"
        case "carol":
            assert f"{method},{path}?{query.decode()}" == SIGNED, "let in as carol by a signature of something else"
            assert any(SIGNATURE.rstrip("=") in text for text in texts), "let in as carol without her signature"
        case _:
            raise AssertionError(f"let in as {identity}")


def _base64(value: str) -> Iterator[str]:
    for word in re.findall(r"[A-Za-z0-9+/]{8,}={0,2}", value):
        try:
            yield urlsafe_b64decode(word.replace("+", "-").replace("/", "_") + "==").decode("latin-1")
        except ValueError:
            continue


def _holds_token(text: str) -> bool:
    """Whether one of the tokens in a text is signed with our secret, whatever its spelling."""
    for signing_input, signature in re.findall(r"([\w-]+\.[\w-]+)\.([\w-]+)", text):
        good = hmac.new(SHARED, signing_input.encode(), sha256).digest()
        if urlsafe_b64decode(signature + "==")[:32] == good:
            return True
    return False
