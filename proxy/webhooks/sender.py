"""Calls the addresses of entries that are over, and again where that fails."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import uniform
from typing import Final
from weakref import WeakValueDictionary

import httpcore
import httpx
import structlog

from proxy.kernel.clock import Clock
from proxy.kernel.journal import OVER, Entry, Journal, JournalFull, Query, State
from proxy.kernel.store import StoreUnavailable
from proxy.kernel.webhook_options import WebhookOptions
from proxy.kernel.webhooks import OPTIONS, TOLD, WEBHOOK, Webhooks
from proxy.webhooks.checked_network import CheckedNetwork, NotPermitted
from proxy.webhooks.message import message_id, message_of, signed

LOST: Final = "owner_lost"
"""The code of the error of an entry whose owner is gone; see `Journal.claim`."""
LEFT: Final[tuple[State, ...]] = ("expired", "failed", "dead")
"""The states in which a journal ends an entry by itself."""

log = structlog.get_logger("ollama_proxy.webhooks")

DELAYS: Final = (5.0, 30.0, 300.0, 1800.0, 7200.0)
"""Seconds between two attempts, each up to a fifth more or less."""
TIMEOUT: Final = 15.0
"""Seconds that a call may take."""
LOOK: Final = 60.0
"""Seconds between two looks for entries that no run has ended, each up to half of it more or less."""
AT_ONCE: Final = 16
"""Calls that run at the same time."""
AT_ONCE_OF_ONE: Final = 4
"""Those of one caller: whose address does not answer takes no other's place."""
MOST: Final = 10_000
"""Messages that wait to be delivered; those beyond are not."""
MOST_OF_ONE: Final = 2_000
"""Those of one caller."""


class SignedWebhooks(Webhooks):
    """The sender of one process. A message is delivered at least once, or given up after the last of `DELAYS`.

    In a journal that survives the process alone, what was not delivered is tried again at the next start; where
    several processes share the journal, the one that has ended an entry delivers its message, as long as it lives.
    Of an entry that no run has ended, as it has expired or lost its owner, whoever finds it first tells.

    Args:
        journal: notes what was delivered.
        clock: tells the time.
        delays: seconds between two attempts.
        look: seconds between two looks for entries that no run has ended.
    """

    def __init__(self, journal: Journal, clock: Clock, delays: Sequence[float] = DELAYS, *, look: float = LOOK) -> None:
        self._journal = journal
        self._clock = clock
        self._delays = delays
        self._look = look
        self._looking: asyncio.Task[None] | None = None
        self._known: WeakValueDictionary[int, WebhookOptions] = WeakValueDictionary()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._waiting: Counter[str] = Counter()
        self._free = asyncio.Semaphore(AT_ONCE)
        self._free_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._tls: ssl.SSLContext | None = None

    def know(self, options: WebhookOptions) -> None:
        """See `Webhooks.know`."""
        self._known[id(options)] = options

    def notify(self, entry: Entry) -> None:
        """See `Webhooks.notify`."""
        name = message_id(entry)
        if not entry.over or not isinstance(entry.meta.get(WEBHOOK), str) or name in self._tasks:
            return
        owner = entry.caller.owner
        if len(self._tasks) >= MOST or self._waiting[owner] >= MOST_OF_ONE:
            waiting = f"{len(self._tasks)} messages wait already, {self._waiting[owner]} of them for this caller"
            log.warning("webhook_given_up", entry=entry.id, reason=waiting)
            return
        self._waiting[owner] += 1
        task = self._tasks[name] = asyncio.get_running_loop().create_task(self._deliver(entry, entry.meta[WEBHOOK]))
        task.add_done_callback(lambda _: self._forget(name, owner))

    def _forget(self, name: str, owner: str) -> None:
        self._tasks.pop(name, None)
        self._waiting[owner] -= 1
        if not self._waiting[owner]:
            del self._waiting[owner]

    async def resume(self) -> None:
        """Deliver what an earlier process has not, where the journal has survived it and belongs to this one alone.

        From now on look for what no run has ended.
        """
        if self._journal.durable and not self._journal.shared:
            with suppress(StoreUnavailable):
                await self._find(Query(kinds=("request", "batch"), states=tuple(sorted(OVER)), limit=MOST))
        self._looking = asyncio.create_task(self._look_forever())

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(self._look * uniform(0.5, 1.5))
            if not self._known:
                continue
            for state in LEFT:  # a home has an index of each
                with suppress(StoreUnavailable):
                    await self._find(Query(kinds=("request",), states=(state,), limit=MOST), _was_left)

    async def _find(self, query: Query, counts: Callable[[Entry], bool] = lambda _: True) -> None:
        """Deliver what was not delivered of the entries that count."""
        for entry in await self._journal.entries(query):
            if counts(entry) and entry.meta.get(TOLD) != entry.fence:
                self.notify(entry)

    async def aclose(self) -> None:
        """Stop; what was not delivered is left."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _deliver(self, entry: Entry, url: str) -> None:
        message, reason = message_of(entry), "no attempt"
        places = self._free_of.setdefault(entry.caller.owner, asyncio.Semaphore(AT_ONCE_OF_ONE))
        for delay in (*self._delays, None):
            again, reason = await self._attempt(entry, url, message, places)
            if not again:
                break
            if delay is not None:
                await asyncio.sleep(delay * uniform(0.8, 1.2))
        if reason:
            log.warning("webhook_given_up", entry=entry.id, reason=reason)
        with suppress(StoreUnavailable, JournalFull):
            await self._journal.set_meta(entry.id, {TOLD: entry.fence})

    async def _attempt(self, entry: Entry, url: str, message: bytes, places: asyncio.Semaphore) -> tuple[bool, str]:
        """Call the address once; return whether to try again, and why it failed, which is empty where it did not."""
        options = self._options_for(entry, url)
        if options is None:
            return False, "no policy permits the address any more"
        fields = [
            (b"content-type", b"application/json"),
            (b"user-agent", b"ollama-proxy"),
            *signed(options.key, message_id(entry), int(self._clock.time()), message),
        ]
        try:
            async with places, self._free, asyncio.timeout(TIMEOUT):
                status = await self._call(url, fields, message, options)
        except NotPermitted as error:
            return False, str(error)
        except TimeoutError:
            return True, f"no answer within {TIMEOUT:g} s"
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            return True, str(error) or type(error).__name__
        return status != 410 and not 200 <= status < 300, "" if 200 <= status < 300 else f"it answered {status}"

    def _options_for(self, entry: Entry, url: str) -> WebhookOptions | None:
        """Return the options by which the address may be called: those that permitted it, where they are in force.

        Of two policies each has its own secret and networks. Where its own has changed, any that permits it now counts.
        """
        fitting = [known for known in self._known.values() if known.permits(url)]
        same = [known for known in fitting if known.mark == entry.meta.get(OPTIONS)]
        return next(iter(same or fitting), None)

    async def _call(self, url: str, fields: list[tuple[bytes, bytes]], message: bytes, options: WebhookOptions) -> int:
        """Return the status of the answer; its body is not read, and a redirect is not followed."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(httpx.create_ssl_context)
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._tls, network_backend=CheckedNetwork(options.named), keepalive_expiry=0
            ) as pool,
            pool.stream("POST", url, headers=fields, content=message) as answer,
        ):
            return answer.status


def _was_left(entry: Entry) -> bool:
    """Return whether the journal may have ended an entry by itself, so that no process knows of it."""
    return entry.state != "failed" or (entry.error or "").startswith(f"{LOST}:")
