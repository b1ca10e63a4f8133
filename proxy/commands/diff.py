"""``ollama-proxy check --diff``: the changes that a policy file would make."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from rich.text import Text

from config.settings import Settings
from middleware.auth.key_file_editor import read_keys
from middleware.auth.keys import KeyEntry
from middleware.auth.watched import BadFile
from proxy.app import NEEDS_RESTART
from proxy.chain.plan import Plan
from proxy.commands.tables import console
from proxy.ops.effective_config import digest, flat

LIMITING: Final = ("access", "parameters", "rate_limit", "queue")
"""The plugins whose changed options are shown for each caller."""

Document = Mapping[str, Any]
Change = tuple[str, Any, Any]
"""Name, value before, value after; `ABSENT` where there was, or will be, no value."""
Callers = Mapping[str, tuple[str | None, str | None]]
"""Name of a caller → its policy before and after."""
ABSENT: Final = object()
NAMED: Final = 3
"""The most callers that are named where many have the same policy."""


def document_of(plan: Plan, settings: Settings) -> dict[str, Any]:
    """Return a policy file in the form of ``GET /-/config``, for comparing."""
    return asdict(digest(plan, settings))


def show_diff(before: Document, after: Document, callers: Callers) -> None:
    """Print the differences between two effective policy files, and the callers that they concern."""
    screen = console()
    parts = {
        "plugins": list(plugins(before, after)),
        "policies": list(policies(before, after)),
        "settings": list(changes(before["settings"], after["settings"])),
        "in effect for": list(effects(before, after, callers)),
    }
    for title, found in parts.items():
        if found:
            screen.print(Text(title, style="bold"))
        for change in found:
            screen.print(_line(*change))
    changed = [f"{name}." for name, _, _ in parts["settings"]]
    restart = [setting for setting in NEEDS_RESTART if any(name.startswith(f"{setting}.") for name in changed)]
    if restart:
        screen.print(Text(f"only after a restart: {', '.join(restart)}", style="yellow"))
    if not any(parts.values()):
        screen.print("nothing changes; what is secret, and what ${…} stands for, is not compared")


def plugins(before: Document, after: Document) -> Iterator[Change]:
    """Yield the changes of the chain and of the options for all callers."""
    old, new = _entries(before), _entries(after)
    order = [[name for name in entries if name in old and name in new] for entries in (old, new)]
    if order[0] != order[1]:
        yield "order", " → ".join(order[0]), " → ".join(order[1])
    for name in {**old, **new}:
        if name not in old:
            yield name, ABSENT, new[name]["use"]
        elif name not in new:
            yield name, old[name]["use"], ABSENT
        elif old[name]["use"] != new[name]["use"]:
            yield name, old[name]["use"], new[name]["use"]
        else:
            yield from changes(old[name]["options"], new[name]["options"], f"{name}.")


def policies(before: Document, after: Document) -> Iterator[Change]:
    """Yield the changes of policies: added and removed ones, and their options for each plugin."""
    old, new = _entries(before), _entries(after)
    known = [set(document["policies"]) for document in (before, after)]
    for policy in sorted(known[0] | known[1]):
        if policy not in known[0] or policy not in known[1]:
            yield policy, policy if policy in known[0] else ABSENT, policy if policy in known[1] else ABSENT
            continue
        for name in [name for name in old if name in new]:
            yield from _switched(_under(old[name], policy), _under(new[name], policy), f"{policy}: {name}")


def effects(before: Document, after: Document, callers: Callers) -> Iterator[Change]:
    """Yield the changes of the limits of callers; callers with the same policies are shown together."""
    old, new = _entries(before), _entries(after)
    together: dict[tuple[str | None, str | None], list[str]] = {}
    for caller, policies_ in sorted(callers.items()):
        together.setdefault(policies_, []).append(caller)
    for (was, will_be), names in together.items():
        whose = _names(names)
        if was != will_be:
            yield f"{whose}: policy", was, will_be
        for name in [name for name in old if name in new and old[name]["use"] in LIMITING]:
            yield from _switched(_under(old[name], was), _under(new[name], will_be), f"{whose}: {name}")


def _names(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def changes(before: Document, after: Document, prefix: str = "") -> Iterator[Change]:
    """Yield the values that differ, with their dotted names."""
    old, new = flat(before), flat(after)
    for name in {**old, **new}:
        if old.get(name, ABSENT) != new.get(name, ABSENT):
            yield f"{prefix}{name}", old.get(name, ABSENT), new.get(name, ABSENT)


def _switched(before: Document | None, after: Document | None, name: str) -> Iterator[Change]:
    """Yield the changes of a plugin's options; one change where it is turned off or on (None means off)."""
    if before is not None and after is not None:
        yield from changes(before, after, f"{name}.")
    elif before is not after:
        yield name, "off" if before is None else before, "off" if after is None else after


def callers_of(before: Plan | None, after: Plan) -> Callers:
    """Return the callers of both policy files with their policies. Without `before`, their policies did not change."""
    ours = policies_of(after)
    theirs = ours if before is None else policies_of(before)
    return {name: (theirs[name], policy) for name, policy in ours.items() if name in theirs}


def policies_of(plan: Plan) -> dict[str, str | None]:
    """Return the callers in the key files of a policy file with their policies; skip a file that cannot be read."""
    found: dict[str, str | None] = {}
    for link in plan.links:
        if link.plugin.use != "auth":
            continue
        options = link.options.arguments()
        if options.get("anonymous"):
            found["callers without a key"] = options["anonymous"]
        try:
            entries = read_keys(options["keys"]) if options.get("keys") else []
        except (BadFile, OSError):
            continue
        found |= {key.name: key.policy for key in entries if isinstance(key, KeyEntry) and not key.disabled}
    return found


def _entries(document: Document) -> dict[str, Document]:
    return {entry["name"]: entry for entry in document["middleware"]}


def _under(entry: Document, policy: str | None) -> Document | None:
    """Return an entry's options for a caller with `policy`; None where the policy turns the entry off."""
    everybodys: Document = entry["options"]
    found: Document | None = entry["policies"].get(policy, everybodys)
    return found


def _line(name: str, old: Any, new: Any) -> Text:
    if old is ABSENT:
        return Text(f"  + {name}: {_shown(new)}", style="green")
    if new is ABSENT:
        return Text(f"  - {name}: {_shown(old)}", style="red")
    return Text.assemble((f"  ~ {name}: ", "yellow"), _shown(old), " → ", _shown(new))


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_shown(inner)}' for key, inner in value.items())}}}"
    return {None: "-", True: "true", False: "false"}.get(value, str(value))
