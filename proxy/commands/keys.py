"""``ollama-proxy keys``: API keys, made, listed and revoked."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from middleware.credentials.key_file import add_key, read_keys, revoke_keys
from middleware.credentials.keys import KeyEntry, new_key
from middleware.credentials.watched import BadFile
from proxy.terminal import complain, say
from proxy.units import Mistake, parse_duration

commands: Final = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)

FileOption = Annotated[Path, typer.Option("--file", "-f", help="The key file that `auth: {keys: …}` names.")]
KEYS: Final = Path("keys.yaml")


@commands.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is: the identity in limits and logs.")],
    file: FileOption = KEYS,
    tenant: Annotated[str | None, typer.Option(help="The team it counts for.")] = None,
    policy: Annotated[str | None, typer.Option(help="The policy in proxy.yaml that applies to it.")] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends, from now: 90d, 12h.")] = None,
) -> None:
    """Make a key and print it, once: the file keeps only a hash. A running proxy takes it within a second."""
    now = time.time()
    try:
        until = now + parse_duration(expires) if expires else None
        key, entry = new_key(name, now=now, tenant=tenant, policy=policy, expires=until)
        add_key(file, entry)
    except (Mistake, BadFile, ValueError, OSError) as error:
        complain(str(error))
        raise typer.Exit(1) from error
    say(f"The key of {name}; it is shown only now, {file} keeps a hash:", out=sys.stderr)
    say(key)


@commands.command("list")
def show(file: FileOption = KEYS) -> None:
    """List the keys in a file; exits with 1 where an entry is broken."""
    broken = False
    for entry in _read(file):
        if isinstance(entry, KeyEntry):
            whose = f"tenant={entry.tenant or '-'} policy={entry.policy or '-'}"
            say(f"{entry.id}  {entry.name:<20} {whose} {_state(entry)}")
        else:
            broken = True
            complain(str(entry))
    if broken:
        raise typer.Exit(1)


@commands.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(help="The id of a key, or a name: then all keys of that name.")],
    file: FileOption = KEYS,
) -> None:
    """Disable keys. They stay in the file, so that logs can still be read."""
    try:
        revoked = revoke_keys(file, name)
    except (BadFile, OSError) as error:
        complain(str(error))
        raise typer.Exit(1) from error
    for entry in revoked:
        say(f"revoked {entry.id} of {entry.name}")
    if not revoked:
        complain(f"{file} has no usable key with the id or name {name!r}")
        raise typer.Exit(1)


def _read(file: Path) -> list[KeyEntry | BadFile]:
    try:
        return read_keys(file)
    except (BadFile, OSError) as error:
        complain(str(error))
        raise typer.Exit(1) from error


def _state(entry: KeyEntry) -> str:
    if entry.disabled:
        return "revoked"
    if entry.expires is None:
        return "never expires"
    day = datetime.fromtimestamp(entry.expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"expired {day}" if entry.expires <= time.time() else f"expires {day}"
