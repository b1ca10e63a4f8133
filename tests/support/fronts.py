"""nginx, Caddy and Traefik in front of a proxy, each with the configuration of its page in docs/guides.

Of what stands there only addresses and paths are replaced; a test may change more, and says what.
"""

import asyncio
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.certificates import Authority, Pair
from tests.support.process import ROOT, free_port, start_process
from tests.support.wire import Client, Reply, request

NAME: Final = "llm.example.com"
"""The name of the machine on the pages."""
PATIENCE: Final = 20.0
"""Seconds until a front that does not answer has failed."""
_PATH: Final = os.pathsep.join([str(ROOT / ".fronts/bin"), os.environ.get("PATH", ""), "/usr/sbin"])

Changes = Mapping[str, str]


def block(front: str, language: str, number: int = 0) -> str:
    """Return a block of the page about `front`: the one with this `number` among those in `language`."""
    page = (ROOT / "docs/guides" / f"behind-{front}.md").read_text("utf-8")
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", page, re.M | re.S)
    return blocks[number]


def changed(text: str, changes: Changes) -> str:
    """Return `text` with each key of `changes` replaced by its value; all of them must stand in it."""
    for old, new in changes.items():
        assert old in text, f"the page does not say {old}"
        text = text.replace(old, new)
    return text


@dataclass(frozen=True)
class Place:
    """What a front is given in a test: its folder, its port, its certificate, and where the proxy listens."""

    folder: Path
    port: int
    pair: Pair
    target: str

    @property
    def certificate(self) -> Changes:
        return {f"/etc/ssl/{NAME}.pem": self.pair.cert, f"/etc/ssl/{NAME}.key": self.pair.key}


def nginx(place: Place, changes: Changes, text: str | None = None) -> list[str]:
    """Write the configuration of nginx, `text` or what its page says, and return the command that starts it."""
    folder = place.folder
    spools = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    site = changed(
        text or block("nginx", "nginx"),
        {
            **changes,
            **place.certificate,
            "listen 443": f"listen 127.0.0.1:{place.port}",
            "127.0.0.1:11435": place.target,
            "/var/log/nginx": str(folder),
        },
    )
    user = "user root;" if os.geteuid() == 0 else ""  # who may read the folder of a test
    main = f"{user} daemon off; worker_processes 1; pid {folder}/pid; error_log stderr; events {{}}"
    (folder / "nginx.conf").write_text(f"{main}\nhttp {{\n{spools}\n{site}\n}}\n")
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def caddy(place: Place, changes: Changes, text: str | None = None) -> list[str]:
    """Write the configuration of Caddy and return the command that starts it."""
    site = changed(
        text or block("caddy", "caddyfile"),
        {
            **changes,
            **place.certificate,
            f"{NAME} {{": f"{NAME}:{place.port} {{\n\tbind 127.0.0.1",
            "127.0.0.1:11435": place.target.replace("unix:", "unix/"),
        },
    )
    quiet = "{\n\tadmin off\n\tpersist_config off\n\tauto_https disable_redirects\n}\n"
    (place.folder / "Caddyfile").write_text(quiet + site)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(place.folder / "Caddyfile")]


def traefik(place: Place, changes: Changes, text: str | None = None) -> list[str]:
    """Write the configuration of Traefik and return the command that starts it."""
    both = block("traefik", "yaml", 1), text or block("traefik", "yaml", 2)
    routes = place.folder / "routes.yaml"
    here = {
        **changes,
        **place.certificate,
        "127.0.0.1:11435": place.target,
        '":443"': f'"127.0.0.1:{place.port}"',
        "/etc/traefik/ollama-proxy.yaml": str(routes),
        # Between two changes of its routes it waits for 2 s, also when it is to end.
        "providers:\n": "providers:\n  providersThrottleDuration: 10ms\n",
    }
    static, _, dynamic = changed("\0".join(both), here).partition("\0")
    (place.folder / "traefik.yaml").write_text(static)
    routes.write_text(dynamic)
    return ["traefik", f"--configFile={place.folder / 'traefik.yaml'}"]


KINDS: Final[dict[str, Callable[..., list[str]]]] = {"nginx": nginx, "caddy": caddy, "traefik": traefik}


class Front:
    """A running front."""

    def __init__(self, place: Place, authority: str) -> None:
        self.folder = place.folder
        self.port = place.port
        self.authority = authority
        self._trust = ssl.create_default_context(cafile=authority)

    @property
    def host(self) -> str:
        return f"{NAME}:{self.port}"

    async def connect(self, source: str = "127.0.0.1") -> Client:
        """Connect with TLS, from the address `source`."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self._trust, server_hostname=NAME, limit=2**20, local_addr=(source, 0)
        )
        return Client(reader, writer)

    def request(
        self, method: str, path: str, body: bytes | dict[str, Any] | None = None, headers: Changes | None = None
    ) -> bytes:
        return request(method, path, body, {"Host": self.host, **(headers or {})})

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        headers: Changes | None = None,
        source: str = "127.0.0.1",
    ) -> Reply:
        """Make one request on a connection of its own."""
        client = await self.connect(source)
        try:
            await client.send(self.request(method, path, body, headers))
            return await client.read(bodyless=method == "HEAD")
        finally:
            await client.close()

    async def answers(self) -> bool:
        """Return whether a request reaches the proxy."""
        with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            return (await self.ask("GET", "/-/readyz")).status != 404
        return False


@asynccontextmanager
async def in_front(
    kind: str, target: str | tuple[str, int], folder: Path, changes: Changes | None = None, text: str | None = None
) -> AsyncIterator[Front]:
    """Run a front before the proxy at `target`, an address or ``unix:/path``, until it passes requests on.

    Args:
        kind: ``nginx``, ``caddy`` or ``traefik``.
        target: where the proxy listens.
        folder: for its files.
        changes: what is changed in the configuration of the page.
        text: a configuration in place of the page's.
    """
    address = target if isinstance(target, str) else f"{target[0]}:{target[1]}"
    folder = folder / f"{kind}-{free_port()}"
    folder.mkdir()
    authority = Authority(folder)
    place = Place(folder, free_port(), authority.issue(NAME), address)
    command = KINDS[kind](place, changes or {}, text)
    binary = shutil.which(command[0], path=_PATH)
    assert binary is not None
    with (folder / "said").open("wb") as said:
        home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        process = await start_process(
            binary, *command[1:], env={"PATH": _PATH, **home}, stdout=said, stderr=subprocess.STDOUT
        )
    front = Front(place, authority.cert)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await front.answers():
                assert process.returncode is None, (folder / "said").read_text()
                await asyncio.sleep(0.01)  # it gives no sign when it listens
        yield front
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()


def installed(kind: str) -> bool:
    return shutil.which(kind, path=_PATH) is not None
