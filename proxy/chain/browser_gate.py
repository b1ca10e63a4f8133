"""Admit or refuse the requests of pages in browsers. The frame asks before any plugin sees the request.

A browser calls from its user's machine and adds credentials by itself: a trusted address, a client certificate, a place
behind the firewall. So any page could act for its reader wherever nothing else asks for a key. Programs send none of
the header fields that are checked here, so their requests pass.
"""

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Header
from proxy.kernel.cross_origin import LONGEST, CrossOrigin, foreign, is_preflight, same_origin, with_credentials
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.known_hosts import KnownHosts


class PageGate:
    """Admits or refuses the requests of pages in browsers.

    Args:
        cross_origin: the pages of other origins that may call.
        hosts: the names that the Host field may have; None where callers are known by credentials that no browser adds
            by itself, or where the plugin that authenticates them checks the Host field itself.
    """

    def __init__(self, cross_origin: CrossOrigin | None = None, hosts: KnownHosts | None = None) -> None:
        self._cross_origin = cross_origin or CrossOrigin()
        self._hosts = hosts

    def admit(self, exchange: Exchange) -> list[Header] | None:
        """Return the response fields for a page of another origin, None where the request is from no such page.

        Raises Refused (400, 403). Reads nothing of the request's body. `check_host` must be called after it: its error
        goes out with these fields, so that the page can read it.
        """
        scope = exchange.scope
        origin = site = None
        for name, value in scope["headers"]:
            if name == b"origin":
                if origin is not None:
                    raise Refused(400, "more than one Origin field", code=codes.BAD_ORIGIN)
                if len(value) > LONGEST:
                    raise foreign(None)
                origin = value.decode("latin-1")
            elif name == b"sec-fetch-site":
                site = value
        if origin is None:
            if site == b"cross-site" and not _is_visit(exchange):
                raise foreign(None)
            return None
        # A trusted proxy in front may send another Host than the browser did; the browser's own field is right.
        if (site == b"same-origin" and exchange.relayed) or same_origin(origin, scope):
            return None
        fields = self._cross_origin.answer_fields(origin)
        if fields is None:
            raise foreign(origin)
        if scope.get("state", {}).get("tls_peer") and not with_credentials(fields):
            # A browser sends the certificate with a form, or with a request whose response no script reads, unasked.
            raise foreign(origin, certificate=True)
        return fields

    def check_host(self, exchange: Exchange) -> None:
        """Raise Refused (403) where the Host field has a name that is not known to be the proxy's.

        The routes for probes take any name: probes use various names, and the response holds no secret.
        """
        if self._hosts is not None and not (exchange.route is not None and exchange.route.probe):
            self._hosts.check(exchange.scope)

    def preflight(self, exchange: Exchange) -> list[Header] | None:
        """Return the further response fields for a preflight request; None for any other request."""
        return self._cross_origin.preflight_fields(exchange.scope) if is_preflight(exchange.scope) else None


def _is_visit(exchange: Exchange) -> bool:
    """Return whether the request follows a link from another site to one of the pages for people."""
    headers = dict(exchange.scope["headers"])
    return (
        exchange.route is not None
        and exchange.route.page
        and exchange.scope["method"] == "GET"
        and headers.get(b"sec-fetch-mode") == b"navigate"
        and headers.get(b"sec-fetch-dest") == b"document"
    )
