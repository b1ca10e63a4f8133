"""middleware/access/hosted_tools.py."""

from typing import Any

import orjson
import pytest

from middleware.access.hosted_tools import hosted, without
from proxy.kernel.json_edit import edit, merged

TYPES = ("web_search", "file_search", "mcp")
FUNCTION = {"type": "function", "name": "f"}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
MCP = {"type": "mcp", "server_label": "x"}


@pytest.mark.parametrize(
    ("tools", "found"),
    [
        (None, {}),
        ("web_search", {}),
        ([], {}),
        ([FUNCTION, None, 7, [], {"type": 7}, {"kind": "mcp"}], {}),
        ([FUNCTION, SEARCH, MCP], {1: "web_search", 2: "mcp"}),
        ([{"TYPE": "File_Search"}, {"type": "mcp_x"}, {"type": "mcpx"}], {0: "file_search", 1: "mcp"}),
        ([{"type": "web_searching"}], {0: "web_search"}),
        ([{"type": "namespace", "name": "n", "tools": [SEARCH]}], {}),  # as a member it is a function of the client
    ],
)
def test_hosted_tools_are_known_by_their_type(tools: object, found: dict[int, str]) -> None:
    assert hosted(tools, TYPES) == found


ABSENT: Any = object()


@pytest.mark.parametrize(
    ("tools", "choice", "chosen"),
    [
        ([FUNCTION, SEARCH], ABSENT, ABSENT),
        ([FUNCTION, SEARCH], None, None),
        ([FUNCTION, SEARCH], "auto", "auto"),
        ([FUNCTION, SEARCH], "required", "required"),
        ([SEARCH], "required", None),
        ([SEARCH], {"type": "any"}, None),
        ([FUNCTION, SEARCH], {"type": "any"}, {"type": "any"}),
        ([FUNCTION, SEARCH], {"type": "tool", "name": "web_search"}, None),
        ([{"type": "custom", "name": "web_search"}, SEARCH], *[{"type": "tool", "name": "web_search"}] * 2),
        ([FUNCTION, SEARCH], {"type": "function", "name": "f"}, {"type": "function", "name": "f"}),
        ([FUNCTION, SEARCH], {"type": "web_search_preview"}, None),
        ([FUNCTION, MCP], {"type": "mcp", "server_label": "x"}, None),
        (
            [FUNCTION, SEARCH],
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}, FUNCTION]},
            {"type": "allowed_tools", "mode": "auto", "tools": [FUNCTION]},
        ),
        ([FUNCTION, SEARCH], {"type": "allowed_tools", "tools": [{"type": "web_search"}]}, None),
    ],
)
def test_a_choice_of_a_tool_that_is_gone_is_gone(tools: list[Any], choice: Any, chosen: Any) -> None:
    document = {"tools": tools} | ({} if choice is ABSENT else {"tool_choice": choice})
    patch = without(document, hosted(tools, TYPES), TYPES)
    wanted = {"tools": [tool for tool in tools if tool in (FUNCTION, {"type": "custom", "name": "web_search"})]}
    wanted |= {} if chosen is ABSENT else {"tool_choice": chosen}
    assert merged(document, patch) == orjson.loads(edit(orjson.dumps(document), patch)) == wanted
