import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from middleware.auth.authorized_keys import AuthorizedKey, parse_authorized_keys
from middleware.auth.caller import Caller
from middleware.auth.lifetimes import Lifetimes
from proxy.kernel.errors import Refused
from proxy.testing import ManualClock
from tests.support.ollama_cli import SSH_KEYGEN, OllamaKey

POLICIES = frozenset({"research", "guests"})
LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5RZ8LOcd3oTtTXcqKhGmHcKEVUvIDFuFCHR1sdkpZK"


def parse(text: str, tenant: str | None = None, policy: str | None = None) -> list[AuthorizedKey]:
    keys = parse_authorized_keys(text.encode(), "authorized_keys", policies=POLICIES, tenant=tenant, policy=policy)
    return list(keys.values())


def problems(text: str) -> list[str]:
    with capture_logs() as logs:
        assert parse(text) == []
    return [log["problem"] for log in logs]


def test_keys_of_ssh_keygen(ollama_key: Callable[..., OllamaKey]) -> None:
    alice, bob = ollama_key("alice@laptop"), ollama_key("bob of physics")
    keys = parse(f"# the team\n\n{alice.line}\r\n  \t{bob.line}\n")
    assert [key.caller for key in keys] == [Caller("alice@laptop"), Caller("bob of physics")]


def test_without_a_comment_the_fingerprint_is_the_identity(
    tmp_path: Path, ollama_key: Callable[..., OllamaKey]
) -> None:
    key = ollama_key("comment")
    (tmp_path / "key.pub").write_text(key.line)
    shown = subprocess.run([SSH_KEYGEN or "", "-lf", tmp_path / "key.pub"], check=True, capture_output=True, text=True)
    (parsed,) = parse(key.line.removesuffix(" comment"))
    assert parsed.caller.identity == shown.stdout.split(" ")[1]


@pytest.mark.parametrize(
    ("options", "caller"),
    [
        ("", Caller("alice", "everybody", "guests")),
        ('tenant="physics" ', Caller("alice", "physics", "guests")),
        ('tenant="physics",policy="research" ', Caller("alice", "physics", "research")),
        ('policy="research",restrict,no-pty\t', Caller("alice", "everybody", "research")),
        ('tenant="a, \\"b\\" c" ', Caller("alice", 'a, "b" c', "guests")),
        ('tenant="ssh-ed25519 x" ', Caller("alice", "ssh-ed25519 x", "guests")),
    ],
)
def test_options(options: str, caller: Caller) -> None:
    (key,) = parse(f"{options}{LINE} alice", tenant="everybody", policy="guests")
    assert key.caller == caller


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("20261231", datetime(2027, 1, 1, tzinfo=UTC)),
        ("20261231Z", datetime(2027, 1, 1, tzinfo=UTC)),
        ("202612310815", datetime(2026, 12, 31, 8, 15, tzinfo=UTC)),
        ("20261231081530Z", datetime(2026, 12, 31, 8, 15, 30, tzinfo=UTC)),
    ],
)
def test_expiry(written: str, moment: datetime) -> None:
    (key,) = parse(f'expiry-time="{written}" {LINE}')
    assert key.expires == moment.timestamp()


@pytest.mark.parametrize(
    "line",
    [
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB alice",
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAI alice",
        "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5 alice",
        "ssh-ed25519",
        "ssh-ed25519 !!! alice",
        "ssh-ed25519 AAAA alice",
        LINE[:-4] + " alice",
        LINE.replace("C3NzaC1lZDI1NTE5", "C3NzaC1lZDI1NTE6"),
        LINE.partition(" ")[2],
        f'from="10.0.0.0/8" {LINE} alice',
        f'command="id" {LINE} alice',
        f"cert-authority {LINE} alice",
        f'tenant="" {LINE} alice',
        f"tenant {LINE} alice",
        f'tenant="physics {LINE} alice',
        f'expiry-time="soon" {LINE} alice',
        f'expiry-time="20261332" {LINE} alice',
        f'policy="reserch" {LINE} alice',
        f"{LINE} a\x1b[31mb",
        f"{LINE} {'x' * 257}",
        "hello",
        "\ufeff\x00",
    ],
)
def test_a_line_with_a_mistake_refuses_that_key_only(line: str) -> None:
    assert len(problems(line)) == 1
    assert problems(f"\n{line}")[0].startswith("authorized_keys:2: ")
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA9Q5xmCzIUkZSb5b7LhcGgcbPpUHBoyRFw7C4NfxOaz bob"
    assert [key.caller.identity for key in parse(f"{line}\n{other}")] == ["bob"]


def test_a_key_that_stands_there_twice_counts_once() -> None:
    assert [key.caller.identity for key in parse(f"{LINE} alice\n{LINE} mallory")] == ["alice"]


@given(st.binary(max_size=300))
def test_no_file_breaks_the_reader(text: bytes) -> None:
    parse_authorized_keys(text, "authorized_keys", policies=POLICIES)


def test_the_last_day_there_is_has_an_end_too() -> None:
    (key,) = parse(f'expiry-time="99991231" {LINE} alice')
    assert key.expires == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


def test_a_clock_that_is_set_back_does_not_prolong_a_key() -> None:
    clock = ManualClock(datetime(2026, 12, 31, tzinfo=UTC).timestamp())
    line = f'expiry-time="20261231" {LINE} alice'.encode()
    keys = parse_authorized_keys(line, "keys", policies=POLICIES, lifetimes=Lifetimes(clock))
    (key,) = keys.values()
    clock.advance(86_399)
    assert key.usable(clock.time()).identity == "alice"
    clock.set(clock.time() - 86_400)
    clock.advance(1)
    with pytest.raises(Refused, match="expired"):
        key.usable(clock.time())
