"""The texts that the simulated models say: always the same for the same seed, model and prompt."""

import hashlib
import itertools
import json
import random
import re
from collections.abc import Iterator
from typing import Any

# Words as a tokenizer cuts them: most begin with a space. Some take several bytes in UTF-8, some must be escaped
# in JSON, and some are escaped by Go's encoder though JSON would not ask for it.
VOCABULARY = (
    " the", " a", " of", " to", " and", " in", " is", " that", " it", " was", " for", " with", " as", " on", " are",
    " this", " by", " from", " or", " one", " light", " water", " river", " stone", " morning", " window", " letter",
    " garden", " answer", " question", " because", " between", " carries", " remembers", " under", " over", " slow",
    " quick", " bright", " quiet", " old", " new", " green", " blue", " seven", " three", " model", " token", " stream",
    " proxy", " wire", ",", ".", ";", "?", "ing", "ed", "ly", "s", "\n", "\n\n", " \"yes\"", " x < y", " R&D", " <b>",
    " back\\slash", "\ttab", " café", " naïve", " Straße", " Zürich", " jalapeño", " Ångström", " 東京", " 世界", "。",
    " привет", " мир", " γειά", " שלום", " مرحبا", " नमस्ते", " 안녕", " 🙂", " 🚀", " 👩‍💻", " e\u0301", " …", " €",
)  # fmt: skip


def dice(seed: int, *parts: str) -> random.Random:
    """Return a generator that depends on nothing but its arguments."""
    text = "\x00".join((str(seed), *parts))
    return random.Random(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())


def tokens(rng: random.Random) -> Iterator[str]:
    """Yield words without end; a longer reply begins with the shorter one."""
    while True:
        yield from rng.choices(VOCABULARY, k=64)


def sentence(rng: random.Random, count: int) -> str:
    """Return `count` tokens as one text."""
    return "".join(itertools.islice(tokens(rng), count)).strip()


def vector(seed: int, model: str, text: str, dimensions: int) -> list[float]:
    """Return the embedding of `text`: unit length, always the same for the same text."""
    rng = dice(seed, "vector", model, text)
    values = [rng.uniform(-1.0, 1.0) for _ in range(dimensions)]
    length = sum(value * value for value in values) ** 0.5 or 1.0
    return [round(value / length, 8) for value in values]


def logprobs(text: str, others: int) -> dict[str, Any]:
    """Return how probable a token was, and the `others` most probable in its place, the first of which is itself."""
    own = _logprob(text, 0)
    if others:
        words = dice(0, "logprobs", text).sample(VOCABULARY, others - 1)
        own["top_logprobs"] = [_logprob(word, place) for place, word in enumerate((text, *words))]
    return own


def _logprob(token: str, place: int) -> dict[str, Any]:
    return {"token": token, "logprob": -0.25 - place / 2, "bytes": list(token.encode("utf-8", "surrogatepass"))}


def structured(rng: random.Random, schema: object) -> list[str]:
    """Return a JSON text in pieces that satisfies `schema` (a JSON schema, or anything else for a free object)."""
    value = instance(rng, schema) if isinstance(schema, dict) and schema else {"answer": sentence(rng, 6)}
    return re.findall(r"\w+|\s+|[^\w\s]+", json.dumps(value, ensure_ascii=False))


def instance(rng: random.Random, schema: dict[str, Any], root: dict[str, Any] | None = None) -> object:
    """Return a value for the common part of JSON schema: types, enum, const, $ref, anyOf, properties, items."""
    root = schema if root is None else root
    if isinstance(ref := schema.get("$ref"), str):
        target: Any = root
        for part in ref.removeprefix("#/").split("/"):
            target = target.get(part, {}) if isinstance(target, dict) else {}
        return instance(rng, target, root)
    if "const" in schema:
        return schema["const"]
    if choices := schema.get("enum"):
        return rng.choice(choices)
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return instance(rng, choices[0], root)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            return {name: instance(rng, part, root) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [instance(rng, schema.get("items", {}), root) for _ in range(max(1, schema.get("minItems", 1)))]
        case "integer":
            return rng.randint(1, 99)
        case "number":
            return round(rng.uniform(0, 99), 2)
        case "boolean":
            return rng.random() < 0.5
        case "null":
            return None
    return rng.choice(VOCABULARY[20:51]).strip()
