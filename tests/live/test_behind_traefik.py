"""What the page about Traefik says of single lines."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from proxy.simulator import Ollama
from tests.conftest import Need
from tests.support.fronts import NAME, Front, in_front, installed
from tests.support.proxy import running

SETTINGS: Final[dict[str, Any]] = {"trusted_proxies": ["127.0.0.1"], "server": {"hosts": [NAME]}}
UPLOAD: Final = "/api/blobs/sha256:" + "0" * 64
HALF: Final = b"x" * 1000


def half_an_upload(front: Front) -> bytes:
    return front.request("POST", UPLOAD, None, {"Content-Length": str(2 * len(HALF))}) + HALF


async def given_up(front: Front) -> None:
    """Send half an upload and wait until the front gives up on the rest."""
    with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
        client = await front.connect()
        await client.send(half_an_upload(front))
        while await client.reader.read(2**16):
            pass
        await client.close()


async def test_an_upload_longer_than_its_default_passes(need: Need, tmp_path: Path) -> None:
    """60 s become 300 ms: another Traefik gives up on an upload that began later than the one that passes."""
    need("traefik", installed("traefik"))
    async with Ollama() as sim, running(sim.url, **SETTINGS) as proxy:
        async with (
            in_front("traefik", proxy.address, tmp_path, {"readTimeout: 0s": "readTimeout: 300ms"}) as hasty,
            in_front("traefik", proxy.address, tmp_path) as patient,
        ):
            client = await patient.connect()
            await client.send(half_an_upload(patient))
            await sim.wait_for(lambda: sim.counters.active == 1)
            async with asyncio.timeout(20):
                await given_up(hasty)
            await client.send(HALF)
            answer = await client.read()
            assert (answer.status, b"digest" in answer.body) == (400, True)  # Ollama has read all of it to say so
            await client.close()
