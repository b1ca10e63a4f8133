"""The reference of all error codes, made from their table."""

from collections.abc import Iterable, Iterator
from typing import Final

from proxy.kernel.error_codes import BY_STATUS, FINAL, OLLAMAS_OWN, TABLE, Code, Row
from proxy.kernel.error_rendering import LONGEST_WAIT


def errors_page() -> str:
    """Return the page, in Markdown."""
    return _PAGE.format(
        rows="\n".join(_rows()),
        own=_listed(OLLAMAS_OWN),
        final=_listed(FINAL),
        wait=LONGEST_WAIT,
        defaults=", ".join(f"{status} `{code}`" for status, code in BY_STATUS.items()),
    )


def _listed(found: Iterable[Code]) -> str:
    return ", ".join(f"`{code}`" for code in sorted(found))


def _rows() -> Iterator[str]:
    for code in sorted(TABLE):
        yield _row(code, TABLE[code])


def _row(code: Code, row: Row) -> str:
    statuses = ", ".join(map(str, row.statuses)) or "any other"
    return f"| `{code}` | {statuses} | {', '.join(row.by)} | {row.means} | {row.remedy} |"


_PAGE: Final = """\
# Errors

Generated from `proxy/kernel/error_codes.py` by `scripts/generate`; not to be edited here.

Each error that the proxy makes has a code, which keeps its name and its meaning. Programs tell errors apart by it; the
sentence beside it is for people, and may change. The code is

- in the response header `x-error-code`, always; pages of other origins may read it. No answer of a backend has it.
- in the body, as its API has room for it:

  | API | body |
  |---|---|
  | Ollama, and the routes under `/-/` | `{{"error": "text", "code": "…"}}` |
  | OpenAI | `{{"error": {{"message": "text", "type": "…", "param": null, "code": "…"}}}}` |
  | Anthropic | `{{"type": "error", "error": {{"type": "…", "message": "text", "code": "…"}}}}` |
  | refused before its route is known, or without one | the text alone |

  Where an answer has begun, the same stands in the stream: as a line of NDJSON, or as an event. Errors that Ollama
  makes as well ({own}) are written as Ollama writes them: the member is missing there, in OpenAI's form it is null.
- in the log, as `error_code`.

In Anthropic's form `request_id` is the id that `X-Request-ID` and the log have. A 401 has its text as `status`, too, in
Ollama's form: Ollama's client in Go, and with it the command line, reads nothing else of it.

Some clients send a refused request again by themselves. `x-should-retry: false` stops those that read it, which
OpenAI's and Anthropic's SDKs and Claude Code do. It stands on every 401 and 403, on {final}, and where Retry-After is
more than {wait} seconds: some clients would wait silently for hours, and others come back within seconds.

A time-out says in its text which timer ran out, and how long it is: `the backend did not answer within 30 s (timer
first_byte)`.

Some routes under `/-/` answer a document of their own with a status that says no; `x-error-code` says why there, too.

| code | status | raised by | what it means | what to do |
|---|---|---|---|---|
{rows}

*Raised by* names plugins and the folders under `proxy/`. A plugin of another package may have
[codes of its own](../guides/plugins.md#the-exchange). Where it names none, the status says which it is: {defaults}, and
`refused` for all others.
"""
