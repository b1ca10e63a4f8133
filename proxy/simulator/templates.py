"""Go's templates, as far as a template that does not parse is told from one that does."""

import re
from typing import Final

_ACTION: Final = re.compile(r"\{\{-?\s*(/\*.*?\*/|.*?)\s*-?\}\}", re.DOTALL)
_BLOCKS: Final = ("if ", "range ", "with ", "block ", "define ")


def parse_error(template: str) -> str | None:
    """Return Go's error for `template`, or None: an action that is not closed, a block without end, an end too many."""
    line = 1 + template.count("\n")
    if "{{" in _ACTION.sub("", template):
        return f"template: :{line}: unclosed action"
    depth = 0
    for action in _ACTION.finditer(template):
        text = f"{action[1]} "
        depth += text.startswith(_BLOCKS) - (text == "end ")
        if depth < 0:
            return f"template: :{1 + template.count(chr(10), 0, action.start())}: unexpected {{{{end}}}}"
    return f"template: :{line}: unexpected EOF" if depth else None
