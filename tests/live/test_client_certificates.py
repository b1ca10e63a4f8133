"""A client certificate, verified by the server, is who `auth` says is calling."""

import ssl
from pathlib import Path

import httpx
import pytest

from proxy.simulator import Ollama
from tests.support.certificates import Authority, Pair
from tests.support.proxy import running

BOTH_LOOPS = True


def trusting(authority: Authority, pair: Pair | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.cert)
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


async def test_the_certificate_is_the_identity(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, robot = authority.issue("localhost", "127.0.0.1"), authority.issue("ci.example.com")
    chain = ["logging", {"auth": {"mtls": {"policy": "dns", "policies": {"ci.example.com": "robots"}}}}]
    tls = {"cert": server.cert, "key": server.key, "client_ca": authority.cert}
    async with Ollama() as sim, running(sim.url, middleware=chain, tls=tls, policies={"robots": {}}) as proxy:
        url = f"https://127.0.0.1:{proxy.address[1]}/api/version"
        async with httpx.AsyncClient(verify=trusting(authority, robot)) as client:
            for _ in range(2):  # also the second request of a connection
                assert (await client.get(url)).status_code == 200
        line = await proxy.log.request(2)
        assert (line["identity"], line["policy"]) == ("ci.example.com", "robots")
        async with httpx.AsyncClient(verify=trusting(authority, None)) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(url)
