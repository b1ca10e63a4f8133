"""The base of every section of the policy file."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, WithJsonSchema

from proxy.kernel.units import Mistake

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_name(name: str) -> str:
    """Return `name`; raises Mistake. Names go into logs, metrics, paths and headers as they are."""
    if not _NAME.fullmatch(name):
        raise Mistake("expected a name of letters, digits, dot, dash and underscore")
    return name


Name = Annotated[
    str,
    AfterValidator(check_name),
    WithJsonSchema({"title": "a name", "type": "string", "pattern": f"^{_NAME.pattern}$"}),
]


class Model(BaseModel):
    """A section: unchangeable, strict, and silent about its values, any of which may be a secret.

    The docstrings below the fields are the reference documentation and the editor's hovers.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def __repr__(self) -> str:
        name = getattr(self, "name", None)
        return f"<{type(self).__name__} {name}>" if name else f"<{type(self).__name__}>"

    __str__ = __repr__


def as_tuple(value: object) -> object:
    """Let a single value stand where a list is meant."""
    return tuple(value) if isinstance(value, list) else (value,)
