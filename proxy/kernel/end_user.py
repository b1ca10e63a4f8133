"""The end user whom a request's body names, and the form that the name of an end user has."""

import re
from collections.abc import Mapping
from typing import Any, Final

from proxy.kernel.errors import Flavor

LONGEST: Final = 256
"""Longest name of an end user, in characters; a longer one counts as none."""
_NAME: Final = re.compile(rf"[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]{{1,{LONGEST}}}")
"""No character of it ends lines, steers terminals or turns text around."""


def usable(text: object) -> str | None:
    """Return the name without space around it; None where it is no text, is empty, too long or cannot be printed."""
    if not isinstance(text, str) or len(text) > 2 * LONGEST:
        return None
    name = text.strip()
    return name if _NAME.fullmatch(name) else None


def named_in(document: Mapping[str, Any] | None, flavor: Flavor) -> str | None:
    """Return the end user whom a request's body names; None where it names none, or its API has no place for one."""
    if document is None:
        return None
    if flavor == "openai":
        return usable(document.get("safety_identifier")) or usable(document.get("user"))
    if flavor == "anthropic":
        metadata = document.get("metadata")
        return usable(metadata.get("user_id")) if isinstance(metadata, dict) else None
    return None
