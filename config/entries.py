"""One entry of the middleware list, in its three forms.

::

    - metrics
    - rate_limit: {requests: 60/minute}
    - use: acme.redact:Redact
      name: redact
      pattern: "[0-9]{16}"
"""

from dataclasses import dataclass
from typing import Any, Final, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from config.problems import Path
from proxy.kernel.units import Mistake

_FORMS: Final = "expected a plugin: name, name: {options}, or use: package.module:Class"


@dataclass(frozen=True, slots=True)
class Entry:
    """A plugin's entry in the chain. `proxy.chain.plan` checks its options against the plugin's signature.

    Attributes:
        name: the name that policies, logs and errors use.
        use: the plugin: a known name, or ``package.module:Class``.
        key: the key above the options; None if they stand beside `use`, or if there are none.
    """

    name: str
    use: str
    key: str | None = None

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read an entry, or raise Mistake."""
        if isinstance(value, str) and value:
            return cls(value, value)
        if not isinstance(value, dict) or not value:
            raise Mistake(_FORMS)
        if "use" in value:
            use, name = value["use"], value.get("name", value["use"])
            if not (isinstance(use, str) and use and isinstance(name, str) and name):
                raise Mistake("use and name must be text")
            return cls(name, use)
        if len(value) > 1:
            raise Mistake(_FORMS, "one plugin per entry; indent its options below its name")
        [(name, options)] = value.items()
        if not isinstance(options, dict | None):
            raise Mistake(f"the options of {name} must be a mapping")
        return cls(name, name, name)

    @property
    def reserved(self) -> frozenset[str]:
        """Return the keys beside the options that are not options themselves."""
        return frozenset() if self.key else frozenset({"use", "name"})

    def below(self, path: Path) -> Path:
        """Return the path of the options, given the path of the entry."""
        return path if self.key is None else (*path, self.key)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        use: dict[str, Any] = {"type": "string", "description": "A plugin's name, or package.module:Class."}
        name: dict[str, Any] = {"type": "string", "description": "What policies, logs and errors call it."}
        return {
            "title": "a plugin",
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "required": ["use"],
                    "properties": {"use": use, "name": name},
                    "additionalProperties": True,
                },
                {"type": "object", "not": {"required": ["use"]}, "minProperties": 1, "maxProperties": 1},
            ],
        }
