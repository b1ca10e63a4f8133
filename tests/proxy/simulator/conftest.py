"""The official clients, closed behind each test, and a certificate for the simulator's TLS."""

import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anthropic
import ollama
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.simulator import Ollama


class Clients:
    """Makes official clients for a simulator."""

    def __init__(self, later: Callable[[Callable[[], Awaitable[None]]], object]) -> None:
        self._later = later

    def ollama(self, sim: Ollama) -> ollama.AsyncClient:
        client = ollama.AsyncClient(sim.url)
        self._later(client.close)
        return client

    def openai(self, sim: Ollama) -> openai.AsyncOpenAI:
        client = openai.AsyncOpenAI(base_url=f"{sim.url}/v1", api_key="ollama", max_retries=0)
        self._later(client.close)
        return client

    def anthropic(self, sim: Ollama) -> anthropic.AsyncAnthropic:
        client = anthropic.AsyncAnthropic(base_url=sim.url, api_key="ollama", max_retries=0)
        self._later(client.close)
        return client


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    async with AsyncExitStack() as stack:
        yield Clients(stack.push_async_callback)


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a self-signed certificate for localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "sim.pem"
    path.write_bytes(private + certificate.public_bytes(encoding))
    return path


@pytest.fixture
def server_tls(pem: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context


@pytest.fixture
def client_tls(pem: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pem))
