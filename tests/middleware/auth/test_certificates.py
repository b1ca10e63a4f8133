from typing import Any

import pytest

from middleware.auth.certificates import CertificateOptions, Certificates, certificate_claims
from proxy.kernel.errors import Refused

POLICIES = frozenset({"robots"})
PEER: dict[str, Any] = {
    "subject": (
        (("countryName", "DE"),),
        (("organizationName", "ACME"),),
        (("organizationalUnitName", "robots"),),
        (("commonName", "ci"),),
    ),
    "subjectAltName": (("DNS", "ci.example.com"), ("URI", "spiffe://acme/ci"), ("email", "ci@example.com")),
    "notAfter": "Nov 22 13:15:00 2027 GMT",
}


def test_a_certificate_as_claims() -> None:
    assert certificate_claims(PEER) == {
        "c": ["DE"],
        "o": ["ACME"],
        "ou": ["robots"],
        "cn": ["ci"],
        "dns": ["ci.example.com"],
        "uri": ["spiffe://acme/ci"],
        "email": ["ci@example.com"],
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("ci", None, None)),
        ({"identity": "uri", "tenant": "o", "policy": "ou"}, ("spiffe://acme/ci", "ACME", "robots")),
        ({"identity": "dns", "policy": "cn", "policies": {"ci": "robots"}}, ("ci.example.com", None, "robots")),
        ({"prefix": "cert:"}, ("cert:ci", None, None)),
    ],
)
def test_who_it_speaks_of(options: dict[str, Any], expected: tuple[str | None, ...]) -> None:
    caller = Certificates(CertificateOptions(**options), policies=POLICIES).caller(PEER)
    assert (caller.identity, caller.tenant, caller.policy) == expected


@pytest.mark.parametrize(
    ("peer", "options"),
    [
        ({}, {}),
        ({"subject": ((("commonName", "a"),), (("commonName", "b"),))}, {}),
        (PEER, {"identity": "ip"}),
    ],
)
def test_without_one_identity_it_is_refused(peer: dict[str, Any], options: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        Certificates(CertificateOptions(**options), policies=POLICIES).caller(peer)
    assert refused.value.status == 401


def test_the_same_name_twice_is_one() -> None:
    peer = {"subject": ((("emailAddress", "a@b"),),), "subjectAltName": (("email", "a@b"),)}
    caller = Certificates(CertificateOptions(identity="email"), policies=POLICIES).caller(peer)
    assert caller.identity == "a@b"
