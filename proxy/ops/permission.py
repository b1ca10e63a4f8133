"""Who may change something by the ops routes, beyond what `auth` and `access` in the chain decide."""

from proxy.address import UNIX, is_forwarded, read_address
from proxy.asgi import Scope, header
from proxy.errors import Refused
from proxy.exchange import Exchange


def check_change(exchange: Exchange) -> None:
    """Raise Refused (403) where nobody knows who wants to change something, or a foreign page does.

    Without an identity it must be somebody at this machine: a caller from its loopback interface or a unix socket, who
    is no trusted proxy and does not forward for others, and who calls it by a name of this machine (a page that had its
    own name point here would call it by that).

    A browser attaches a client certificate, or comes from an allowed address, whoever's page makes it call. So what a
    browser says comes from another origin is refused, credentials or not.
    """
    headers = exchange.scope["headers"]
    host = (header(headers, b"host") or b"").decode("latin-1")
    if _foreign(exchange.scope, host):
        raise Refused(403, "a page of another origin may not change anything here", code="cross_origin")
    if exchange.identity is not None:
        return
    if not _local_address(exchange.client) or exchange.relayed or is_forwarded(exchange.scope):
        raise Refused(
            403,
            "nobody knows who you are, so that you may change something only from the machine the proxy runs on; "
            "add auth to the middleware list",
            code="identity_required",
        )
    if exchange.client != UNIX and not _local_name(host):
        raise Refused(403, "without an identity the proxy must be called by localhost or its address", code="bad_host")


def _foreign(scope: Scope, host: str) -> bool:
    site = header(scope["headers"], b"sec-fetch-site")
    if site is not None:
        return site not in (b"same-origin", b"none")
    origin = header(scope["headers"], b"origin")
    return origin is not None and origin.decode("latin-1").partition("://")[2].lower() != host.lower()


def _local_address(address: str) -> bool:
    if address == UNIX:
        return True
    ip = read_address(address)
    return ip is not None and ip.is_loopback


def _local_name(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name == "localhost" or name.endswith(".localhost") or _local_address(name)
