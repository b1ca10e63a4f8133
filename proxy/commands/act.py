"""``ollama-proxy cancel · drain · undrain · unload``: actions of an operator on a running proxy."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from proxy.commands.remote import URL, CaOption, KeyOption, Remote, UrlOption
from proxy.commands.terminal import say

BackendArgument = Annotated[str, typer.Argument(help="The backend's name in the policy file.")]


def cancel(
    request: Annotated[str, typer.Argument(help="The request's id, as `status`, the log and X-Request-ID have it.")],
    url: UrlOption = URL,
    key: KeyOption = None,
    ca: CaOption = None,
) -> None:
    """End a running request: its backend stops, its client is told."""
    _do(url, key, ca, f"/-/cancel/{quote(request, safe='')}")


def drain(backend: BackendArgument, url: UrlOption = URL, key: KeyOption = None, ca: CaOption = None) -> None:
    """Send a backend no new requests; what it runs goes on."""
    _do(url, key, ca, f"/-/drain/{quote(backend, safe='')}")


def undrain(backend: BackendArgument, url: UrlOption = URL, key: KeyOption = None, ca: CaOption = None) -> None:
    """Send a backend requests again."""
    _do(url, key, ca, f"/-/undrain/{quote(backend, safe='')}")


def unload(
    backend: BackendArgument,
    model: Annotated[str, typer.Argument(help="The model's name.")],
    url: UrlOption = URL,
    key: KeyOption = None,
    ca: CaOption = None,
) -> None:
    """Let a backend forget a model."""
    _do(url, key, ca, f"/-/unload/{quote(backend, safe='')}?model={quote(model, safe='')}")


def _do(url: str, key: str | None, ca: Path | None, path: str) -> None:
    with Remote(url, key, ca) as remote:
        say(remote.post(path)["done"])
