"""Connecting to the address of a backend: over TCP or a unix socket, with TLS or without."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx

from proxy.upstream.failures import NotConnected

_PORTS: Final = {"http": 80, "https": 443}
_KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 12}
"""Seconds of silence until the kernel asks the other one whether the connection still exists, seconds from question to
question, and how many remain unanswered before the connection counts as broken. A host that lost its power and is back
knows the connection no more, and says so; nothing else tells that from a long prompt."""


class Connector:
    """The address of a backend. Printed as its URL, without credentials.

    Args:
        url: ``http`` or ``https``, host and port; the rest is not looked at.
        tls: the context for ``https``; `tls_context` without options if left out.
        server_name: the name to ask for (SNI) and to find in the certificate, instead of the URL's host.
        uds: path of a unix socket to connect to, instead of host and port.

    Raises:
        ValueError: these do not go together.
    """

    def __init__(self, url: httpx.URL, *, tls: ssl.SSLContext | None, server_name: str | None, uds: str | None) -> None:
        if url.scheme not in _PORTS or not url.host:
            raise ValueError("a backend's URL is http://host[:port] or https://host[:port]")
        secure = url.scheme == "https"
        if not secure and (tls is not None or server_name is not None):
            raise ValueError("TLS options need an https:// URL")
        self._name = f"{url.scheme}://{url.netloc.decode('ascii')}{f' ({uds})' if uds else ''}"
        self._host = url.raw_host.decode("ascii")
        self._port = url.port or _PORTS[url.scheme]
        self._uds = uds
        self._tls = (tls or tls_context(ca=None, cert=None, key=None)) if secure else None
        self._server_name = (server_name or self._host) if secure else None

    def __str__(self) -> str:
        return self._name

    async def connect(self, protocol: asyncio.Protocol, handshake: float | None) -> None:
        """Connect `protocol`; cancelling closes the socket. Both loops set TCP_NODELAY by themselves.

        Args:
            protocol: gets the connection.
            handshake: seconds for the TLS handshake alone, None for the loop's own bound.

        Raises:
            NotConnected: refused, unreachable, name unknown, no TLS, wrong certificate.
            TimeoutError: the system, or the handshake, gave up.
        """
        loop = asyncio.get_running_loop()
        timeout = handshake if self._tls else None
        try:
            if self._uds is not None:
                await loop.create_unix_connection(
                    lambda: protocol,
                    self._uds,
                    ssl=self._tls,
                    server_hostname=self._server_name,
                    ssl_handshake_timeout=timeout,
                )
            else:
                transport, _ = await loop.create_connection(
                    lambda: protocol,
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._server_name,
                    ssl_handshake_timeout=timeout,
                )
                _keep_alive(transport.get_extra_info("socket"))
        except TimeoutError:
            raise
        except (OSError, UnicodeError) as error:  # UnicodeError: not a host name
            public = f"cannot connect to the backend{_public(error)}"
            raise NotConnected(f"cannot connect to {self}: {self._reason(error)}", public=public) from error

    def _reason(self, error: OSError | UnicodeError) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate does not show it to be {self._server_name}: {error.verify_message}"
        if isinstance(error, ssl.SSLError):
            return f"TLS failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
        if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
            return os.strerror(error.errno)
        return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _keep_alive(sock: socket.socket | None) -> None:
    """Let the kernel notice a host that lost the connection; where a system has no such option, its default counts."""
    if sock is None:  # it is closed
        return
    with suppress(OSError):  # it is being closed
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _public(error: OSError | UnicodeError) -> str:
    """Return why there is no connection, as far as it can be said without a name or an address of the backend."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ": its certificate is not accepted"
    if isinstance(error, ssl.SSLError):
        return ": TLS failed"
    if isinstance(error, socket.gaierror):
        return ": its name is not known"
    if isinstance(error, OSError) and error.errno:
        return f": {os.strerror(error.errno)}"
    return ""


def tls_context(*, ca: str | None, cert: str | None, key: str | None, verify: bool = True) -> ssl.SSLContext:
    """Return a client context for HTTP/1.1.

    Args:
        ca: PEM file with the authorities to trust *instead of* the system's.
        cert: PEM file with our certificate and its chain, for backends that ask for one.
        key: PEM file with its private key; left out if `cert` holds it too.
        verify: False accepts any certificate: for a test bench, never for a network.

    Raises:
        ValueError: a file is missing, unreadable or not what it should be; the message names option, file and reason.
    """
    if key is not None and cert is None:
        raise ValueError("tls.key needs tls.cert, the certificate it belongs to")
    for option, path in (("ca", ca), ("cert", cert), ("key", key)):
        if path is not None:
            _readable(option, path)
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise ValueError(f"tls.ca: {ca} holds no certificate in PEM form") from error
    if cert is not None:
        try:
            context.load_cert_chain(cert, key, _refuse_passphrase(key or cert))
        except ssl.SSLError as error:
            raise ValueError(_bad_pair(cert, key, error)) from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def _readable(option: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"tls.{option}: cannot read {path}: {error.strerror}") from error


def _refuse_passphrase(path: str) -> Callable[[], str]:
    def ask() -> str:  # without it OpenSSL would ask on the terminal
        raise ValueError(f"tls.key: {path} is encrypted; a service needs a key without a passphrase")

    return ask


def _bad_pair(cert: str, key: str | None, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"tls.key: {key or cert} is not the key of the certificate in {cert}"
    return f"tls.cert: {cert}{f' with {key}' if key else ''} is not a certificate with its key in PEM form"
