from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from config.addresses import Address, HostName, Network, Permissions, Url
from proxy.kernel.units import Context, Mistake

URLS: TypeAdapter[Url] = TypeAdapter(Url)


@pytest.mark.parametrize(
    ("text", "host", "port", "path", "local"),
    [
        ("127.0.0.1:11435", "127.0.0.1", 11435, None, True),
        ("127.8.9.1:0", "127.8.9.1", 0, None, True),
        ("localhost:80", "localhost", 80, None, True),
        ("[::1]:11435", "::1", 11435, None, True),
        ("0.0.0.0:80", "0.0.0.0", 80, None, False),
        ("[::]:80", "::", 80, None, False),
        ("192.168.1.4:80", "192.168.1.4", 80, None, False),
        ("proxy.example.com:443", "proxy.example.com", 443, None, False),
        ("localhost.example.com:443", "localhost.example.com", 443, None, False),
        ("unix:/run/x.sock", "", 0, "/run/x.sock", True),
    ],
)
def test_addresses(text: str, host: str, port: int, path: str | None, local: bool) -> None:
    address = Address.parse(text)
    assert (address.host, address.port, address.path, address.local, str(address)) == (host, port, path, local, text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("localhost", "write localhost:11435"),
        (":80", "write 127.0.0.1:80, or 0.0.0.0:80 for everybody"),
        ("::1:80", "write [::1]:80"),
        ("[127.0.0.1]:80", None),
        ("a b:80", None),
        ("h:65536", None),
        ("h:-1", None),
        ("h:٣", None),
        ("http://h:80", None),
        ("unix:run.sock", None),
        ("unix:/a\0b", None),
        ("", None),
    ],
)
def test_what_is_no_address(text: str, hint: str | None) -> None:
    with pytest.raises(Mistake, match="expected host:port or unix:/path") as caught:
        Address.parse(text)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("text", "origin", "uds"),
    [
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434", None),
        ("https://gpu.example.com/", "https://gpu.example.com", None),
        ("http://[::1]:11434", "http://[::1]:11434", None),
        ("http://gpu_2:11434", "http://gpu_2:11434", None),
        ("unix:/run/ollama.sock", "http://localhost", "/run/ollama.sock"),
    ],
)
def test_urls(text: str, origin: str, uds: str | None) -> None:
    url = Url.parse(text)
    assert (url, url.origin, url.uds, url.shown) == (text.rstrip("/"), origin, uds, text)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("127.0.0.1:11434", "expected a URL", "write http://127.0.0.1:11434"),
        ("gpu-1", "expected a URL", "write http://gpu-1"),
        ("ftp://h", "expected a URL", None),
        ("http://", "expected a URL", None),
        ("http://a b", "expected a URL", None),
        ("http://h:99999", "expected a URL", None),
        ("http://h:x", "expected a URL", None),
        ("http://[::1", "expected a URL", None),
        ("http://h:1/api", "ends after the port", "write http://h:1"),
        ("http://h:1/?a=b", "ends after the port", "write http://h:1"),
        ("http://h:1#x", "ends after the port", "write http://h:1"),
        ("http://user:s3cret@h:1", "no user and password", "set headers: {Authorization: …}"),
        ("unix:ollama.sock", "expected a URL", None),
    ],
)
def test_what_is_no_url(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(Mistake, match=message) as caught:
        Url.parse(text)
    assert caught.value.hint == hint
    assert "s3cret" not in str(caught.value)


def test_a_url_from_the_environment_is_shown_as_it_was_written() -> None:
    context = Context(shown={"http://10.9.8.7:1": "${GPU}"})
    url = URLS.validate_python("http://10.9.8.7:1", context=context)
    assert (str(url), url.shown) == ("http://10.9.8.7:1", "${GPU}")
    assert URLS.validate_python("http://h:1", context=context).shown == "http://h:1"


@pytest.mark.parametrize("text", ["10.0.0.0/8", "10.0.0.7", "fd00::/8", "::1", "unix"])
def test_networks(text: str) -> None:
    assert str(Network.parse(text)).startswith(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [("10.0.0.1/8", "write 10.0.0.0/8"), ("10.0.0.0/33", None), ("x", None), ("unix:/x", None), ("", None)],
)
def test_what_is_no_network(text: str, hint: str | None) -> None:
    with pytest.raises(Mistake, match="expected a network") as caught:
        Network.parse(text)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("llm.example.com", "llm.example.com"),
        ("LLM.Example.com.", "llm.example.com"),
        ("*.example.com", "*.example.com"),
        ("proxy", "proxy"),
        ("my_proxy-1", "my_proxy-1"),
        ("203.0.113.7", "203.0.113.7"),
        ("[2001:DB8:0::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
    ],
)
def test_names_of_hosts(text: str, name: str) -> None:
    assert HostName.parse(text) == name


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("llm.example.com:11435", "without a port", "write llm.example.com"),
        ("https://llm.example.com", "without a port", "write llm.example.com"),
        ("https://llm.example.com:8443/x", "without a port", "write llm.example.com"),
        ("*", "of any name", "write the names that callers use"),
        ("*.", "expected a name", None),
        ("*example.com", "expected a name", None),
        ("a.*.example.com", "expected a name", None),
        ("", "expected a name", None),
        (".example.com", "expected a name", None),
        ("a b", "expected a name", None),
    ],
)
def test_what_is_no_name_of_a_host(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(Mistake, match=message) as caught:
        HostName.parse(text)
    assert caught.value.hint == hint


@pytest.mark.parametrize(("text", "permissions"), [("0660", 0o660), ("0600", 0o600), ("0777", 0o777), ("0000", 0)])
def test_permissions(text: str, permissions: int) -> None:
    assert Permissions.parse(text) == permissions
    assert Permissions.show(permissions) == text


@pytest.mark.parametrize("value", [660, 0o660, "660", "0o660", "0680", "06600", "0660 ", "rw-rw----", "", None, True])
def test_what_is_no_permissions(value: object) -> None:
    with pytest.raises(Mistake, match="expected permissions like 0660"):
        Permissions.parse(value)


@given(st.text())
def test_nothing_else_is_raised(text: str) -> None:
    for parse in (Address.parse, Url.parse, Network.parse, HostName.parse, Permissions.parse):
        try:
            parse(text)
        except Mistake:
            continue


def test_editors_learn_what_they_look_like() -> None:
    assert TypeAdapter(Address).json_schema()["examples"]
    assert URLS.json_schema()["examples"]
    assert TypeAdapter(Annotated[str, Network()]).json_schema()["examples"]
    assert TypeAdapter(Annotated[int, Permissions()]).json_schema()["examples"]
