"""Ollama's checks of Host (DNS rebinding) and Origin (CORS)."""

import ipaddress
import re
import socket
from typing import Final

from proxy.simulator.request import Request
from proxy.simulator.settings import Settings

_PRIVATE: Final = tuple(
    ipaddress.ip_network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
_LOCAL: Final = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - names in a list, nothing listens there
_ORIGINS: Final = (
    *(f"{scheme}://{host}{port}" for host in _LOCAL for scheme in ("http", "https") for port in ("", ":*")),
    *("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*"),
)
_ALLOWED_HEADERS: Final = b"Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta"

Headers = list[tuple[bytes, bytes]]


def host_allowed(request: Request) -> bool:
    """Return whether Ollama on loopback answers to this Host."""
    host = _without_port((request.header("host") or b"").decode("latin-1"))
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        host = host.lower()
        return host in ("", "localhost", socket.gethostname().lower()) or host.endswith(
            (".localhost", ".local", ".internal")
        )
    private = any(address in network for network in _PRIVATE if network.version == address.version)
    return address.is_loopback or address.is_unspecified or private


def cors(settings: Settings, request: Request) -> tuple[int | None, Headers]:
    """Return (status that ends the request or None, headers for the answer)."""
    origin = (request.header("origin") or b"").decode("latin-1")
    host = (request.header("host") or b"").decode("latin-1")
    if not origin or origin in (f"http://{host}", f"https://{host}"):
        return None, []
    if not _origin_allowed(settings, origin):
        return 403, []
    headers = [(b"Access-Control-Allow-Origin", origin.encode("latin-1")), (b"Vary", b"Origin")]
    if request.method != "OPTIONS":
        return None, headers
    return 204, [
        *headers,
        (b"Access-Control-Allow-Methods", b"GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
        (b"Access-Control-Allow-Headers", _ALLOWED_HEADERS),
        (b"Access-Control-Max-Age", b"43200"),
    ]


def _origin_allowed(settings: Settings, origin: str) -> bool:
    patterns = (*settings.origins, *_ORIGINS)
    return any(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), origin) for pattern in patterns)


def _without_port(host: str) -> str:
    head, colon, port = host.rpartition(":")
    return head if colon and port.isdigit() and (":" not in head or head.endswith("]")) else host
