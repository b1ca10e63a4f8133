"""Authenticate callers by a verified TLS client certificate."""

from collections.abc import Mapping
from typing import Any, Final

from middleware.auth.caller import Caller
from middleware.auth.claim_mapping import ClaimMap, ClaimName, ClaimOptions

_NAMES: Final = {
    "commonName": "cn",
    "organizationName": "o",
    "organizationalUnitName": "ou",
    "countryName": "c",
    "emailAddress": "email",
    "DNS": "dns",
    "email": "email",
    "URI": "uri",
    "IP Address": "ip",
}


class CertificateOptions(ClaimOptions):
    """The use of client certificates; their claims are `cn`, `o`, `ou`, `c`, `dns`, `email`, `uri` and `ip`."""

    identity: ClaimName = "cn"
    """Part of the certificate that is the identity; it must have one value."""


class Certificates:
    """Turns verified client certificates into callers."""

    def __init__(self, options: CertificateOptions, *, policies: frozenset[str]) -> None:
        self._map = ClaimMap(options, policies, "certificate")

    def caller(self, peer: Mapping[str, Any]) -> Caller:
        """Return the caller of a certificate, the dict of `ssl.SSLSocket.getpeercert`; raises Refused (401, 403)."""
        return self.mapped(certificate_claims(peer))

    def mapped(self, claims: Mapping[str, Any]) -> Caller:
        """Return the caller for the claims of a certificate; raises Refused (401, 403)."""
        return self._map.caller(claims)


def certificate_claims(peer: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return subject and alternative names of a certificate as claims, each a list without repetitions."""
    claims: dict[str, list[str]] = {}
    subject = [pair for names in peer.get("subject", ()) for pair in names]
    for name, value in [*subject, *peer.get("subjectAltName", ())]:
        claim = claims.setdefault(_NAMES.get(name, name), [])
        if value not in claim:
            claim.append(value)
    return claims
