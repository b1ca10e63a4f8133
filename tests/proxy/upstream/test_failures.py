import ast
import errno
import re
import socket
import ssl
from pathlib import Path

import httpx
import pytest

from proxy.kernel.errors import (
    BadAnswer,
    ClientGone,
    ConnectFailed,
    ConnectionLost,
    Timer,
    Truncated,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.upstream import failures
from proxy.upstream.failures import broke_off, translate, translated, unbegun

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("failure", "kind", "timer"),
    [
        (failures.NotConnected, httpx.ConnectError, None),
        (failures.ConnectTimedOut, httpx.ConnectTimeout, "connect"),
        (failures.NoConnectionFree, httpx.PoolTimeout, "connect"),
        (failures.HeadTimedOut, httpx.ReadTimeout, "first_byte"),
        (failures.IdleTimedOut, httpx.ReadTimeout, "idle"),
        (failures.WriteTimedOut, httpx.WriteTimeout, "write"),
        (failures.Disconnected, httpx.ReadError, None),
        (failures.CutShort, httpx.RemoteProtocolError, None),
        (failures.BadResponse, httpx.RemoteProtocolError, None),
        (failures.Unsendable, httpx.LocalProtocolError, None),
    ],
)
def test_each_is_an_httpx_exception_and_says_what_it_knows(
    failure: type[failures.TransportFailure], kind: type[httpx.TransportError], timer: Timer | None
) -> None:
    error = failure("why", sent=True, reused=True)
    assert isinstance(error, kind)
    assert isinstance(error, httpx.TransportError)
    assert (str(error), error.timer, error.sent, error.received, error.reused) == ("why", timer, True, False, True)


def test_the_tree_in_the_docstring_is_complete() -> None:
    kinds: list[type] = [failures.TransportFailure, *failures.TransportFailure.__subclasses__()]
    assert all(kind.__name__ in (failures.__doc__ or "") for kind in kinds)


@pytest.mark.parametrize(
    ("error", "kind", "timer", "sent", "received"),
    [
        (failures.NotConnected("x"), ConnectFailed, None, False, False),
        (failures.ConnectTimedOut("x"), UpstreamTimeout, "connect", False, False),
        (failures.NoConnectionFree("x"), UpstreamTimeout, "connect", False, False),
        (failures.HeadTimedOut("x", sent=True), UpstreamTimeout, "first_byte", True, False),
        (failures.IdleTimedOut("x", sent=True, received=True), UpstreamTimeout, "idle", True, True),
        (failures.WriteTimedOut("x", sent=True), UpstreamTimeout, "write", True, False),
        (failures.Disconnected("x", sent=True), ConnectionLost, None, True, False),
        (failures.Disconnected("x", sent=True, received=True), Truncated, None, True, True),
        (failures.CutShort("x", sent=True, received=True), Truncated, None, True, True),
        (failures.BadResponse("x", sent=True, received=True), BadAnswer, None, True, True),
        (failures.Unsendable("x"), UpstreamError, None, False, False),
        (httpx.ConnectError("x"), ConnectFailed, None, False, False),
        (httpx.ConnectTimeout("x"), UpstreamTimeout, "connect", False, False),
        (httpx.PoolTimeout("x"), UpstreamTimeout, "connect", False, False),
        (httpx.ReadTimeout("x"), UpstreamTimeout, "first_byte", True, False),
        (httpx.WriteTimeout("x"), UpstreamTimeout, "write", True, False),
        (httpx.ReadError("x"), ConnectionLost, None, True, False),
        (httpx.WriteError("x"), ConnectionLost, None, True, False),
        (httpx.RemoteProtocolError("x"), BadAnswer, None, True, False),
        (httpx.LocalProtocolError("x"), UpstreamError, None, False, False),
        (httpx.UnsupportedProtocol("x"), UpstreamError, None, False, False),
        (ConnectionRefusedError(111, "x"), ConnectFailed, None, False, False),
        (socket.gaierror(-2, "x"), ConnectFailed, None, False, False),
        (ConnectionResetError(104, "x"), ConnectionLost, None, True, False),
        (ssl.SSLError(1, "x"), ConnectionLost, None, True, False),
        (OSError(errno.EHOSTUNREACH, "x"), ConnectionLost, None, True, False),
        (ssl.SSLCertVerificationError(1, "x"), ConnectFailed, None, False, False),
        (httpx.ProxyError("x"), ConnectFailed, None, False, False),
        (TimeoutError("x"), UpstreamTimeout, "first_byte", True, False),
        (TimeoutError(errno.ETIMEDOUT, "x"), UpstreamTimeout, "first_byte", True, False),
        (httpx.StreamClosed(), UpstreamError, None, True, False),
    ],
)
def test_translate(
    error: Exception, kind: type[UpstreamError], timer: Timer | None, sent: bool, received: bool
) -> None:
    translated = translate(error)
    assert type(translated) is kind
    assert (translated.sent, translated.received) == (sent, received)
    assert getattr(translated, "timer", None) == timer
    named = "" if timer is None else f" (timer {timer})"
    ours = isinstance(error, failures.TransportFailure)
    assert translated.detail == f"{error}{named}"
    assert (translated.message == translated.detail) is ours
    assert translated.message.endswith(named)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ReadTimeout("x"), UpstreamTimeout),
        (httpx.ReadError("x"), Truncated),
        (httpx.RemoteProtocolError("x"), BadAnswer),
        (ConnectionResetError(104, "x"), Truncated),
        (TimeoutError("x"), UpstreamTimeout),
    ],
)
def test_translate_what_another_transport_raised_in_the_middle(error: Exception, kind: type[UpstreamError]) -> None:
    translated = translate(error, received=True)
    assert type(translated) is kind
    assert (translated.sent, translated.received) == (True, True)
    if isinstance(translated, UpstreamTimeout):
        assert translated.timer == "idle"


