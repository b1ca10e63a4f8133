"""bench/soak/part.py: words go to a part, JSON comes back, and a part that ends by itself is noticed."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.soak import part as part_module
from bench.soak.part import Part, PartEnded
from bench.targets import ROOT

SOURCE = """
import asyncio
from bench.soak.part import say, told

async def main():
    async for word in told():
        say({1: word})
    say("the end")

asyncio.run(main())
"""


def test_words_go_in_and_json_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "echo.py").write_text(SOURCE)
    (tmp_path / "silent.py").write_text("")
    (tmp_path / "bench").symlink_to(ROOT / "bench")
    monkeypatch.setattr(part_module, "ROOT", tmp_path)
    with ExitStack() as stack:
        echo = Part(stack, "echo")
        for word in ("go", "pause"):
            echo.tell(word)
            assert echo.hear() == {"1": word}
        assert echo.end() == "the end"
        with pytest.raises(PartEnded):
            Part(stack, "silent").hear()
