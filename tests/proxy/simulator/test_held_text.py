import pytest

from proxy.simulator.generation_job import Piece, ToolCall
from proxy.simulator.held_text import HeldText

CALL = Piece("tool", call=ToolCall("call_1", "f", {}))


def sent(held: HeldText, *texts: str) -> list[str]:
    """Return what is sent of content that comes in these pieces."""
    said = (held.take(Piece("content", text)) for text in texts)
    return [piece.text for piece in said if piece]


@pytest.mark.parametrize(
    ("texts", "out", "kept"),
    [
        (("the", " {", "}"), ["the", " {", "}"], ""),
        ((" ", "{", '"a"', ": 1"), [" "], '{"a": 1'),
        (("{", "{", "}", "}", "x"), ["{{}}", "x"], ""),
        (("{}", "{"), ["{}", "{"], ""),
        (("\n {", "x"), [], "\n {x"),
    ],
)
def test_what_begins_with_a_brace_is_held_until_it_is_balanced(
    texts: tuple[str, ...], out: list[str], kept: str
) -> None:
    held = HeldText(parses=True)
    assert sent(held, *texts) == out
    assert held.text == kept


def test_without_tools_nothing_is_held() -> None:
    assert sent(HeldText(parses=False), "{", "x") == ["{", "x"]


def test_a_call_takes_the_place_of_the_text_that_was_held() -> None:
    held = HeldText(parses=True)
    assert sent(held, '{"name": ', '"f", ') == []
    assert held.take(CALL) is CALL
    assert held.text == ""


def test_thinking_is_not_held() -> None:
    thought = Piece("thinking", "{")
    assert HeldText(parses=True).take(thought) is thought
