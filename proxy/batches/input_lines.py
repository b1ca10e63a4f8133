"""The lines of a batch: one request each, as JSON.

OpenAI's are ``{"custom_id", "method", "url", "body"}`` in an uploaded file; the elements of Anthropic's ``requests``,
``{"custom_id", "params"}``, are kept as lines too. The body of a request is the text of its member as it was written.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from proxy.kernel.errors import Flavor
from proxy.kernel.json_members import members_of
from proxy.kernel.log_lines import clip

MOST_PROBLEMS: Final = 100
"""Problems of a file that are listed."""
LONGEST_ID: Final = 512
"""Characters of a ``custom_id`` in OpenAI's batches."""
_ANTHROPICS_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class LineForm(NamedTuple):
    """The form of a line.

    Attributes:
        body: the member that holds the body of the request.
        path: where the request goes.
        flavor: whose form it is.
    """

    body: str
    path: str
    flavor: Flavor

    @classmethod
    def of(cls, flavor: str, path: str) -> "LineForm":
        """Return the form that an API gives to the requests for `path`."""
        return cls("params", path, "anthropic") if flavor == "anthropic" else cls("body", path, "openai")


class Problem(NamedTuple):
    """Something that is wrong with a line; lines are counted from 1."""

    line: int
    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A request of a batch.

    Attributes:
        custom_id: the client's name for it.
        body: its body, as it was written.
        document: the same, read.
    """

    custom_id: str
    body: bytes
    document: dict[str, Any]


class Wrong(ValueError):
    """A line is not as it must be; `code` and `param` say in OpenAI's words what is wrong."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


def lines_from(data: bytes, start: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield each line from byte `start` on that is not blank, with the byte behind it."""
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        line = data[start:end].strip()
        start = end + 1
        if line:
            yield line, min(start, len(data))


def read_line(text: bytes, form: LineForm, longest: int) -> Line:
    """Return the request in a line; raises Wrong.

    Args:
        text: the line.
        form: its form.
        longest: bytes that a body may have.
    """
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Wrong("invalid_json_line", "this line is not valid JSON") from None
    if not isinstance(document, dict):
        raise Wrong("invalid_json_line", "this line is not a JSON object")
    custom_id = _custom_id(document, form)
    if form.flavor == "openai":
        _check_target(document, form.path)
    body = document.get(form.body)
    if not isinstance(body, dict):
        raise Wrong("missing_required_parameter", f"{form.body} must be an object", form.body)
    for member in ("stream", "background"):
        if body.get(member) is True:
            raise Wrong("invalid_request", f"{form.body}.{member} cannot be true in a batch", f"{form.body}.{member}")
    written = members_of(text)[form.body]
    if len(written) > longest:
        raise Wrong("invalid_request", f"{form.body} is longer than {longest} bytes", form.body)
    return Line(custom_id, written, body)


def check_lines(data: bytes, form: LineForm, longest: int) -> tuple[int, list[Problem], str | None]:
    """Return the number of lines, what is wrong with them, and the model that all of them name; else None.

    Args:
        data: the lines.
        form: their form.
        longest: bytes that the body of a request may have.
    """
    total = 0
    problems: list[Problem] = []
    seen: set[str] = set()
    models: set[object] = set()
    for total, (text, _) in enumerate(lines_from(data), 1):
        try:
            line = read_line(text, form, longest)
            if line.custom_id in seen:
                shown = clip(line.custom_id, 64)
                raise Wrong("duplicate_custom_id", f"the custom_id {shown} was used by an earlier line", "custom_id")
        except Wrong as wrong:
            if len(problems) < MOST_PROBLEMS:
                problems.append(Problem(total, wrong.code, str(wrong), wrong.param))
            continue
        seen.add(line.custom_id)
        models.add(model_of(line))
    if not total:
        problems.append(Problem(1, "empty_file", "the file has no requests"))
    (model,) = models if len(models) == 1 else (None,)
    return total, problems, model if isinstance(model, str) else None


def model_of(line: Line) -> str | None:
    """Return the model that a request names."""
    model = line.document.get("model")
    return model if isinstance(model, str) else None


def _custom_id(document: dict[str, Any], form: LineForm) -> str:
    custom_id = document.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        raise Wrong("missing_required_parameter", "custom_id must be a text that is not empty", "custom_id")
    if form.flavor == "anthropic" and not _ANTHROPICS_ID.fullmatch(custom_id):
        raise Wrong("invalid_request", "custom_id must have 1 to 64 letters, digits, - or _", "custom_id")
    if len(custom_id) > LONGEST_ID or not custom_id.isprintable():
        raise Wrong("invalid_request", f"custom_id must have at most {LONGEST_ID} printable characters", "custom_id")
    return custom_id


def _check_target(document: dict[str, Any], path: str) -> None:
    if document.get("method") != "POST":
        raise Wrong("invalid_method", 'method must be "POST"', "method")
    if document.get("url") != path:
        raise Wrong("mismatched_endpoint", f"url must be {path}, the endpoint of the batch", "url")