@pytest.mark.parametrize(
    "error",
    [
        OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 11434, 0, 0)"),
        httpx.ConnectError("[Errno 111] Connect call failed ('10.0.0.1', 11434)"),
        httpx.ReadError("http://gpu-1:11434 is gone"),
        failures.NotConnected("cannot connect to http://10.0.0.1:11434", public="cannot connect to the backend"),
        failures.ConnectTimedOut("no connection to http://10.0.0.1:11434", public="no connection to the backend"),
    ],
    ids=repr,
)
def test_an_address_is_for_the_operator_alone(error: Exception) -> None:
    translated = translate(error)
    assert translated.detail.startswith(str(error))
    assert not {"11434", "10.0.0.1"} & set(re.split(r"[^0-9.]+", translated.message))
    translated.at("gpu-1")
    assert "the backend" in translated.message
    assert translated.backend == "gpu-1"


@pytest.mark.parametrize("text", ["Server disconnected without sending", "peer closed connection", "junk", ""])
@pytest.mark.parametrize("kind", [httpx.RemoteProtocolError, httpx.ReadError, httpx.ConnectError, OSError, ValueError])
def test_no_text_decides_what_an_exception_means(kind: type[Exception], text: str) -> None:
    found, plain = translate(kind(text)), translate(kind("x"))
    assert type(found) is type(plain)
    assert (found.message, found.code, found.sent) == (plain.message, plain.code, plain.sent)


def test_every_httpx_exception_and_every_failure_of_ours_has_a_meaning() -> None:
    kinds = [kind for kind in vars(httpx).values() if isinstance(kind, type) and issubclass(kind, httpx.TransportError)]
    kinds += failures.TransportFailure.__subclasses__()
    assert len(kinds) > 20
    for kind in kinds:
        failure = translate(kind("x"))
        assert type(failure) is not UpstreamError or issubclass(
            kind, httpx.LocalProtocolError | httpx.UnsupportedProtocol
        ), kind
        ours = kind.timer if issubclass(kind, failures.TransportFailure) else None
        if ours is not None and kind is not failures.IdleTimedOut:
            assert isinstance(failure, UpstreamTimeout)
            assert failure.timer == ours


def test_a_block_raises_the_projects_errors() -> None:
    with pytest.raises(ConnectFailed) as caught, translated():
        raise httpx.ConnectError("x")
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    with pytest.raises(Truncated), translated(received=True):
        raise ConnectionResetError(104, "x")


@pytest.mark.parametrize("error", [BadAnswer("x"), ClientGone(), ValueError("x")])
def test_a_block_leaves_alone_what_is_not_of_a_transport(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, translated():
        raise error
    assert raised.value is error


def test_the_failure_of_an_answer_that_had_begun_keeps_no_traceback() -> None:
    try:
        raise httpx.ReadError("x")
    except httpx.ReadError as caught:
        failure, error = broke_off(caught), caught
        assert error.__traceback__ is None
    assert isinstance(failure, Truncated)


@pytest.mark.parametrize("cold", [True, False])
@pytest.mark.parametrize("timer", ["first_byte", "idle"])
def test_an_answer_that_never_began_for_the_caller(timer: Timer, cold: bool) -> None:
    error = UpstreamTimeout(
        "nothing for 3 s", timer=timer, sent=True, received=True, detail="nothing of 10.0.0.1 for 3 s"
    )
    found = unbegun(error, cold=cold)
    named = "load" if cold else "first_byte"
    assert isinstance(found, UpstreamTimeout)
    assert (found.timer, found.code, found.sent, found.received) == (named, f"{named}_timeout", True, False)
    assert found.message == f"nothing for 3 s (timer {named})"
    assert found.detail == f"nothing of 10.0.0.1 for 3 s (timer {named})"
    lost = unbegun(Truncated("x", detail="y"), cold=cold)
    assert (type(lost), lost.message, lost.detail) == (ConnectionLost, "x", "y")


ABOVE = {"proxy/relay", "proxy/pool", "proxy/chain", "proxy/queue", "proxy/kernel", "proxy/ops", "middleware/retry"}


FILES = {"file_stamp.py", "plugin_import.py", "sqlite_file.py"}
"""What reads files."""


def test_nothing_above_a_transport_catches_its_exceptions() -> None:
    """Sockets towards clients, files and identity providers are not behind a transport, and are caught there."""
    for folder in sorted(ABOVE):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ExceptHandler) and node.type is not None and path.name not in FILES:
                    assert not re.search(r"\bOSError\b|httpx\.", ast.unparse(node.type)), f"{path}:{node.lineno}"
