"""Files of keys: a key file with anything in it makes a `BadFile` at most, ``authorized_keys`` a line in the log.

And what is read has the form that the rest relies on. An input is read as both.
"""

import re
from typing import Final

from structlog.testing import capture_logs

from middleware.auth.authorized_keys import parse_authorized_keys
from middleware.auth.key_file_reader import read_entries
from middleware.auth.keys import NAME
from middleware.auth.watched import BadFile

TOKENS = (
    b"- name: alice\n",
    b"  id: 4fQn0ZrT7LkP\n",
    b"  hash: blake2b:00000000000000000000000000000000:" + b"0" * 64 + b"\n",
    b"  tenant: physics\n",
    b"  policy: research\n",
    b"  expires: 2026-12-31\n",
    b"  expires: 9999-12-31\n",
    b"  created: 0001-01-01T00:00:00+14:00\n",
    b"  disabled: true\n",
    b"never",
    b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4 alice\n",
    b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== x\n",
    b'tenant="physics",policy="research" ',
    b'expiry-time="20261231" ',
    b'expiry-time="99991231" ',
    b'command="x" ',
    b"restrict,",
    b'\\"',
    b"# x\n",
    b"&a ",
    b"*a",
    b"!!binary ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\n",
    b"  ",
    b"\t",
    b"\xff",
    b"\x00",
    b"\xe2\x80\xa8",
    b"\x1b",
)

_PLACE: Final = re.compile(r"keys\.yaml(?::\d+(?::\d+)?)?: ")


def check(data: bytes) -> None:
    """Raise where a file raises what nobody catches, or a key gets a name that steers terminals or ends lines."""
    with capture_logs() as logged:
        try:
            for entry in read_entries(data, "keys.yaml"):
                if isinstance(entry, BadFile):
                    assert _PLACE.match(str(entry)), f"a mistake without its place: {entry}"
                else:
                    assert NAME.fullmatch(entry.name)
                    assert entry.line <= data.count(b"\n") + data.count(b"\r") + 1 + data.count(b"\xe2\x80") * 2
        except BadFile as error:
            assert _PLACE.match(str(error)), f"a mistake without its place: {error}"
        policies = frozenset({"research"})
        for blob, key in parse_authorized_keys(data, "authorized_keys", policies=policies).items():
            assert blob == key.blob
            assert key.caller.identity
            assert key.caller.identity.isprintable()
            assert key.caller.policy in (None, "research")
    for event in logged:
        assert event["problem"].startswith("authorized_keys:"), event
