"""proxy/services/alone.py."""

from collections.abc import Mapping
from typing import Any

from proxy.kernel.peers import Answer
from proxy.services.alone import Alone


async def test_it_answers_its_own_questions_and_nobody_else_hears() -> None:
    async def double(about: Mapping[str, Any]) -> int:
        return int(about["number"]) * 2

    alone = Alone()
    alone.on("double", double)
    assert await alone.ask("double", number=4) == [Answer(0, 8, mine=True)]
    alone.watch(lambda event: None)
    alone.tell(b"x")
    assert (alone.number, alone.watched) == (0, False)
