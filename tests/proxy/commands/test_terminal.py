"""proxy/commands/terminal.py. That all commands use it shows tests/live/test_terminals.py."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.commands.terminal import complain, printable, printable_lines, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("llama3.2:latest", "llama3.2:latest"),
        ("größer 日本 🙂", "größer 日本 🙂"),
        ("\x1b]0;x\x07", "\\x1b]0;x\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb\u2066c\u200f", "a\\u202eb\\u2066c\\u200f"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\x7f\x00\x08", "\\x7f\\x00\\x08"),
        ("\ud800", "\\ud800"),
        ("[red]", "[red]"),
    ],
)
def test_what_is_not_for_the_eye_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    assert "".join(printable_lines(text).split("\n")).isprintable()
    assert printable_lines(text).count("\n") == text.count("\n")


def test_each_text_has_its_line() -> None:
    out = io.StringIO()
    say("one", "two\nthree\x1b[2J", 4, out=out)
    assert out.getvalue() == "one\ntwo\\nthree\\x1b[2J\n4\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_complaints_are_red_for_people(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    complain("no\x1b[0m")
    assert capsys.readouterr().err == ("\x1b[31mno\\x1b[0m\x1b[0m\n" if terminal else "no\\x1b[0m\n")
