"""The simulated machine: its models, settings and counters, as handlers, replies and connections see them."""

import asyncio
from collections import deque
from collections.abc import Callable

from proxy.simulator.counters import Counters
from proxy.simulator.disk import Disk
from proxy.simulator.loaded_models import Engine
from proxy.simulator.request import Request
from proxy.simulator.settings import Model, Settings


class Host:
    """Holds the state of one simulated Ollama, and tells its tests about every change.

    Attributes:
        settings: may be changed at any time.
        store: models and blobs on its disk.
        engine: models in its memory.
        requests: the requests so far, oldest first, as many as ``settings.record``.
        counters: see `Counters`.
        bugs: exceptions of the simulator itself.
        loopback: whether it listens where only its own machine reaches it.
    """

    def __init__(self, settings: Settings, models: tuple[str | Model, ...], *, loopback: bool = True) -> None:
        self.settings = settings
        self.store = Disk(models)
        self.counters = Counters()
        self.engine = Engine(settings, self.counters, self.changed)
        self.requests: deque[Request] = deque(maxlen=settings.record)
        self.bugs: list[BaseException] = []
        self.loopback = loopback
        self._waiters: list[tuple[Callable[[], object], asyncio.Future[None]]] = []

    @property
    def checks_host(self) -> bool:
        """Return whether unknown Hosts are refused: Ollama does so on loopback only."""
        return self.settings.check_host and self.loopback

    async def wait_for(self, condition: Callable[[], object], timeout: float = 5.0) -> None:
        """Return once `condition` holds; it is tried after every change of anything that a test can see.

        A condition that raises LookupError does not hold yet: ``sim.last`` before there is a request.

        Raises:
            TimeoutError: it did not hold within `timeout` seconds; the text shows the counters.
        """
        if _holds(condition):
            return
        waiter = (condition, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter[1]
        except TimeoutError:
            raise TimeoutError(f"not within {timeout} s; {self.counters}") from None
        finally:
            self._waiters.remove(waiter)

    def changed(self) -> None:
        """Wake the waiters whose condition holds now."""
        for condition, future in self._waiters:
            if not future.done() and _holds(condition):
                future.set_result(None)

    def sent(self, request: Request, data: bytes) -> None:
        """Note a chunk of an answer's body that goes to the client."""
        request.sent_chunks += 1
        if self.settings.record:
            request.sent.append(data)
        self.changed()

    def generated(self) -> None:
        """Count one token that a model has made."""
        self.counters.tokens_generated += 1
        self.changed()

    def delivered(self, request: Request, tokens: int) -> None:
        """Count tokens that were written to an open connection."""
        request.tokens += tokens
        self.counters.tokens_delivered += tokens
        self.changed()

    def abandoned(self, request: Request) -> None:
        """Note that a request's client left before it was answered."""
        request.state = "cancelled"
        self.counters.cancelled += 1
        self.changed()

    def broken(self, bug: BaseException) -> None:
        """Note an exception that the simulator should not have raised."""
        self.bugs.append(bug)
        asyncio.get_running_loop().call_exception_handler({"message": "a bug in the simulator", "exception": bug})


def _holds(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except LookupError:
        return False
