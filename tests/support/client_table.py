"""The table of docs/guides/clients.md: which client programs were run, in which version, and what was seen."""

import json
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from tests.support.client_builds import BUILT
from tests.support.client_catalog import CLIENTS, LARGE
from tests.support.client_programs import FOLDER, PAGES, ROOT

PAGE: Final = ROOT / "docs" / "guides" / "clients.md"
TRIALS: Final = FOLDER / "trials.json"
"""What ``scripts/clients NAME`` saw, and of programs that were run otherwise what is known: see ``run``."""
BEGIN: Final = "<!-- made by scripts/clients --table -->\n"
END: Final = "<!-- end -->\n"


class Row(NamedTuple):
    """One line of the table, in its order; the title links to the page."""

    title: str
    page: str
    version: str
    run: str
    key: str
    streams: str
    stops: str
    errors: str
    note: str


BY_HAND: Final[Mapping[str, Row]] = {
    "open-webui": Row(
        "",
        "",
        "0.12.4",
        "hand; what it sends, by the suite",
        "`OLLAMA_API_CONFIGS`",
        "yes",
        "yes",
        "",
        "one key for all its people",
    )
}
"""Programs that people use in a browser."""
ERRORS: Final = ("wrong_key", "refused_model", "rate_limited", "cut")


def page_with_table() -> str:
    """Return the page with the table as it should be."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return before + BEGIN + "\n".join(_table()) + "\n" + END + rest.partition(END)[2]


def _table() -> Iterator[str]:
    yield "| client | version | run by | its key | streams | stops | errors can be read | |"
    yield "|---|---|---|---|---|---|---|---|"
    for client in CLIENTS:
        yield _row(
            Row(
                client.title,
                client.page,
                client.version or "Debian's",
                "the suite",
                client.key,
                "yes" if client.streams else "asks for whole answers",
                "yes",
                _reads(client.says),
                client.note,
            )
        )
    trials: dict[str, dict[str, str]] = json.loads(TRIALS.read_text("utf-8"))
    for page, large in LARGE.items():
        seen = trials.get(page, {})
        yield _tried(Row(_title(page), page, "", "", large.key, "", "", _reads(large.says), large.note), seen)
    for name, built in BUILT.items():
        seen = trials.get(name, {})
        yield _tried(Row(built.title, built.page, built.version, "", built.key, "", "", _reads(built.says), ""), seen)
    for page, by_hand in BY_HAND.items():
        yield _row(by_hand._replace(title=_title(page), page=page))


def _tried(row: Row, seen: Mapping[str, str]) -> str:
    """Fill in what a trial saw; without one, that there was none."""
    if not seen:
        return _row(row._replace(run="not yet"))
    unread = [name.replace("_", " ") for name in ERRORS if seen[name] != "yes"]
    read = f"all but: {', '.join(unread)}" if unread else row.errors
    streams, stops = ("yes" if seen[name] == "yes" else "no" for name in ("stream", "stop"))
    run = f"`scripts/clients`, {seen['date']}"
    return _row(row._replace(version=seen["version"], run=run, streams=streams, stops=stops, errors=read))


def _reads(says: Mapping[str, str]) -> str:
    own = ", ".join(f"*{words}*" for words in dict.fromkeys(says.values()))
    return f"in part its own words: {own}" if own else "yes"


def _title(page: str) -> str:
    return (PAGES / f"{page}.md").read_text("utf-8").splitlines()[0].removeprefix("# ")


def _row(row: Row) -> str:
    return f"| [{row.title}](clients/{row.page}.md) | " + " | ".join(row[2:]) + " |"
