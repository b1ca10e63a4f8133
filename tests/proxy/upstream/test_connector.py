import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from proxy.upstream.connector import Connector, _public, tls_context
from proxy.upstream.failures import NotConnected
from proxy.upstream.transport import Transport
from tests.support.backend import Backend, Peer, always, backend, nothing_left, reply
from tests.support.certificates import Authority

BOTH_LOOPS = True


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def server_context(authority: Authority, *names: str, client: bool = False) -> ssl.SSLContext:
    pair = authority.issue(*names)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.cert)
    return context


async def get(transport: Transport) -> bytes:
    async with transport:
        request = httpx.Request("GET", "http://x/", extensions={"timeout": {"connect": 5.0, "read": 5.0}})
        response = await transport.handle_async_request(request)
        return await response.aread()


@asynccontextmanager
async def tls_backend(context: ssl.SSLContext) -> AsyncIterator[Backend]:
    async with nothing_left(), backend(always(reply(b"secret")), tls=context) as running:
        yield running


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("ftp://x", {}, "http://host"),
        ("x", {}, "http://host"),
        ("http://", {}, "http://host"),
        ("http://x", {"server_name": "y"}, "need an https"),
        ("http://x", {"tls": ssl.create_default_context()}, "need an https"),
    ],
)
def test_what_does_not_go_together(url: str, options: dict[str, object], message: str) -> None:
    defaults: dict[str, object] = {"tls": None, "server_name": None, "uds": None}
    with pytest.raises(ValueError, match=message):
        Connector(httpx.URL(url), **{**defaults, **options})  # type: ignore[arg-type]  # a table of mistakes


@pytest.mark.parametrize(
    ("url", "uds", "text"),
    [
        ("http://user:secret@gpu-1:11434/x", None, "http://gpu-1:11434"),
        ("https://gpu-1", None, "https://gpu-1"),
        ("http://[::1]:11434", None, "http://[::1]:11434"),
        ("http://ollama", "/run/o.sock", "http://ollama (/run/o.sock)"),
    ],
)
def test_is_printed_without_credentials(url: str, uds: str | None, text: str) -> None:
    assert str(Connector(httpx.URL(url), tls=None, server_name=None, uds=uds)) == text


async def test_refused() -> None:
    async with backend(always(reply())) as gone:
        url = gone.url
    with pytest.raises(NotConnected, match=f"cannot connect to {url}: Connection refused") as refused:
        await get(Transport(url))
    assert refused.value.public == "cannot connect to the backend: Connection refused"


async def test_no_such_host_name() -> None:
    with pytest.raises(NotConnected, match="cannot connect to http://x") as unknown:
        await get(Transport(f"http://{'x' * 64}.invalid:1"))
    assert unknown.value.public == "cannot connect to the backend"


