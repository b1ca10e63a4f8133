"""The person for whom a trusted caller calls: an application in front of the proxy that has one key for all its people.

Only the word of callers that the policy file lists counts. What others send in these headers is ignored, and nothing in
them goes to a backend, whoever sent it: they hold names and addresses of people.
"""

from collections.abc import Iterable
from typing import Annotated, Final
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from proxy.kernel.asgi import Header, header_values
from proxy.kernel.end_user import named_in, usable
from proxy.kernel.exchange import Exchange
from proxy.kernel.exchange_parts import AuthPart

OPEN_WEBUI: Final = ("X-OpenWebUI-User-Email", "X-OpenWebUI-User-Id", "X-OpenWebUI-User-Name")

_TAKEN: Final = frozenset({
    *("accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect"),
    *("host", "te", "trailer", "transfer-encoding", "upgrade", "via", "authorization", "cookie", "origin", "referer"),
    *("forwarded", "user-agent", "x-api-key", "x-forwarded-for", "x-request-id", "x-request-timeout"),
})  # fmt: skip
"""Headers that the proxy or a backend reads for something else, and that must not be taken out of requests."""


def _is_free(name: str) -> str:
    if name.lower() in _TAKEN:
        raise ValueError("expected a header that names a person: this one has another meaning")
    return name


HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$"), AfterValidator(_is_free)]


class EndUserOptions(BaseModel):
    """Which callers may say for whom they call, and where they say it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    trusted: Annotated[frozenset[str], Field(min_length=1)]
    """Identities (names of keys, for example) whose word counts. Give their keys to applications, not to people, and
    the identities of tokens a `prefix`, so that nobody has the same."""
    headers: tuple[HeaderName, ...] = OPEN_WEBUI
    """Request headers that name the person; the first that has a value counts. They never reach a backend."""
    body: bool = False
    """Where no header names one, read the request's body: `safety_identifier` or `user` of OpenAI's API,
    `metadata.user_id` of Anthropic's."""


class EndUsers:
    """Finds the person for whom a request is made.

    Args:
        options: whose word counts, and where it stands.
    """

    def __init__(self, options: EndUserOptions) -> None:
        self._trusted = options.trusted
        self._names = tuple(name.lower().encode() for name in options.headers)
        self._body = options.body

    def settle(self, exchange: Exchange) -> None:
        """Set the end user of a request whose caller is known, and remove the headers that name one."""
        headers: list[Header] = exchange.scope["headers"]
        if any(_is_one_of(name, self._names) for name, _ in headers):
            exchange.scope["headers"] = [pair for pair in headers if not _is_one_of(pair[0], self._names)]
        if exchange.identity not in self._trusted:
            return
        noted = exchange.part(AuthPart)
        noted.end_user = self._in(headers)
        if self._body and noted.end_user is None:
            noted.end_user_in_body = True
            exchange.before_body_release(_keep)

    def _in(self, headers: Iterable[Header]) -> str | None:
        for name in self._names:
            values = set(header_values(headers, name))
            if len(values) == 1 and (found := usable(_text(values.pop()))) is not None:
                return found
        return None


def _keep(exchange: Exchange) -> None:
    """Keep the end user whom the body names, as the body is about to be released."""
    exchange.part(AuthPart).end_user = named_in(exchange.document, exchange.flavor)


def _is_one_of(name: bytes, names: tuple[bytes, ...]) -> bool:
    return name in names or (b"_" in name and name.replace(b"_", b"-") in names)


def _text(value: bytes) -> str:
    """Return the text of a header; Open WebUI writes names percent-encoded."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return unquote(text) if "%" in text else text
