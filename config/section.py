"""The base class of every section of the policy file."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, WithJsonSchema

from proxy.kernel.units import Mistake

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_name(name: str) -> str:
    """Return `name`, or raise Mistake. Logs, metrics, paths and headers use the name unchanged."""
    if not _NAME.fullmatch(name):
        raise Mistake("expected a name of letters, digits, dot, dash and underscore")
    return name


Name = Annotated[
    str,
    AfterValidator(check_name),
    WithJsonSchema({"title": "a name", "type": "string", "pattern": f"^{_NAME.pattern}$"}),
]


class Model(BaseModel):
    """The base class of a section. Instances are frozen and strict, and `repr` hides their values: any may be a secret.

    The docstrings below the fields become the reference documentation and the hover texts of editors.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def __repr__(self) -> str:
        name = getattr(self, "name", None)
        return f"<{type(self).__name__} {name}>" if name else f"<{type(self).__name__}>"

    __str__ = __repr__


def as_tuple(value: object) -> object:
    """Return a list as a tuple, and any other value as a tuple of one."""
    return tuple(value) if isinstance(value, list) else (value,)
