"""Requests of the commands to a running proxy: their options, and calls that end the command where they fail."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, Self

import httpx
import orjson
import typer

from config.settings import LISTEN
from proxy.commands.terminal import complain

URL: Final = f"http://{LISTEN}"
_HINTS: Final = {
    401: ("set OLLAMA_PROXY_KEY to a key whose policy allows the route class ops",),
    403: ("the policy of the key needs access: {routes: [..., ops]}",),
}
"""What the user can do about an error status."""
_ELSEWHERE: Final = "is it an ollama-proxy, and are its ops routes on a listener of their own?"
_OURS: Final = "content-security-policy"
"""A header of every response of the ops routes, so also of a 404 for an unknown name."""

UrlOption = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="OLLAMA_PROXY_URL",
        help="Where the proxy listens, or its ops listener: http://host:port, https://…, unix:/path.",
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="OLLAMA_PROXY_KEY",
        help="A key whose policy allows the route class ops. Better in the environment: others see arguments.",
        show_default=False,
    ),
]
CaOption = Annotated[
    Path | None,
    typer.Option("--ca", envvar="OLLAMA_PROXY_CA", help="The CA of the proxy's certificate, PEM.", metavar="FILE"),
]


def fail(*messages: str) -> NoReturn:
    """Print `messages` to stderr and exit with 1."""
    complain(*messages)
    raise typer.Exit(1)


class Failed(Exception):
    """A request to the proxy failed; `messages` say why."""

    def __init__(self, *messages: str) -> None:
        super().__init__(*messages)
        self.messages = messages


class Remote:
    """A connection to a running proxy, for use in a `with` block.

    Args:
        url: the address of the proxy.
        key: the API key to send; None for none.
        ca: the PEM file of the CA that signed its certificate; None for the system's CAs.
    """

    def __init__(self, url: str, key: str | None, ca: Path | None) -> None:
        self.url = url
        socket = url.removeprefix("unix:") if url.startswith("unix:") else None
        try:
            self._http = httpx.Client(
                base_url="http://localhost" if socket else url,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=httpx.Timeout(30.0, connect=5.0),
                transport=httpx.HTTPTransport(uds=socket, verify=ssl.create_default_context(cafile=ca)),
                trust_env=False,
            )
        except (OSError, ValueError, httpx.InvalidURL) as error:
            fail(f"{url}: {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def get(self, path: str) -> Any:
        """Return the JSON document at `path`; exits with 1 where that fails."""
        try:
            return self.look(path)
        except Failed as error:
            fail(*error.messages)

    def post(self, path: str, document: Mapping[str, Any] | None = None) -> Any:
        """Send a POST request and return its JSON answer; exits with 1 where that fails."""
        try:
            return self._answer(self._request("POST", path, document))
        except Failed as error:
            fail(*error.messages)

    def look(self, path: str) -> Any:
        """Return the JSON document at `path`; raises Failed."""
        return self._answer(self._request("GET", path))

    def _request(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> httpx.Response:
        try:
            return self._http.request(method, path, content=None if document is None else orjson.dumps(document))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Failed(f"{self.url} cannot be reached: {error}") from error

    def _answer(self, response: httpx.Response) -> Any:
        document = _document(response)
        if response.status_code not in (200, 422):
            said = document.get("error") if isinstance(document, dict) else None
            text = f"{self.url} answered {response.status_code}: {said or response.text[:300] or 'nothing'}"
            lost = response.status_code == 404 and _OURS not in response.headers
            raise Failed(text, *_HINTS.get(response.status_code, ()), *([_ELSEWHERE] if lost else []))
        if document is None:
            raise Failed(f"{self.url} is no ollama-proxy: it did not answer JSON")
        return document


def _document(response: httpx.Response) -> Any:
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None
