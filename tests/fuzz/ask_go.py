"""Ask Go itself: ``python -m tests.fuzz.ask_go``, where Go is installed.

Records what it says of the kept inputs in ``tests/fuzz/go``, for machines without it, and compares its answers with the
models of its readers: for these inputs, for all that the fuzzers have in ``.fuzz``, and for mutations of both.
"""

import json
import random
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from proxy.simulator import go_json
from tests.fuzz.corpora import kept
from tests.fuzz.oracles import goanswers
from tests.fuzz.targets import target
from tests.fuzz.targets.json_gate import SHAPE, expanded

MUTATED: Final = 20_000
"""Mutations that Go and a model are compared with."""


def body(data: bytes) -> dict[str, Any]:
    """Return what the model reads in a JSON body, as ``readers.go`` puts it."""
    try:
        members = go_json.decode(expanded(data), SHAPE)
    except go_json.BadJSON as error:
        return {"error": "type" if "cannot unmarshal" in str(error) else "syntax"}
    empty = go_json.zero(SHAPE)
    read = {name: None if value == empty[name] == {} else value for name, value in members.items()}
    return {"members": goanswers.shortened(read)}


MODELS: Final[dict[str, Callable[[bytes], dict[str, Any]]]] = {"json_gate": body, "multipart_form": goanswers.form}


def agree(name: str, go: dict[str, Any], model: dict[str, Any]) -> bool:
    """Whether two answers are one: an empty map that was sent is as good as none, any refusal as another."""
    if "error" in go:
        return "error" in model
    if name == "json_gate" and "members" in go:
        go = {"members": {**go["members"], "options": go["members"]["options"] or None}}
        model = {"members": {**model.get("members", {}), "options": model.get("members", {}).get("options") or None}}
        return bool(goanswers.shortened(go) == model)
    return go == model


def ask(program: Path, name: str, inputs: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return Go's answers."""
    prepared = [expanded(data) if name == "json_gate" else data for data in inputs]
    lines = b"".join(b64encode(data) + b"\n" for data in prepared)
    done = subprocess.run([program, name], input=lines, capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def mutated(seeds: Sequence[bytes], tokens: Sequence[bytes], dice: random.Random) -> bytes:
    """Return one of the inputs with a few pieces put in, taken out or replaced."""
    data = dice.choice(seeds)
    for _ in range(dice.randint(1, 4)):
        start = dice.randint(0, len(data))
        end = start + dice.choice((0, 0, 1, 5))
        data = data[:start] + dice.choice((b"", *tokens, bytes([dice.randrange(256)]))) + data[end:]
    return data


def main() -> int:
    """Build the program, ask, record, compare; return how many answers differ."""
    differ = 0
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "readers"
        subprocess.run(["go", "build", "-o", program, goanswers.FOLDER / "readers.go"], check=True)
        for name, model in MODELS.items():
            inputs = list(kept(name).values())
            answers = dict(zip((sha256(data).hexdigest() for data in inputs), ask(program, name, inputs), strict=True))
            (goanswers.FOLDER / f"{name}.json").write_text(json.dumps(answers, indent=0, sort_keys=True) + "\n")
            found = Path(".fuzz/work") / name
            inputs += [path.read_bytes() for path in sorted(found.iterdir())] if found.exists() else []
            dice = random.Random(0)
            inputs += [mutated(inputs, target(name).TOKENS, dice) for _ in range(MUTATED)]
            for data, answer in zip(inputs, ask(program, name, inputs), strict=True):
                if not agree(name, answer, model(data)):
                    differ += 1
                    print(f"{name} {data[:300]!r}\n  Go:    {str(answer)[:300]}\n  model: {str(model(data))[:300]}")
            print(f"{name}: {len(inputs)} inputs, {differ} differ so far")
    return differ


if __name__ == "__main__":
    sys.exit(min(main(), 1))
