"""Making the listening sockets from their notation in the policy file, and the TLS context from its files.

Every obstacle becomes a `ServerError` that an operator can act on.
"""

import errno
import os
import socket
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509


class ServerError(Exception):
    """The server cannot start; the message says what stands in the way and what to do, for the operator."""


@dataclass(frozen=True, kw_only=True)
class TlsOptions:
    """TLS of the listeners that are not unix sockets; 1.2 and later.

    Attributes:
        cert: PEM file with the certificate and its chain.
        key: PEM file with its key, not encrypted.
        client_ca: PEM file with the authorities of client certificates, which are then required; None for none.
    """

    cert: Path
    key: Path
    client_ca: Path | None


def bind(listen: Sequence[str], *, backlog: int, unix_mode: int) -> list[socket.socket]:
    """Return listening sockets, at least one for each of `listen`, in that order; raises ServerError."""
    sockets: list[socket.socket] = []
    try:
        for where in listen:
            if where.startswith("unix:"):
                sockets.append(_bind_unix(where.removeprefix("unix:"), backlog, unix_mode))
            else:
                _bind_tcp(where, backlog, sockets)
    except BaseException:
        for sock in sockets:
            if sock.family == socket.AF_UNIX:
                os.unlink(sock.getsockname())
            sock.close()
        raise
    return sockets


def _bind_tcp(where: str, backlog: int, sockets: list[socket.socket]) -> None:
    """Listen on all addresses that `where` stands for, one socket each, all with the same port."""
    host, colon, digits = where.rpartition(":")
    if not colon or not digits.isdecimal() or int(digits) > 65_535:
        raise ServerError(f"cannot listen on {where!r}: write host:port, [IPv6]:port or unix:/path")
    port = int(digits)
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ServerError(f"cannot listen on {where}: {error.strerror}") from error
    bound = 0
    for number, (family, kind, protocol, _, name) in enumerate(dict.fromkeys(found), start=1):
        try:
            sock = _listen(family, kind, protocol, (name[0], port, *name[2:]), backlog)
        except OSError as error:
            # A name may stand for an address family that this machine does not have.
            if error.errno in _NO_SUCH_ADDRESS and (bound or number < len(found)):
                continue
            raise ServerError(_explain(where, port, error)) from error
        sockets.append(sock)
        bound += 1
        port = sock.getsockname()[1]


def _listen(family: int, kind: int, protocol: int, address: tuple[str | int, ...], backlog: int) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # A client whose machine vanished sends no FIN; accepted sockets inherit this.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        sock.bind(address)
        # Two sockets with SO_REUSEADDR may be bound to one port; only one of them may listen.
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(path: str, backlog: int, mode: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(path)
        os.chmod(path, mode)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise ServerError(f"cannot listen on unix:{path}: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket that a server left behind; raises ServerError where one still listens, or it is no socket."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ServerError(f"cannot listen on unix:{path}: there is a file of that name, which is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise ServerError(f"cannot listen on unix:{path}: another process listens there; stop it first")


def address(sock: socket.socket) -> str:
    """Return the address that `sock` listens on, in the notation of the configuration."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def is_local(sock: socket.socket) -> bool:
    """Return whether only this machine can reach `sock`."""
    return sock.family == socket.AF_UNIX or ip_address(sock.getsockname()[0]).is_loopback


_NO_SUCH_ADDRESS: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def _explain(where: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        ollama = " (11434 is the port of Ollama itself)" if port == 11434 else ""
        return (
            f"cannot listen on {where}: the address is in use{ollama}; `ss -ltnp 'sport = :{port}'` shows by whom. "
            "Stop that process, or listen on another port"
        )
    if error.errno == errno.EACCES:
        return f"cannot listen on {where}: ports below 1024 need a privilege (CAP_NET_BIND_SERVICE); use a higher one"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {where}: no network interface of this machine has that address"
    return f"cannot listen on {where}: {error.strerror}"


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """Return the context of a server; raises ServerError where the files do not serve."""
    for name in ("cert", "key", "client_ca"):
        path = getattr(options, name)
        if path is None:
            continue
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise ServerError(f"tls.{name}: cannot read {path}: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # In TLS 1.2 a client could have the costly part of a handshake repeated as often as it likes.
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(options.cert, options.key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ServerError(f"tls: {options.key} is not the key of {options.cert}") from error
        raise ServerError(f"tls: {options.cert} and {options.key} must be PEM files ({error.reason})") from error
    if options.client_ca is not None:
        try:
            context.load_verify_locations(options.client_ca)
        except ssl.SSLError as error:
            raise ServerError(f"tls.client_ca: {options.client_ca} holds no PEM certificate") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def certificate_names(file: Path) -> tuple[str, ...]:
    """Return the names and addresses that the first certificate in a PEM file is for; none where it cannot be read."""
    try:
        (first, *_) = x509.load_pem_x509_certificates(file.read_bytes())
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (
        *(OSError, ValueError, x509.ExtensionNotFound),
        *(x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
    ):
        return ()
    addresses = names.get_values_for_type(x509.IPAddress)
    return (*names.get_values_for_type(x509.DNSName), *map(str, addresses))


def _no_password() -> str:
    # Without this OpenSSL would stop and ask at the terminal.
    raise ServerError("tls.key: the key is encrypted; store it decrypted and readable by the proxy only")
