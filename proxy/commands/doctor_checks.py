"""The checks of `doctor`, one function for each. They return or yield findings and raise nothing."""

import re
import resource
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Literal

from cryptography import x509

from config.settings import Settings
from proxy.chain.plan import Plan
from proxy.pool.backend import Backend
from proxy.server import open_files

Level = Literal["ok", "note", "warn", "bad"]

FILES: Final = 4096
"""The open files that a proxy for some hundred streams needs; a stream takes two."""
EXPIRES_SOON: Final = timedelta(days=30)
SKEW: Final = 5.0
"""Seconds by which two clocks may differ."""

HOLES: Final = (
    ("0.1.29", "CVE-2024-28224", "any web page could use it (DNS rebinding)"),
    ("0.1.34", "CVE-2024-37032", "a model that is pulled could write any file"),
    ("0.1.46", "CVE-2024-39720, CVE-2024-39722", "a model file could crash it, and a push tell which files there are"),
    ("0.1.47", "CVE-2024-45436", "a model archive could write files outside its folder"),
    ("0.14.3", "CVE-2025-51471", "a registry could have its token sent to another host"),
    ("0.17.1", "CVE-2026-7482", "a model file makes it give out what is in its memory, prompts and keys included"),
)
"""Known security holes of Ollama: the version that closed the hole, its name, what it was."""

_VERSION: Final = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})(-.*)?")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    level: Level
    about: str
    text: str


def check_files(most: int | None = None) -> Finding:
    """Return a finding about the open files that a process may have once it raised its soft limit, as `serve` does."""
    if most is None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most == resource.RLIM_INFINITY or most >= FILES:
        return Finding("ok", "open files", f"up to {'any number' if most == resource.RLIM_INFINITY else most}")
    text = f"only {most}, for some {open_files.for_clients(most)} connections; raise it (ulimit -Hn, LimitNOFILE=)"
    return Finding("warn", "open files", text)


def check_version(about: str, version: str | None) -> Iterator[Finding]:
    """Yield findings about a version of Ollama: its known security holes."""
    if version is None:
        yield Finding("warn", about, "does not say which version it is")
        return
    open_ = [hole for hole in HOLES if _is_older(version, hole[0])]
    if not open_:
        yield Finding("ok", about, f"Ollama {version}, no holes known here")
    for fixed, name, text in open_:
        yield Finding("bad", about, f"Ollama {version} is older than {fixed}: {name}, {text}")


def _is_older(version: str, fixed: str) -> bool:
    """Return whether `version` is older than `fixed`.

    A pre-release is older than its release. Version 0.0.0, a local build, is never older.
    """
    ours, other = _VERSION.fullmatch(version), _VERSION.fullmatch(fixed)
    if ours is None or other is None or version == "0.0.0":
        return False
    number, limit = tuple(map(int, ours.groups()[:3])), tuple(map(int, other.groups()[:3]))
    return number < limit or (number == limit and ours[4] is not None)


def check_slots(about: str, backend: Backend, parallel: int | str, *, queues: bool) -> Iterator[Finding]:
    """Yield findings about a backend's `slots` and `slots_per_model`: whether they fit its ``OLLAMA_NUM_PARALLEL``.

    `parallel` is that number, or why it is not known. `queues`: whether the chain has the `queue`.
    """
    slots, each = backend.slots, backend.slots_per_model
    if not queues and slots is None and each is None:
        text = "no queue in the policy file, so what is too much waits in Ollama, where nobody is fair"
        yield Finding("note", about, text)
    elif isinstance(parallel, str):
        learned = "learned" if each is None and queues else "not bounded" if each is None else str(each)
        text = f"slots per model: {learned}; whether OLLAMA_NUM_PARALLEL fits is not known: {parallel}"
        yield Finding("note", about, text)
    elif each is not None and each > parallel:
        text = f"slots_per_model: {each}, but OLLAMA_NUM_PARALLEL is {parallel}: the rest waits there unseen"
        yield Finding("warn", about, f"{text}, where nobody is fair")
    elif each is not None and each < parallel:
        yield Finding(
            "ok", about, f"slots_per_model: {each}; {parallel - each} of the {parallel} of each model stay unused"
        )
    else:
        text = f"OLLAMA_NUM_PARALLEL is {parallel} for each model"
        yield Finding("ok", about, f"{text}, {'which is learned' if each is None else 'as slots_per_model'}")
    if isinstance(parallel, int) and slots is not None and slots < parallel:
        text = f"slots: {slots} for all models together, though one model alone could run {parallel}"
        yield Finding("note", about, text)


def check_clock(about: str, date: str | None, now: datetime) -> Iterator[Finding]:
    """Yield a finding where a backend's clock (its Date field) is wrong: signatures and tokens depend on it."""
    try:
        skew = (parsedate_to_datetime(date) - now).total_seconds() if date else None
    except (ValueError, TypeError):
        skew = None
    if skew is not None and abs(skew) > SKEW:
        yield Finding("warn", about, f"its clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this one")


def check_secrets(plan: Plan, settings: Settings) -> Iterator[Finding]:
    """Yield findings about the modes of files: who may read secret keys, and who may write files of API keys."""
    if settings.tls is not None:
        yield check_mode("TLS key", settings.tls.key, 0o077)
    for entry in settings.backends:
        if entry.tls is not None and entry.tls.key is not None:
            yield check_mode(f"TLS key for {entry.name}", entry.tls.key, 0o077)
    for link in plan.links:
        keys = link.options.arguments().get("keys") if link.plugin.use == "auth" else None
        if isinstance(keys, Path) and not keys.exists():
            text = f"there is no {keys}, so nobody has one: ollama-proxy keys new NAME --file {keys}"
            yield Finding("bad", "API keys", text)
        elif isinstance(keys, Path):
            yield check_mode("API keys", keys, 0o027)


def check_mode(about: str, path: Path, forbidden: int) -> Finding:
    """Return a finding about a file's mode: whether it has a permission bit of `forbidden`."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        return Finding("bad", about, f"{path}: {error.strerror}")
    if mode & forbidden:
        return Finding("warn", about, f"{path} has mode {mode:o}; chmod {mode & ~forbidden:o} {path}")
    return Finding("ok", about, f"{path}, mode {mode:o}")


def check_certificate(about: str, path: Path, now: datetime) -> Iterator[Finding]:
    """Yield a finding about the dates of the first certificate in a file."""
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        yield Finding("bad", about, f"{path}: {error}")
        return
    for certificate in certificates[:1]:
        ends = certificate.not_valid_after_utc
        day = f"{ends:%Y-%m-%d}"
        if certificate.not_valid_before_utc > now:
            yield Finding("bad", about, f"{path} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d}")
        elif ends <= now:
            yield Finding("bad", about, f"{path} ended on {day}")
        elif ends - now < EXPIRES_SOON:
            yield Finding("warn", about, f"{path} ends on {day}, in {(ends - now).days} days")
        else:
            yield Finding("ok", about, f"{path}, until {day}")


def check_certificates(settings: Settings) -> Iterator[Finding]:
    """Yield findings about the dates of the certificates in the policy file: the proxy's, and those for backends."""
    now = datetime.now(UTC)
    if settings.tls is not None:
        yield from check_certificate("TLS certificate", settings.tls.cert, now)
    for entry in settings.backends:
        if entry.tls is not None and entry.tls.ca is not None:
            yield from check_certificate(f"CA for {entry.name}", entry.tls.ca, now)
        if entry.tls is not None and entry.tls.cert is not None:
            yield from check_certificate(f"certificate for {entry.name}", entry.tls.cert, now)
