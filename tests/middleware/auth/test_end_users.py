"""middleware/auth/end_users.py."""

import orjson
import pytest
from pydantic import ValidationError

from middleware.auth.end_users import OPEN_WEBUI, EndUserOptions, EndUsers
from proxy.kernel.exchange import Exchange
from proxy.testing import make_exchange, suppose

EMAIL, ID, NAME = OPEN_WEBUI


def settled(
    *headers: tuple[str, str], identity: str | None = "webui", body: dict[str, object] | None = None, path: str = ""
) -> Exchange:
    exchange = make_exchange("POST", path or "/api/chat", headers=headers, body=orjson.dumps(body or {}))
    suppose(exchange, identity=identity)
    EndUsers(EndUserOptions(trusted=frozenset({"webui"}), body=body is not None)).settle(exchange)
    return exchange


@pytest.mark.parametrize(
    ("headers", "end_user"),
    [
        ([], None),
        ([(NAME, "Ann"), (EMAIL, "ann@example.com"), (ID, "7")], "ann@example.com"),
        ([(NAME, "Ann"), (ID, "7")], "7"),
        ([(NAME, "J%C3%BCrgen Doe")], "Jürgen Doe"),
        ([(NAME, "100%")], "100%"),
        ([(EMAIL, ""), (ID, "7")], "7"),
        ([(EMAIL, "x" * 300), (ID, "7")], "7"),
        ([(EMAIL, "ann%0Abob"), (ID, "7")], "7"),
        ([(EMAIL, "ann"), (EMAIL, "bob"), (ID, "7")], "7"),  # nobody knows which of the two
        ([("x_openwebui_user_email", "ann")], None),
    ],
)
def test_the_first_header_with_a_usable_name_counts(headers: list[tuple[str, str]], end_user: str | None) -> None:
    assert settled(*headers).end_user == end_user


@pytest.mark.parametrize("identity", [None, "", "alice", "WebUI"])
def test_the_word_of_others_does_not_count(identity: str | None) -> None:
    exchange = settled((EMAIL, "ann@example.com"), identity=identity, body={"user": "ann"}, path="/v1/completions")
    assert (exchange.end_user, exchange.end_user_in_body) == (None, False)


@pytest.mark.parametrize("identity", [None, "alice", "webui"])
def test_nobodys_word_goes_on(identity: str | None) -> None:
    exchange = settled((EMAIL, "a"), ("Accept", "b"), ("x_openwebui_user_name", "c"), identity=identity)
    assert exchange.scope["headers"] == [(b"accept", b"b")]


async def test_the_body_is_asked_where_no_header_says() -> None:
    body: dict[str, object] = {"model": "a", "user": "ann"}
    exchange = settled(body=body, path="/v1/chat/completions")
    assert (exchange.end_user, exchange.end_user_in_body) == (None, True)  # it was not read
    await exchange.body()
    assert exchange.end_user == "ann"
    exchange.release_body()
    assert exchange.end_user == "ann"
    exchange = settled((ID, "7"), body=body, path="/v1/chat/completions")
    await exchange.body()
    assert (exchange.end_user, exchange.end_user_in_body) == ("7", False)


def test_somebody_has_to_be_trusted() -> None:
    with pytest.raises(ValidationError):
        EndUserOptions(trusted=frozenset())


@pytest.mark.parametrize("name", ["a b", "Host", "content-length", "Authorization", "X-Forwarded-For"])
def test_a_header_with_another_meaning_names_nobody(name: str) -> None:
    with pytest.raises(ValidationError):
        EndUserOptions(trusted=frozenset({"webui"}), headers=(name,))
