"""One simulated host, a process of its own, so that it can be killed and frozen.

It listens on the port that its argument names, says so in a line, and obeys words on its standard input: ``stall``
begins to answer nothing, whatever is asked, ``well`` ends it, ``cut`` breaks every connection.
"""

import sys
from typing import Final

import uvloop

from bench.soak.part import say, told
from proxy.simulator import Ollama

TOKENS: Final = 8
TOKEN_DELAY: Final = 0.02
PARALLEL: Final = 64


async def serve(port: int, seed: int) -> None:
    """Run until the standard input ends."""
    async with Ollama(
        port=port, seed=seed, tokens=TOKENS, token_delay=TOKEN_DELAY, num_parallel=PARALLEL, record=0
    ) as host:
        say(host.port)
        resets = False
        async for word in told():
            if word == "stall":
                host.fault("stall", times=None)
            elif word == "cut":
                resets = not resets
                host.drop(reset=resets)
            else:
                host.clear()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
