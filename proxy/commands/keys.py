"""``ollama-proxy keys``: make, list and revoke API keys."""

import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from config.load import load
from middleware.auth.key_file_editor import add_key, read_keys, revoke_keys
from middleware.auth.key_file_reader import end_of
from middleware.auth.keys import KeyEntry, new_key
from middleware.auth.watched import BadFile
from proxy.commands.terminal import complain, say
from proxy.kernel.units import Mistake, parse_duration, suggest

commands: Final = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)

FileOption = Annotated[Path, typer.Option("--file", "-f", help="The key file that `auth: {keys: …}` names.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The policy file that knows the policies. Without it ./proxy.yaml, where there is one.",
        metavar="FILE",
    ),
]
KEYS: Final = Path("keys.yaml")
POLICY_FILE: Final = Path("proxy.yaml")
YEAR_10000: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp() + 86_400

_DAY: Final = re.compile(r"\d{4,}-")


@commands.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is: the identity in limits and logs.")],
    file: FileOption = KEYS,
    tenant: Annotated[str | None, typer.Option(help="The team it counts for.")] = None,
    policy: Annotated[str | None, typer.Option(help="The policy in proxy.yaml that applies to it.")] = None,
    expires: Annotated[
        str | None, typer.Option(help="When it ends: 90d or 12h from now, a day like 2026-12-31 (UTC), or never.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Make a key and print it, once: the file keeps only a hash. A running proxy takes it within a second."""
    now = time.time()
    until = _end(expires, now)
    if policy is not None and (config is not None or POLICY_FILE.exists()):
        _refuse_unknown(policy, config or POLICY_FILE)
    try:
        key, entry = new_key(name, now=now, tenant=tenant, policy=policy, expires=until)
        add_key(file, entry)
    except (BadFile, ValueError, OSError) as error:
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


def _refuse_unknown(policy: str, file: Path) -> None:
    """Exit with 1 where the policy file lacks the policy or cannot be read; ignore other mistakes in it."""
    loaded = load(file)
    known = loaded.checker.context.policies or frozenset()
    if not loaded.source:
        complain(*map(str, loaded.problems))
        raise typer.Exit(1)
    if policy not in known:
        hint = suggest(policy, known) or (f"it has {', '.join(sorted(known))}" if known else "it has none")
        complain(f"{file} has no policy {policy!r} ({hint}); a key with it would let nobody in")
        raise typer.Exit(1)


def _end(text: str | None, now: float) -> float | None:
    """Return when a key ends, in seconds since 1970, None for never; raises BadParameter where it would end at once."""
    if text is None or text == "never":
        return None
    hint = "; for a key that does not end leave --expires out, or write never"
    try:
        until = end_of(text) if _DAY.match(text) else now + parse_duration(text)
    except (Mistake, ValueError) as error:
        raise typer.BadParameter(
            f"{error}: write 90d or 12h, or a day like 2026-12-31{hint}", param_hint="--expires"
        ) from None
    if until is not None and until < now + 1.0:  # the file counts whole seconds
        raise typer.BadParameter(f"with {text} the key would be dead at once{hint}", param_hint="--expires")
    if until is not None and until >= YEAR_10000:
        raise typer.BadParameter(f"{text} is after the year 9999{hint}", param_hint="--expires")
    return until


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
