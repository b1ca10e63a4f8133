"""The size of a prompt: bytes of text and number of pictures that a model has to read."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

SMALL: Final = 16 * 1024
"""Length of a body, in bytes, in which one picture does not matter."""


class PromptSize(NamedTuple):
    """The parts of a JSON body for a model: bytes of text, JSON's own signs included, and pictures."""

    text: int = 0
    pictures: int = 0

    @classmethod
    def of(cls, document: Mapping[str, Any], length: int) -> "PromptSize":
        """Return the size of the `document` that was read of `length` bytes; as one is cut, so is the other."""
        pictures = list(_pictures(document)) if length > SMALL else []
        return cls(length - sum(map(len, pictures)), len(pictures))


def _pictures(document: Mapping[str, Any]) -> Iterator[str]:
    """The pictures in a request of any flavor, each as base64 or URL."""
    yield from _texts(document.get("images"))
    for message in (*_objects(document.get("messages")), *_objects(document.get("input"))):
        yield from _texts(message.get("images"))
        for part in _objects(message.get("content")):
            image = part.get("image_url") or part.get("source")
            if isinstance(image, dict):
                image = image.get("url") or image.get("data")
            if isinstance(image, str):
                yield image


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
