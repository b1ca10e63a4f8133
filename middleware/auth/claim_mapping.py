r"""Turn the claims of a token or certificate into a `Caller`.

The path of a claim names it: ``sub``, ``realm_access.roles``. A dot that belongs to a name is written ``\.``, or the
name stands in quotes: ``https://example\.com/team`` or ``"https://example.com/team".name``. If a path meets a list, it
continues in each element, so a path has any number of values.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict

from middleware.auth.caller import UNFIT, Caller, forbidden, insufficient_scope, unauthorized
from proxy.kernel import error_codes as codes
from proxy.kernel.units import PolicyName

Path = tuple[str, ...]

_SEGMENT: Final = re.compile(r'"([^"]+)"|((?:[^."\\]|\\.)+)')
_NAME: Final = re.compile(rf"[^{UNFIT}]{{1,256}}")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # the scope-token of RFC 6749, section 3.3
_SCOPE_CLAIMS: Final = frozenset({("scope",), ("scp",)})


def parse_path(text: str) -> Path:
    """Read the path of a claim; raises ValueError."""
    segments: list[str] = []
    at = 0
    while match := _SEGMENT.match(text, at):
        segments.append(match[1] or re.sub(r"\\(.)", r"\1", match[2]))
        at = match.end()
        if at == len(text):
            return tuple(segments)
        if text[at] != ".":
            break
        at += 1
    raise ValueError(r"expected the path of a claim, like sub or realm_access.roles; a dot in a name is written \.")


def _claim(text: str) -> str:
    parse_path(text)
    return text


def _scope(text: str) -> str:
    if not _SCOPE.fullmatch(text):
        raise ValueError("expected one scope")
    return text


ClaimName = Annotated[str, AfterValidator(_claim)]
Scope = Annotated[str, AfterValidator(_scope)]


class ClaimOptions(BaseModel):
    """The claims that identify the caller, and the claims required of a caller."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    identity: ClaimName = "sub"
    """Claim that is the caller's identity; it must have one value."""
    prefix: str = ""
    """Text in front of every identity, to tell two providers' users apart."""
    tenant: ClaimName | None = None
    """Claim that is the caller's tenant."""
    policy: ClaimName | None = None
    """Claim whose values name policies, such as roles or groups."""
    policies: dict[str, PolicyName] = {}
    """Value of the policy claim → policy; the first entry that the caller has counts."""
    default_policy: PolicyName | None = None
    """Policy of callers whose policy claim names none; if left out, they are refused."""
    scopes: tuple[Scope, ...] = ()
    """Scopes that a token must have, all of them."""


class ClaimMap:
    """Turns claims into a caller. Precomputed from `ClaimOptions` and the names of all policies.

    `method` says how its callers are known; see `proxy.kernel.journal.StoredCaller.method`.
    """

    def __init__(self, options: ClaimOptions, policies: frozenset[str], method: str = "none") -> None:
        self._method = method
        if options.policies and options.policy is None:
            raise ValueError("policies needs policy, the claim whose values it maps")
        self._identity = parse_path(options.identity)
        self._identity_name = options.identity
        self._prefix = options.prefix
        self._tenant = parse_path(options.tenant) if options.tenant else None
        self._policy = parse_path(options.policy) if options.policy else None
        self._chosen = options.policies or {name: name for name in policies}
        self._ordered = bool(options.policies)
        self._default = options.default_policy
        self._scopes = frozenset(options.scopes)
        self._scopes_text = " ".join(options.scopes)

    def caller(self, claims: Mapping[str, Any]) -> Caller:
        """Return the caller for `claims`; raises Refused (401 no identity, 403 no scope or no policy)."""
        identities = list(values(claims, self._identity))
        tenant = next(values(claims, self._tenant), None) if self._tenant else None
        if len(identities) != 1 or not _NAME.fullmatch(identities[0]):
            raise unauthorized(f"the credential does not have one usable {self._identity_name}")
        if tenant is not None and not _NAME.fullmatch(tenant):
            raise unauthorized("the credential does not have a usable tenant")
        if not self._scopes <= set(scopes_of(claims)):
            raise insufficient_scope(self._scopes_text)
        return Caller(self._prefix + identities[0], tenant, self._policy_of(claims), claims, self._method)

    def _policy_of(self, claims: Mapping[str, Any]) -> str | None:
        """Return the first matching policy, in the order of ``policies`` if given, else in that of the claim."""
        if self._policy is None:
            return self._default
        named = list(values(claims, self._policy))
        order: Sequence[str] = [name for name in self._chosen if name in named] if self._ordered else named
        for name in order:
            if name in self._chosen:
                return self._chosen[name]
        if self._default is None:
            raise forbidden("no policy here is meant for this caller", code=codes.NO_POLICY)
        return self._default


def values(claims: Mapping[str, Any], path: Path) -> Iterator[str]:
    """Yield every value at `path` as text, in order; the two scope claims word by word (RFC 8693, section 4.2)."""
    for value in _walk(claims, path):
        if isinstance(value, str):
            if path in _SCOPE_CLAIMS:
                yield from value.split()
            elif value:
                yield value
        elif isinstance(value, int) and not isinstance(value, bool):
            yield str(value)


def scopes_of(claims: Mapping[str, Any]) -> Iterator[str]:
    """Yield the scopes of a token, in every spelling that providers use."""
    for path in _SCOPE_CLAIMS:
        yield from values(claims, path)


def _walk(value: Any, path: Path) -> Iterator[Any]:
    if isinstance(value, list):
        for element in value:
            if not isinstance(element, list):
                yield from _walk(element, path)
    elif not path:
        yield value
    elif isinstance(value, Mapping) and path[0] in value:
        yield from _walk(value[path[0]], path[1:])
