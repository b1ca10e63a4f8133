"""The table of docs/guides/clients.md: which client programs were run, in which version, and what was seen."""

import json
from collections.abc import Iterator, Mapping
from typing import Final

from tests.support.client_catalog import CLIENTS
from tests.support.client_programs import FOLDER, ROOT

PAGE: Final = ROOT / "docs" / "guides" / "clients.md"
TRIALS: Final = FOLDER / "trials.json"
"""What ``scripts/clients NAME`` saw, and of programs that were run otherwise what is known: see ``run``."""
BEGIN: Final = "<!-- made by scripts/clients --table -->\n"
END: Final = "<!-- end -->\n"
ERRORS: Final = ("wrong_key", "refused_model", "rate_limited", "cut")


def page_with_table() -> str:
    """Return the page with the table as it should be."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return before + BEGIN + "\n".join(_table()) + "\n" + END + rest.partition(END)[2]


def _table() -> Iterator[str]:
    yield "| client | version | run by | its key | streams | stops | errors can be read | |"
    yield "|---|---|---|---|---|---|---|---|"
    for client in CLIENTS:
        version = client.version or "Debian's"
        streams = "yes" if client.streams else "asks for whole answers"
        errors = "in its own words: " + ", ".join(f"*{words}*" for words in dict.fromkeys(client.says.values()))
        read = errors if client.says else "yes"
        link = f"[{client.title}](clients/{client.page}.md)"
        yield f"| {link} | {version} | the suite | {client.key} | {streams} | yes | {read} | {client.note} |"
    for page, seen in sorted(json.loads(TRIALS.read_text("utf-8")).items()):
        yield _row(page, seen)


def _row(page: str, seen: Mapping[str, str]) -> str:
    title = (ROOT / "docs" / "guides" / "clients" / f"{page}.md").read_text("utf-8").splitlines()[0].lstrip("# ")
    unread = [name.replace("_", " ") for name in ERRORS if seen.get(name, "yes") != "yes"]
    run = seen.get("run") or f"`scripts/clients`, {seen['date']}"
    cells = [
        seen[name] if name in seen and len(seen[name]) < 60 else "no" if name in seen else ""
        for name in ("stream", "stop")
    ]
    read = f"all but {', '.join(unread)}" if unread else "yes" if "cut" in seen else ""
    return (
        f"| [{title}](clients/{page}.md) | {seen['version']} | {run} | {seen.get('key', '')} | {cells[0]} | {cells[1]} "
        f"| {read} | {seen.get('note', '')} |"
    )
