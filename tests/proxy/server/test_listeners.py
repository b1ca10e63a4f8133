"""proxy/server/listeners.py."""

import base64
import gc
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.server.listeners import ServerError, TlsOptions, address, bind, certificate_names, is_local, tls_context
from tests.support.certificates import Authority, Pair


@contextmanager
def bound(*listen: str, unix_mode: int = 0o660) -> Iterator[list[socket.socket]]:
    sockets = bind(listen, backlog=10, unix_mode=unix_mode)
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def test_a_free_port_is_told() -> None:
    with bound("127.0.0.1:0") as (sock,):
        host, _, port = address(sock).rpartition(":")
        assert (host, int(port) > 0) == ("127.0.0.1", True)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@needs_ipv6
def test_ipv6_is_only_ipv6() -> None:
    with bound("[::]:0") as (sock,):
        assert address(sock).startswith("[::]:")
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_a_name_that_stands_for_several_addresses_has_one_port() -> None:
    with bound("localhost:0") as sockets:
        assert len({address(sock).rpartition(":")[2] for sock in sockets}) == 1
        assert {address(sock).rpartition(":")[0] for sock in sockets} <= {"127.0.0.1", "[::1]"}


@pytest.mark.parametrize(
    ("listen", "local"), [("127.0.0.1:0", True), ("127.9.9.9:0", True), ("localhost:0", True), ("0.0.0.0:0", False)]
)
def test_who_can_reach_a_socket_is_known(listen: str, local: bool, tmp_path: Path) -> None:
    with bound(listen, f"unix:{tmp_path}/s") as sockets:
        assert {is_local(sock) for sock in sockets[:-1]} == {local}
        assert is_local(sockets[-1])


def test_no_host_is_every_interface() -> None:
    with bound(":0") as sockets:
        assert "0.0.0.0" in {address(sock).rpartition(":")[0] for sock in sockets}


@pytest.mark.parametrize("where", ["11435", "localhost", "localhost:", "localhost:x", "localhost:70000", "host:-1", ""])
def test_what_is_no_address_says_what_is(where: str) -> None:
    with pytest.raises(ServerError, match=r"write host:port, \[IPv6\]:port or unix:/path"):
        bind([where], backlog=1, unix_mode=0o660)


def test_an_address_in_use_says_how_to_find_by_whom() -> None:
    with bound("127.0.0.1:0") as (sock,):
        port = address(sock).rpartition(":")[2]
        with pytest.raises(ServerError) as error:
            bind([f"127.0.0.1:{port}"], backlog=1, unix_mode=0o660)
    assert str(error.value).startswith(f"cannot listen on 127.0.0.1:{port}: the address is in use; ")
    assert f"ss -ltnp 'sport = :{port}'" in str(error.value)


def test_ollamas_own_port_is_recognised() -> None:
    with bound("127.0.0.1:0"):
        pass
    try:
        taken = bind(["127.0.0.1:11434"], backlog=1, unix_mode=0o660)
    except ServerError:
        taken = []
    with pytest.raises(ServerError, match="11434 is the port of Ollama itself"):
        bind(["127.0.0.1:11434"], backlog=1, unix_mode=0o660)
    for sock in taken:
        sock.close()


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(ServerError, match="no network interface of this machine has that address"):
        bind(["192.0.2.1:0"], backlog=1, unix_mode=0o660)


def test_an_unknown_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ServerError, match=r"cannot listen on nowhere\.invalid:1: Name or service not known"):
        bind(["nowhere.invalid:1"], backlog=1, unix_mode=0o660)


def test_nothing_stays_bound_when_one_of_several_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with pytest.raises(ServerError):
        bind(["127.0.0.1:0", f"unix:{path}", "nonsense"], backlog=1, unix_mode=0o660)
    assert not path.exists()
    gc.collect()  # a socket left open would warn here


# Unix sockets


@pytest.mark.parametrize("mode", [0o660, 0o600])
def test_a_unix_socket_has_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "s"
    with bound(f"unix:{path}", unix_mode=mode) as (sock,):
        assert address(sock) == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bound(f"unix:{path}"):
        pass
    assert path.exists()
    with bound(f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_is_served_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bound(f"unix:{path}"):
        with pytest.raises(ServerError, match="another process listens there"):
            bind([f"unix:{path}"], backlog=1, unix_mode=0o660)
        assert path.exists()


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ServerError, match="is not a socket"):
        bind([f"unix:{path}"], backlog=1, unix_mode=0o660)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["missing/s", "a" * 200])
