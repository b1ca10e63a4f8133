"""Items of the Responses API: the input of a request that goes on from an earlier response.

Ollama stores no responses: it takes ``previous_response_id`` and ignores it. So the proxy puts what was said before in
front of the new input, in the items that a client would send itself.
"""

from collections.abc import Sequence
from typing import Any, Final

PREVIOUS: Final = "previous_response_id"
"""The member of a request that names the response it goes on from."""
INPUT: Final = "input"

_OF_HOSTED_TOOLS: Final = frozenset({"web_search_call", "file_search_call", "code_interpreter_call"})
"""Output items that tell of a tool that the server ran. Ollama refuses them as input; the text has the result."""


def merged_input(previous_input: object, previous_output: Sequence[Any], new_input: object) -> list[Any]:
    """Return the input of a request that goes on from a response.

    Args:
        previous_input: the input of that response's request: a text or a list of items; None for none.
        previous_output: the items of the response.
        new_input: the input of the new request, in the same forms as `previous_input`.

    Instructions are no part of it: OpenAI does not carry them over either.
    """
    said = [item for item in previous_output if not (isinstance(item, dict) and item.get("type") in _OF_HOSTED_TOOLS)]
    return [*items_of(previous_input), *said, *items_of(new_input)]


def items_of(sent: object) -> list[Any]:
    """Return an input as a list of items; a text is a message of the user, an empty one is none."""
    if isinstance(sent, list):
        return list(sent)
    return [{"type": "message", "role": "user", "content": sent}] if isinstance(sent, str) and sent else []
