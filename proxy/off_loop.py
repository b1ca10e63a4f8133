"""Work that takes milliseconds, done beside the event loop.

Python runs one thread at a time, so this saves no time; but while a body is read in a thread, chunks of other answers
go out in between. What runs here keeps each call into C short, as nothing gets in between of that.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

THREADS: Final = 2
"""One that works, and one that unpacks zstd or reads a short body meanwhile."""

_threads: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="off_loop")


async def off_loop(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what `work` does, run in a thread of the few that there are for it.

    Whoever is cancelled leaves the line; work that has begun goes on to its end, and nobody hears of it.
    """
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(work, *args, **kwargs))