def test_a_path_that_does_not_work_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ServerError, match="cannot listen on unix:"):
        bind([f"unix:{tmp_path / name}"], backlog=1, unix_mode=0o660)


# TLS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls(pair: Pair, client_ca: Path | str | None = None) -> TlsOptions:
    return TlsOptions(
        cert=Path(pair.cert), key=Path(pair.key), client_ca=None if client_ca is None else Path(client_ca)
    )


def test_good_files_make_a_context(authority: Authority) -> None:
    context = tls_context(tls(authority.issue("localhost"), Path(authority.cert)))
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert context.minimum_version.name == "TLSv1_2"
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_the_names_in_a_certificate(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("llm.example.com", "*.corp.example", "203.0.113.7", "::1")
    names = ("llm.example.com", "*.corp.example", "203.0.113.7", "::1")
    assert certificate_names(Path(pair.cert)) == names
    assert certificate_names(Path(pair.in_one_file)) == names
    assert certificate_names(Path(authority.cert)) == ()
    for content in (b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        (tmp_path / "bad.pem").write_bytes(content)
        assert certificate_names(tmp_path / "bad.pem") == ()
    assert certificate_names(tmp_path / "nowhere.pem") == ()


def odd_certificate(names: bytes, *, twice: bool = False) -> bytes:
    """Return a certificate, in PEM, with those subject alternative names (DER) where they cannot be read."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "odd")])
    day = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(who, who, key.public_key(), 1, day, day + timedelta(days=1))
    san, other = x509.ObjectIdentifier("2.5.29.17"), x509.ObjectIdentifier("2.5.29.18")
    builder = builder.add_extension(x509.UnrecognizedExtension(san, names), critical=False)
    if twice:
        builder = builder.add_extension(x509.UnrecognizedExtension(other, names), critical=False)
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    der = der.replace(b"\x55\x1d\x12", b"\x55\x1d\x11")  # nobody checks the signature
    return b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(der)


@pytest.mark.parametrize(
    "certificate",
    [odd_certificate(b"\x30\x02\xa3\x00"), odd_certificate(b"\x30\x03\x82\x01a", twice=True)],
    ids=["a name of X.400", "names twice"],
)
def test_a_certificate_whose_names_are_odd_has_none(certificate: bytes, tmp_path: Path) -> None:
    (tmp_path / "odd.pem").write_bytes(certificate)
    assert certificate_names(tmp_path / "odd.pem") == ()


@pytest.mark.parametrize("name", ["cert", "key", "client_ca"])
def test_a_missing_file_is_named(authority: Authority, tmp_path: Path, name: str) -> None:
    options = replace(tls(authority.issue("localhost")), **{name: tmp_path / "missing"})
    with pytest.raises(ServerError, match=rf"tls\.{name}: cannot read .*missing: No such file"):
        tls_context(options)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_we_may_not_read_is_named(authority: Authority) -> None:
    pair = authority.issue("localhost")
    Path(pair.key).chmod(0)
    with pytest.raises(ServerError, match=r"tls\.key: cannot read .*: Permission denied"):
        tls_context(tls(pair))


def test_a_key_of_another_certificate_is_told(authority: Authority) -> None:
    one, two = authority.issue("one"), authority.issue("two")
    with pytest.raises(ServerError) as error:
        tls_context(tls(replace(one, key=two.key)))
    assert str(error.value) == f"tls: {two.key} is not the key of {one.cert}"


def test_an_encrypted_key_is_told_and_nobody_is_asked(authority: Authority) -> None:
    with pytest.raises(ServerError, match="the key is encrypted"):
        tls_context(tls(authority.issue("localhost", passphrase=b"secret")))


def test_files_that_are_no_pem_are_told(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("localhost")
    junk = tmp_path / "junk"
    junk.write_text("junk")
    with pytest.raises(ServerError, match="must be PEM files"):
        tls_context(tls(replace(pair, cert=str(junk))))
    with pytest.raises(ServerError, match=r"tls\.client_ca: .* holds no PEM certificate"):
        tls_context(tls(pair, client_ca=junk))
