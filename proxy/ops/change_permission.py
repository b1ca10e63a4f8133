"""Permission to change something by the ops routes, beyond what `auth` and `access` in the chain decide."""

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Scope, header
from proxy.kernel.client_address import UNIX, is_forwarded, read_address
from proxy.kernel.cross_origin import same_origin
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.known_hosts import read_host


def check_change(exchange: Exchange) -> None:
    """Raise Refused (403) where the caller is unknown, or the request comes from a page of another origin.

    A caller without an identity must be on this machine: it must come from the loopback interface or a unix socket, be
    no trusted proxy, forward for nobody, and call the proxy by a name of this machine. (A page whose own name resolves
    to this machine would call the proxy by that name.)

    A browser attaches a client certificate, or comes from an allowed address, for any page. So a request that the
    browser says comes from another origin is refused, with or without credentials, even where CORS allows that origin.
    """
    scope = exchange.scope
    if _foreign(scope):
        raise Refused(403, "a page of another origin may not change anything here", code=codes.CROSS_ORIGIN)
    if exchange.identity is not None:
        return
    if not _local_address(exchange.client) or exchange.relayed or is_forwarded(scope):
        raise Refused(
            403,
            "nobody knows who you are, so that you may change something only from the machine the proxy runs on; "
            "add auth to the middleware list",
            code=codes.IDENTITY_REQUIRED,
        )
    if exchange.client != UNIX and not _local_name(header(scope["headers"], b"host") or b""):
        raise Refused(
            403, "without an identity the proxy must be called by localhost or its address", code=codes.BAD_HOST
        )


def _foreign(scope: Scope) -> bool:
    site = header(scope["headers"], b"sec-fetch-site")
    if site is not None:
        return site not in (b"same-origin", b"none")
    origin = header(scope["headers"], b"origin")
    return origin is not None and not same_origin(origin.decode("latin-1"), scope)


def _local_address(address: str) -> bool:
    if address == UNIX:
        return True
    ip = read_address(address)
    return ip is not None and ip.is_loopback


def _local_name(text: bytes) -> bool:
    host = read_host(text.decode("latin-1"))
    if host is None:
        return False
    if isinstance(host.name, str):
        return host.name == "localhost" or host.name.endswith(".localhost")
    return host.name.is_loopback
