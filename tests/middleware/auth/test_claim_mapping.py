from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.auth.claim_mapping import ClaimMap, ClaimOptions, parse_path, values
from proxy.kernel.errors import Refused

POLICIES = frozenset({"guests", "research", "operators"})


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sub", ("sub",)),
        ("realm_access.roles", ("realm_access", "roles")),
        ("a.b.c", ("a", "b", "c")),
        (r"https://example\.com/roles", ("https://example.com/roles",)),
        ('"https://example.com/team".name', ("https://example.com/team", "name")),
        (r"resource_access.my\.app.roles", ("resource_access", "my.app", "roles")),
        (r"back\\slash", ("back\\slash",)),
        ("cognito:groups", ("cognito:groups",)),
    ],
)
def test_paths(text: str, path: tuple[str, ...]) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", '"', '"a"b', '""', "a\\"])
def test_paths_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="path of a claim"):
        parse_path(text)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_any_name_can_be_written(names: list[str]) -> None:
    text = ".".join(name.replace("\\", "\\\\").replace(".", "\\.").replace('"', '\\"') for name in names)
    if "\n" not in text:
        assert parse_path(text) == tuple(names)


CLAIMS: dict[str, Any] = {
    "sub": "alice",
    "uid": 42,
    "admin": True,
    "empty": "",
    "none": None,
    "realm_access": {"roles": ["offline_access", "research", "operators"]},
    "groups": [{"name": "a"}, {"name": "b"}, {"other": "c"}, "d", ["e"]],
    "scope": "openid chat embed",
    "scp": ["files"],
    "https://example.com/role": "research",
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("sub", ["alice"]),
        ("uid", ["42"]),
        ("admin", []),
        ("empty", []),
        ("none", []),
        ("missing.more", []),
        ("sub.more", []),
        ("realm_access", []),
        ("realm_access.roles", ["offline_access", "research", "operators"]),
        ("groups.name", ["a", "b"]),
        ("groups", ["d"]),
        ("scope", ["openid", "chat", "embed"]),
        ("scp", ["files"]),
        (r"https://example\.com/role", ["research"]),
    ],
)
def test_values(path: str, found: list[str]) -> None:
    assert list(values(CLAIMS, parse_path(path))) == found


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ({}, None),
        ({"default_policy": "guests"}, "guests"),
        ({"policy": "realm_access.roles"}, "research"),
        ({"policy": "realm_access.roles", "policies": {"operators": "operators", "research": "research"}}, "operators"),
        ({"policy": "realm_access.roles", "policies": {"offline_access": "guests"}}, "guests"),
        ({"policy": "missing", "default_policy": "guests"}, "guests"),
        ({"policy": "sub", "default_policy": "guests"}, "guests"),
        ({"policy": "realm_access.roles", "policies": {"other": "operators"}, "default_policy": "guests"}, "guests"),
        ({"policy": "scope", "policies": {"chat": "research"}}, "research"),
    ],
)
def test_which_policy(options: dict[str, Any], policy: str | None) -> None:
    assert ClaimMap(ClaimOptions(**options), POLICIES).caller(CLAIMS).policy == policy


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"policy": "missing"}, 403),
        ({"policy": "sub"}, 403),
        ({"policy": "realm_access.roles", "policies": {"other": "guests"}}, 403),
        ({"identity": "missing"}, 401),
        ({"identity": "empty"}, 401),
        ({"identity": "admin"}, 401),
        ({"identity": "realm_access.roles"}, 401),
        ({"scopes": ["chat", "admin"]}, 403),
    ],
)
def test_who_is_refused(options: dict[str, Any], status: int) -> None:
    with pytest.raises(Refused) as refused:
        ClaimMap(ClaimOptions(**options), POLICIES).caller(CLAIMS)
    assert refused.value.status == status


def test_scopes_may_stand_in_either_claim() -> None:
    assert ClaimMap(ClaimOptions(scopes=("chat", "files")), POLICIES).caller(CLAIMS).identity == "alice"


def test_identity_tenant_and_claims() -> None:
    options = ClaimOptions(identity="uid", prefix="corp/", tenant="groups.name")
    caller = ClaimMap(options, POLICIES).caller(CLAIMS)
    assert (caller.identity, caller.tenant, caller.claims) == ("corp/42", "a", CLAIMS)


@pytest.mark.parametrize("claim", ["sub", "org"])
@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\x9b31m", "a\u2028b", "a\u202eb", "x" * 257])
def test_a_name_that_would_spoil_a_log_is_none(claim: str, name: str) -> None:
    mapped = ClaimMap(ClaimOptions(tenant="org"), POLICIES)
    assert mapped.caller({"sub": "alice", "org": "physics"}).tenant == "physics"
    with pytest.raises(Refused):
        mapped.caller({"sub": "alice", "org": "physics", claim: name})


@pytest.mark.parametrize(
    "options", [{"identity": "a..b"}, {"scopes": ["a b"]}, {"scopes": ['"']}, {"polices": {}}, {"policy": ""}]
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(identity|scopes|polices|policy)"):
        ClaimOptions(**options)


def test_a_mapping_needs_its_claim() -> None:
    with pytest.raises(ValueError, match="needs policy"):
        ClaimMap(ClaimOptions(policies={"a": "guests"}), POLICIES)
