"""Admitting the requests of pages in browsers: the frame asks this before any plugin sees the request.

A browser calls from where its user is and adds credentials by itself: a trusted address, a client certificate, a place
behind the firewall. So a page could act for its reader wherever nothing else asks for a key. Programs send none of the
fields that are judged here; they pass.
"""

from proxy.kernel.asgi import Header
from proxy.kernel.cross_origin import LONGEST, CrossOrigin, foreign, is_preflight, same_origin, with_credentials
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.known_hosts import KnownHosts


class PageGate:
    """Admits requests, or refuses them.

    Args:
        cross_origin: the pages of other origins that may call.
        hosts: the names that Host may say; None where callers are known by something that no browser adds by itself,
            or where the plugin that says who they are checks the Host itself.
    """

    def __init__(self, cross_origin: CrossOrigin | None = None, hosts: KnownHosts | None = None) -> None:
        self._cross_origin = cross_origin or CrossOrigin()
        self._hosts = hosts

    def admit(self, exchange: Exchange) -> list[Header] | None:
        """Return the fields for a page of another origin, None where no such page asks.

        Raises Refused (400, 403). Nothing of a request's body is read for that. `check_host` has to follow: what it
        raises goes out with these fields, so that the page can read it.
        """
        scope = exchange.scope
        origin = site = None
        for name, value in scope["headers"]:
            if name == b"origin":
                if origin is not None:
                    raise Refused(400, "more than one Origin field", code="bad_origin")
                if len(value) > LONGEST:
                    raise foreign(None)
                origin = value.decode("latin-1")
            elif name == b"sec-fetch-site":
                site = value
        if origin is None:
            if site == b"cross-site" and not _is_visit(exchange):
                raise foreign(None)
            return None
        # A trusted proxy in front may say another Host than the browser did, who knows best.
        if (site == b"same-origin" and exchange.relayed) or same_origin(origin, scope):
            return None
        fields = self._cross_origin.answer_fields(origin)
        if fields is None:
            raise foreign(origin)
        if scope.get("state", {}).get("tls_peer") and not with_credentials(fields):
            # A form, or a request whose answer no script reads, carries the certificate without being asked to.
            raise foreign(origin, certificate=True)
        return fields

    def check_host(self, exchange: Exchange) -> None:
        """Raise Refused (403) where the proxy is called by a name that is not known to be its own.

        Probes call it by whatever name they have, and what they are told is nobody's secret.
        """
        if self._hosts is not None and not (exchange.route is not None and exchange.route.probe):
            self._hosts.check(exchange.scope)

    def preflight(self, exchange: Exchange) -> list[Header] | None:
        """Return the further fields of the response to a preflight request; None where the request is none."""
        return self._cross_origin.preflight_fields(exchange.scope) if is_preflight(exchange.scope) else None


def _is_visit(exchange: Exchange) -> bool:
    """Return whether somebody follows a link from another site to one of the pages for people."""
    headers = dict(exchange.scope["headers"])
    return (
        exchange.route is not None
        and exchange.route.page
        and exchange.scope["method"] == "GET"
        and headers.get(b"sec-fetch-mode") == b"navigate"
        and headers.get(b"sec-fetch-dest") == b"document"
    )
