"""The inputs that are kept, and mutations of them for hypothesis."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hypothesis import strategies as st

FOLDER: Final = Path(__file__).parent / "corpus"


def kept(name: str) -> dict[str, bytes]:
    """Return a target's inputs by their file's name."""
    return {path.name: path.read_bytes() for path in sorted((FOLDER / name).iterdir())}


def mutations(seeds: Sequence[bytes], tokens: Sequence[bytes], longest: int = 2000) -> st.SearchStrategy[bytes]:
    """Return a strategy of near-valid inputs: seeds with pieces put in, taken out, doubled and replaced."""
    piece: st.SearchStrategy[bytes] = st.sampled_from(tokens) | st.binary(max_size=4)

    @st.composite
    def mutated(draw: st.DrawFn) -> bytes:
        from_seed = bool(draw(st.integers(0, 4)))
        data = draw(st.sampled_from(seeds)) if from_seed else b"".join(draw(st.lists(piece)))
        for _ in range(draw(st.integers(0, 4))):
            start = draw(st.integers(0, min(len(data), longest)))
            end = min(start + draw(st.integers(0, 12)), len(data))
            match draw(st.integers(0, 3)):
                case 0:
                    data = data[:start] + draw(piece) + data[start:]
                case 1:
                    data = data[:start] + data[end:]
                case 2:
                    data = data[:end] + data[start:]
                case 3:
                    data = data[:start] + draw(piece) + data[end:]
        return data[:longest]

    return mutated()
