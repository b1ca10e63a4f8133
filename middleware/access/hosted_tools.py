"""Tools that a request asks the server to run: which of its tools are such, and a patch that leaves some of them out.

OpenAI's Responses API and Anthropic's have tools that their own servers run: a search of the web, an interpreter. Of
these Ollama runs the search, on the account of its operator. All others it shows to the model as functions, some with
no name, which nobody runs. `Run.hosted_tools` lists them for each route.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from proxy.kernel.body_json import fold
from proxy.kernel.json_edit import Without
from proxy.kernel.route import SEARCH_TOOL


def hosted(tools: object, types: Sequence[str]) -> dict[int, str]:
    """Return the places of the hosted tools in a request's `tools`, each with its type as `types` has it."""
    if not isinstance(tools, list):
        return {}
    found = ((place, _hosted_type(tool, types)) for place, tool in enumerate(tools))
    return {place: kind for place, kind in found if kind is not None}


def without(document: Mapping[str, Any], places: Collection[int], types: Sequence[str]) -> dict[str, Any]:
    """Return the patch that leaves the tools at `places` out of a request, and any choice of one of them."""
    patch: dict[str, Any] = {"tools": Without(places)}
    kept = [tool for place, tool in enumerate(document["tools"]) if place not in places]
    choice = document.get("tool_choice")
    if choice is None:
        return patch
    if not kept:
        return {**patch, "tool_choice": None}
    if not isinstance(choice, dict):
        return patch
    chosen = choice.get("tools")  # of the type allowed_tools: those that the model may use
    if isinstance(chosen, list):
        gone = [place for place, tool in enumerate(chosen) if not _is_kept(tool, kept, types)]
        if gone:
            patch["tool_choice"] = None if len(gone) == len(chosen) else {"tools": Without(gone)}
    elif not _is_kept(choice, kept, types):
        patch["tool_choice"] = None
    return patch


def _is_kept(choice: object, kept: Sequence[object], types: Sequence[str]) -> bool:
    """Return whether a choice still has its tool; it names the tool, or the type of a hosted one."""
    if not isinstance(choice, dict):
        return True
    kind = _hosted_type(choice, types)
    if kind is not None:
        return any(_hosted_type(tool, types) == kind for tool in kept)
    name = choice.get("name")
    return name is None or any(isinstance(tool, dict) and _name(tool) == name for tool in kept)


def _name(tool: Mapping[str, Any]) -> object:
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else tool.get("name")


def _hosted_type(tool: object, types: Sequence[str]) -> str | None:
    """Return the type of a tool if it is a hosted one; its key is matched as Go matches it."""
    if not isinstance(tool, dict):
        return None
    for key, value in tool.items():
        if isinstance(value, str) and fold(key) == "type":
            written = value.lower()
            for kind in types:
                if written == kind or written.startswith(f"{kind}_"):
                    return kind
            if SEARCH_TOOL in types and written.startswith(SEARCH_TOOL):  # as Ollama does for Anthropic's API
                return SEARCH_TOOL
    return None