@pytest.mark.parametrize(
    ("error", "public"),
    [
        (ssl.SSLCertVerificationError(1, "IP address mismatch for '10.0.0.1'"), ": its certificate is not accepted"),
        (ssl.SSLError(1, "wrong version number"), ": TLS failed"),
        (socket.gaierror(-2, "gpu-1.internal"), ": its name is not known"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('10.0.0.1', 11434)"), ""),
        (ConnectionRefusedError(111, "Connect call failed ('10.0.0.1', 11434)"), ": Connection refused"),
        (UnicodeError("label too long in gpu-1.internal"), ""),
    ],
    ids=repr,
)
def test_why_there_is_no_connection_is_told_without_an_address(error: OSError | UnicodeError, public: str) -> None:
    assert _public(error) == public


async def test_ipv6() -> None:
    async with backend(always(reply(b"six")), host="::1") as running:
        assert await get(Transport(running.url)) == b"six"


async def test_host_name() -> None:
    async with backend(always(reply(b"named"))) as running:
        assert await get(Transport(running.url.replace("127.0.0.1", "localhost"))) == b"named"


async def test_unix_socket(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(reply(b"unix"))

    path = tmp_path / "o.sock"
    async with nothing_left(), backend(script, uds=path):
        assert await get(Transport("http://ollama", uds=str(path))) == b"unix"
    assert seen == [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]


async def test_no_such_unix_socket(tmp_path: Path) -> None:
    with pytest.raises(NotConnected, match="No such file"):
        await get(Transport("http://ollama", uds=str(tmp_path / "none")))


# TLS


async def test_tls_with_an_authority_of_its_own(authority: Authority) -> None:
    async with tls_backend(server_context(authority, "127.0.0.1")) as running:
        context = tls_context(ca=authority.cert, cert=None, key=None)
        assert await get(Transport(running.url, tls=context)) == b"secret"


async def test_tls_over_a_unix_socket(authority: Authority, tmp_path: Path) -> None:
    path = tmp_path / "o.sock"
    async with nothing_left(), backend(always(reply(b"both")), tls=server_context(authority, "ollama"), uds=path):
        context = tls_context(ca=authority.cert, cert=None, key=None)
        assert await get(Transport("https://ollama", tls=context, uds=str(path))) == b"both"


async def test_unknown_authority_is_refused_and_says_so(authority: Authority) -> None:
    async with tls_backend(server_context(authority, "127.0.0.1")) as running:
        with pytest.raises(NotConnected, match=r"127\.0\.0\.1: unable to get local issuer certificate"):
            await get(Transport(running.url))


async def test_wrong_name_is_refused_and_says_so(authority: Authority) -> None:
    async with tls_backend(server_context(authority, "gpu-1.example")) as running:
        context = tls_context(ca=authority.cert, cert=None, key=None)
        with pytest.raises(NotConnected, match=r"(?i)to be gpu-2\.example: hostname mismatch"):
            await get(Transport(running.url, tls=context, server_name="gpu-2.example"))


async def test_server_name_is_asked_for_and_checked(authority: Authority) -> None:
    asked: list[str | None] = []
    context = server_context(authority, "gpu-1.example")
    context.sni_callback = lambda _object, name, _context: asked.append(name)
    async with tls_backend(context) as running:
        ours = tls_context(ca=authority.cert, cert=None, key=None)
        assert await get(Transport(running.url, tls=ours, server_name="gpu-1.example")) == b"secret"
    assert asked == ["gpu-1.example"]


async def test_anything_goes_without_verification(authority: Authority) -> None:
    async with tls_backend(server_context(authority, "other.example")) as running:
        assert await get(Transport(running.url, tls=tls_context(ca=None, cert=None, key=None, verify=False)))


@pytest.mark.parametrize("one_file", [False, True])
async def test_client_certificate(authority: Authority, one_file: bool) -> None:
    pair = authority.issue("proxy.example")
    cert: str = pair.cert
    key: str | None = pair.key
    if one_file:
        cert, key = pair.in_one_file, None
    async with tls_backend(server_context(authority, "127.0.0.1", client=True)) as running:
        context = tls_context(ca=authority.cert, cert=cert, key=key)
        assert await get(Transport(running.url, tls=context)) == b"secret"


async def test_without_the_client_certificate_that_is_asked_for(authority: Authority) -> None:
    # A blocking server: asyncio's does not send the alert. With TLS 1.3 it comes when the client is already through.
    context = server_context(authority, "127.0.0.1", client=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            tls = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with pytest.raises(ssl.SSLError):
                tls.do_handshake()
            with socket.socket(fileno=tls.detach()) as plain:
                while plain.recv(2**16):  # closing with unread bytes would reset the connection
                    pass

        server = asyncio.get_running_loop().run_in_executor(None, refuse)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(httpx.NetworkError, match=r"(?i)certificate.required"):
            await get(Transport(url, tls=tls_context(ca=authority.cert, cert=None, key=None)))
        await server


async def test_tls_to_a_backend_without_it() -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        await peer.gone()

    async with nothing_left(), backend(script) as running:
        with pytest.raises(NotConnected, match="TLS failed"):
            await get(Transport(running.url.replace("http:", "https:")))


async def test_http_1_1_is_asked_for(authority: Authority) -> None:
    context = server_context(authority, "127.0.0.1")
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with tls_backend(context) as running:
        assert await get(Transport(running.url, tls=tls_context(ca=authority.cert, cert=None, key=None)))
        tls = running.peers[0].writer.get_extra_info("ssl_object")
        assert tls is None or tls.selected_alpn_protocol() == "http/1.1"


# Files


@pytest.mark.parametrize("option", ["ca", "cert", "key"])
def test_missing_files_are_named(authority: Authority, tmp_path: Path, option: str) -> None:
    pair = authority.issue("x")
    files = {"ca": authority.cert, "cert": pair.cert, "key": pair.key, option: str(tmp_path / "gone.pem")}
    with pytest.raises(ValueError, match=rf"tls\.{option}: cannot read .*gone\.pem: No such file"):
        tls_context(ca=files["ca"], cert=files["cert"], key=files["key"])


@pytest.mark.parametrize(("option", "named"), [("ca", "ca"), ("cert", "cert"), ("key", "cert")])
def test_files_that_hold_something_else_are_named(
    authority: Authority, tmp_path: Path, option: str, named: str
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    pair = authority.issue("x")
    files = {"ca": authority.cert, "cert": pair.cert, "key": pair.key, option: str(junk)}
    with pytest.raises(ValueError, match=rf"tls\.{named}: .*junk\.pem .*PEM"):
        tls_context(ca=files["ca"], cert=files["cert"], key=files["key"])


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tls\.ca: cannot read .*: Is a directory"):
        tls_context(ca=str(tmp_path), cert=None, key=None)


def test_key_of_another_certificate(authority: Authority) -> None:
    one, other = authority.issue("one"), authority.issue("other")
    with pytest.raises(ValueError, match=r"tls\.key: .* is not the key of the certificate"):
        tls_context(ca=None, cert=one.cert, key=other.key)


def test_encrypted_key_is_refused_instead_of_asking_on_the_terminal(authority: Authority) -> None:
    pair = authority.issue("x", passphrase=b"geheim")
    with pytest.raises(ValueError, match=r"tls\.key: .* is encrypted"):
        tls_context(ca=None, cert=pair.cert, key=pair.key)


def test_key_without_certificate(authority: Authority) -> None:
    with pytest.raises(ValueError, match=r"tls\.key needs tls\.cert"):
        tls_context(ca=None, cert=None, key=authority.issue("x").key)


def test_the_default_checks_name_and_certificate() -> None:
    context = tls_context(ca=None, cert=None, key=None)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_a_connection_is_looked_after_by_the_kernel() -> None:
    made: list[asyncio.BaseTransport] = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    async with nothing_left(), backend(always(reply(b"ok"))) as running:
        connector = Connector(httpx.URL(running.url), tls=None, server_name=None, uds=None)
        await connector.connect(Protocol(), None)
        sock = made[0].get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
        made[0].close()
