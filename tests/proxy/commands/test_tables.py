"""proxy/commands/tables.py."""

import pytest
from rich.console import Console
from rich.text import Text

from proxy.commands.tables import STATES, SafeConsole, seconds, size, state, table


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.0, "0 ms"),
        (0.85, "850 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (4.2, "4.2 s"),
        (59.94, "59.9 s"),
        (60, "1 m 0 s"),
        (200, "3 m 20 s"),
        (3599.9, "59 m 59 s"),
        (3600, "1 h 0 m"),
        (5 * 3600 + 600, "5 h 10 m"),
        (48 * 3600 - 1, "47 h 59 m"),
        (48 * 3600, "2 days"),
    ],
)
def test_seconds(value: float | None, shown: str) -> None:
    assert seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 * 2**19, "1.5 MiB"),
        (2**30, "1.0 GiB"),
        (5 * 2**40, "5120.0 GiB"),
    ],
)
def test_size(value: int, shown: str) -> None:
    assert size(value) == shown


def test_a_state_is_a_word_whatever_its_color() -> None:
    assert [(state(word).plain, state(word).style) for word in STATES] == list(STATES.items())
    assert (state("new").plain, state("new").style) == ("new", "")
    assert (state(None).plain, state("").plain) == ("-", "-")


def test_texts_in_a_table_are_no_markup() -> None:
    console = Console(width=60, record=True, file=None, force_terminal=False, quiet=False, no_color=True)
    with console.capture() as captured:
        console.print(table("T", ("name", "n"), [("[red]x[/red]", "1"), (Text("[y]"), "100")], right=("n",)))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert lines[0] == "T"
    rows = [line for line in lines if line.endswith(("1", "100"))]
    assert [row.split() for row in rows] == [["[red]x[/red]", "1"], ["[y]", "100"]]
    assert len(rows[0]) == len(rows[1])


def test_a_console_takes_nothing_for_markup_or_for_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    screen = SafeConsole(width=60)
    screen.print("[bold]x[/bold] :smile: \x1b]0;owned\x07")
    screen.print(Text("\x9b31m\nb\u202e"), Text.assemble(("[red]", "bold")))
    screen.print(table("\x1b[2J", ("a\x9b",), [(Text("[red]\x1b"),)]))
    said = capsys.readouterr().out
    assert "[bold]x[/bold] :smile: \\x1b]0;owned" in said
    assert "\\x9b31m\nb\\u202e [red]" in said
    assert all(line.isprintable() for line in said.splitlines())
