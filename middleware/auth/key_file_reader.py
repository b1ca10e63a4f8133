"""Read the key file.

The file is a YAML list::

    - name: alice                    # the identity in limits and logs
      id: 4fQn0ZrT7LkP
      hash: blake2b:<salt>:<digest>  # hex
      tenant: physics                # optional, like all that follow
      policy: research
      created: 2026-01-31T09:00:00Z
      expires: 2026-12-31            # UTC; a date alone counts to its end
      disabled: false

Every value is read as plain text (``name: 007`` is the text 007), so none of YAML's guesses about types apply.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
import yaml

from middleware.auth.keys import NAME, KeyEntry, Keys, SecretHash
from middleware.auth.lifetimes import Lifetimes
from middleware.auth.watched import BadFile, Watched
from proxy.kernel.clock import Clock
from proxy.kernel.defined_policies import Policies

FIELDS: Final = ("name", "id", "hash", "tenant", "policy", "created", "expires", "disabled")

_ID: Final = re.compile(r"[0-9A-Za-z]{12}")

_log = structlog.get_logger("ollama_proxy.auth")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_keys(text: bytes, source: str, policies: frozenset[str], lifetimes: Lifetimes | None = None) -> Keys:
    """Read a key file; raises BadFile.

    A mistake in one entry refuses that key only, and is logged with its line. It must not delay the revocation of
    another key.
    """
    entries: dict[str, KeyEntry] = {}
    for entry in read_entries(text, source):
        if isinstance(entry, BadFile):
            _log.error("key_refused", problem=str(entry))
        elif entry.policy is not None and entry.policy not in policies:
            _log.error("key_refused", problem=f"{source}:{entry.line}: there is no policy {entry.policy!r}")
        elif entry.id in entries:
            _log.error("key_refused", problem=f"{source}:{entry.line}: the id {entry.id} stands there twice")
        else:
            entries[entry.id] = entry
    return Keys(entries, lifetimes)


def read_entries(text: bytes, source: str) -> Iterator[KeyEntry | BadFile]:
    """Yield the entries of a key file in order, with a BadFile in place of each that has a mistake.

    Raises BadFile if the file as a whole cannot be read.
    """
    root = compose(text, source)
    for node in root.value if root is not None else ():
        try:
            yield _entry(node)
        except ValueError as error:
            yield BadFile(f"{source}:{node.start_mark.line + 1}: {error}")


def compose(text: bytes, source: str) -> yaml.SequenceNode | None:
    """Return the YAML list of a key file as nodes, or None for an empty file; raises BadFile."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise BadFile(f"{where}: {error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise BadFile(f"{source}: this is not YAML text in UTF-8") from None
    if root is None or (isinstance(root, yaml.ScalarNode) and root.value == ""):
        return None
    if not isinstance(root, yaml.SequenceNode):
        raise BadFile(f"{source}:{root.start_mark.line + 1}:{root.start_mark.column + 1}: expected a list of keys")
    return root


def _entry(node: yaml.Node) -> KeyEntry:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError("expected an entry with name, id and hash")
    fields: dict[str, str] = {}
    for name, value in node.value:
        if not isinstance(name, yaml.ScalarNode) or name.value not in FIELDS or name.value in fields:
            raise ValueError(f"a field is unknown or stands there twice; known are {', '.join(FIELDS)}")
        if not isinstance(value, yaml.ScalarNode):
            raise ValueError(f"{name.value} must be text")
        fields[name.value] = value.value
    return KeyEntry(
        name=_field(fields, "name", NAME),
        id=_field(fields, "id", _ID),
        hash=_hash(fields.get("hash", "")),
        tenant=fields.get("tenant") or None,
        policy=fields.get("policy") or None,
        created=_moment(fields.get("created")),
        expires=end_of(fields.get("expires")),
        disabled=_flag(fields.get("disabled", "false")),
        line=node.start_mark.line + 1,
    )


def _field(fields: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> str:
    value = fields.get(name, "")
    if not pattern.fullmatch(value):
        raise ValueError(f"{name} is missing or not what `ollama-proxy keys new` writes")
    return value


def _hash(text: str) -> SecretHash:
    try:
        return SecretHash.parse(text)
    except ValueError:
        raise ValueError("hash must be blake2b:<salt>:<digest>, as `ollama-proxy keys new` writes it") from None


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("disabled must be true or false")
    return text == "true"


def end_of(text: str | None) -> float | None:
    """Return when a key ends, seconds since 1970; None for never. A date counts to its end. Raises ValueError."""
    return _moment(text, end_of_day=True)


def end_of_day_of(day: datetime) -> datetime:
    """Return the end of a day; for 9999-12-31, the last possible day, its last second."""
    try:
        return day + timedelta(days=1)
    except OverflowError:
        return datetime.max.replace(microsecond=0, tzinfo=day.tzinfo)


def _moment(text: str | None, *, end_of_day: bool = False) -> float | None:
    if not text or text == "never":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a time is written 2026-12-31 or 2026-12-31T23:59:00Z") from None
    if len(text) == len("2026-12-31") and end_of_day:
        moment = end_of_day_of(moment)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def watched_keys(path: Path, policies: Policies, clock: Clock, lives: Lifetimes) -> Watched[Keys]:
    """Return the keys of a file that is read again when it changes."""
    return Watched(path, lambda text: parse_keys(text, str(path), policies, lives), clock=clock)
