"""Addresses in the policy file: where to listen, the URLs of backends, trusted proxies, host names."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from proxy.kernel.units import Context, Mistake, scalar

PORT: Final = 11435
"""The default port: the one after Ollama's."""

_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_PORT: Final = re.compile("[0-9]{1,5}")
_HOST_AND_PORT: Final = re.compile(rf"{_HOST.pattern}(:[0-9]+)?")
_LISTEN: Final = r"(unix:/.+|(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5})"
_URL: Final = r"(unix:/.+|https?://.+)"
_A_URL: Final = "expected a URL like http://127.0.0.1:11434"
_PERMISSIONS: Final = re.compile("0[0-7]{3}")


@dataclass(frozen=True, slots=True)
class Address:
    """A socket to listen on: a host and port, or the path of a unix socket."""

    host: str = ""
    port: int = 0
    path: str | None = None

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read ``127.0.0.1:11435``, ``[::1]:11435``, ``localhost:0`` or ``unix:/run/x.sock``, or raise Mistake."""
        if not isinstance(text, str) or text.isdecimal():
            raise Mistake("expected host:port or unix:/path", f"write 127.0.0.1:{text}" if _is_port(text) else None)
        if text.startswith("unix:/") and "\0" not in text:
            return cls(path=text.removeprefix("unix:"))
        host, colon, port = text.rpartition(":")
        if not (colon and _PORT.fullmatch(port) and int(port) <= 65535):
            raise Mistake("expected host:port or unix:/path", f"write {text}:{PORT}" if _is_host(text) else None)
        if not host:
            raise Mistake("expected host:port or unix:/path", f"write 127.0.0.1{text}, or 0.0.0.0{text} for everybody")
        if not _is_host(host):
            hint = f"write [{host}]:{port}" if _is_host(f"[{host}]") else None
            raise Mistake("expected host:port or unix:/path", hint)
        return cls(host.strip("[]"), int(port))

    @property
    def local(self) -> bool:
        """Return whether only this machine can reach the address."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return scalar(cls.parse, str)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        examples = [f"127.0.0.1:{PORT}", f"[::1]:{PORT}", "unix:/run/ollama-proxy.sock"]
        return {"title": "an address", "type": "string", "pattern": f"^{_LISTEN}$", "examples": examples}


class Url(str):
    """The address of a backend: ``http://host:port``, ``https://host:port`` or ``unix:/path``, without a URL path.

    Attributes:
        shown: the URL for prints; if it came from the environment, the text written in the policy file.
    """

    __slots__ = ("shown",)
    shown: str

    @classmethod
    def parse(cls, text: object, shown: str | None = None) -> Self:
        """Read a URL, or raise Mistake."""
        if not isinstance(text, str) or text.isdecimal():
            raise Mistake(_A_URL, f"write http://127.0.0.1:{text}" if _is_port(text) else None)
        if not (text.startswith("unix:/") and "\0" not in text):
            _check_url(text)
        url = cls(text.rstrip("/"))
        url.shown = text if shown is None else shown
        return url

    @property
    def uds(self) -> str | None:
        """Return the path of the backend's unix socket, or None if the backend is on a network."""
        return self.removeprefix("unix:") if self.startswith("unix:") else None

    @property
    def origin(self) -> str:
        """Return scheme, host and port for requests; a backend behind a unix socket has the host localhost."""
        return str(self) if self.uds is None else "http://localhost"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            lambda text, info: cls.parse(text, Context.of(info).shown.get(text) if isinstance(text, str) else None),
            serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "title": "a URL",
            "type": "string",
            "pattern": f"^{_URL}$",
            "examples": ["http://127.0.0.1:11434", "unix:/run/ollama.sock"],
        }


def _check_url(text: str) -> None:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise Mistake(_A_URL) from None
    if parts.scheme not in ("http", "https"):
        raise Mistake(_A_URL, f"write http://{text}" if _HOST_AND_PORT.fullmatch(text) else None)
    if "@" in parts.netloc:
        raise Mistake("a backend's URL holds no user and password", "set headers: {Authorization: …}")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "?" in text or "#" in text:
        raise Mistake("a backend's URL ends after the port", f"write {_origin(parts)}")
    if not _is_host(parts.netloc.removesuffix(f":{port}")):
        raise Mistake(_A_URL)


def _origin(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc}"


def _is_port(value: object) -> bool:
    """Return whether a number, or the text of one, is a port to listen on."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return False
    return _PORT.fullmatch(str(value)) is not None and 0 < int(value) <= 65535


def _is_host(text: str) -> bool:
    if text.startswith("[") and text.endswith("]"):
        try:
            return ip_address(text[1:-1]).version == 6
        except ValueError:
            return False
    return _HOST.fullmatch(text) is not None


class Network:
    """Annotation for trusted proxies: an IPv4 or IPv6 network, a single address, or all callers on our unix sockets."""

    @staticmethod
    def parse(text: str) -> IPv4Network | IPv6Network | Literal["unix"]:
        """Read ``10.0.0.0/8``, ``fd00::/8``, ``10.0.0.7`` or ``unix``, or raise Mistake."""
        if text == "unix":
            return "unix"
        try:
            return ip_network(text)
        except ValueError:
            pass
        try:
            hint = f"write {ip_network(text, strict=False)}"
        except ValueError:
            hint = None
        raise Mistake("expected a network like 10.0.0.0/8 or an address", hint)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _text(lambda text, _: self.parse(text))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"title": "a network", "type": "string", "examples": ["10.0.0.0/8", "fd00::/8", "unix"]}


class HostName:
    """Annotation for a name allowed in the Host field: a name, an address, or ``*.`` and the end of a name."""

    @staticmethod
    def parse(text: str) -> str:
        """Read ``llm.example.com``, ``*.example.com`` or ``203.0.113.7``, or raise Mistake."""
        host = text.strip("[]") if _is_host(text) else text
        try:
            return str(ip_address(host))
        except ValueError:
            name = text.removesuffix(".").lower()
        if text == "*":
            raise Mistake("would let a page of any name call", "write the names that callers use")
        if _HOST.fullmatch(name.removeprefix("*.")):
            return name
        bare = text.partition("://")[2] or text
        bare = bare.partition("/")[0]
        bare = bare.rpartition(":")[0] if bare.rpartition(":")[2].isdigit() else bare
        hint = f"write {bare}" if bare != text and _HOST.fullmatch(bare.removeprefix("*.")) else None
        raise Mistake("expected a name like llm.example.com, *.example.com or an address, without a port", hint)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _text(lambda text, _: self.parse(text))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"title": "a name of the proxy", "type": "string", "examples": ["llm.example.com", "*.example.com"]}


class Permissions:
    """Annotation for a file's permissions, written in octal with a leading zero, as for ``chmod``."""

    @staticmethod
    def parse(value: object) -> int:
        """Read ``0660``, or raise Mistake. A number is refused: the author meant octal, but YAML read decimal."""
        if isinstance(value, str) and _PERMISSIONS.fullmatch(value):
            return int(value, 8)
        raise Mistake("expected permissions like 0660")

    @staticmethod
    def show(permissions: int) -> str:
        """Return the permissions as the policy file writes them."""
        return f"{permissions:04o}"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return scalar(self.parse, self.show)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "title": "permissions",
            "type": "string",
            "pattern": f"^{_PERMISSIONS.pattern}$",
            "examples": ["0660", "0600", "0666"],
        }


def _text(read: Any) -> CoreSchema:
    return core_schema.with_info_after_validator_function(
        read,
        core_schema.str_schema(strict=True),
        serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json"),
    )
