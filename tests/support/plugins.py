"""Small plugins for tests of the chain, to be named in policy files as ``tests.support.plugins:Name``."""

from collections.abc import Sequence
from typing import ClassVar

from proxy.kernel.asgi import ASGIApp, Message, Receive, Scope, Send, header
from proxy.kernel.clock import Clock
from proxy.kernel.cross_origin import CrossOrigin
from proxy.kernel.defined_policies import EntryName, Policies
from proxy.kernel.errors import Refused
from proxy.kernel.exchange import Exchange
from proxy.kernel.units import ConfigPath, Duration, PolicyName, Secret
from proxy.testing import suppose

made: list[object] = []
"""Every plugin that was constructed; tests clear it."""


class Identify:
    """Takes the policy from a header.

    Args:
        anonymous: the policy of everybody else.
    """

    sets_policy: ClassVar = True

    def __init__(self, app: ASGIApp, *, policies: Policies, anonymous: PolicyName | None = None) -> None:
        self.app = app
        self.policies = policies
        self.anonymous = anonymous
        made.append(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        named = header(scope["headers"], b"policy")
        suppose(Exchange.of(scope), policy=named.decode() if named else self.anonymous)
        await self.app(scope, receive, send)


class Tag:
    """Leaves its tags on the exchange, then passes on, refuses or fails.

    Args:
        tags: what to leave.
        wait: some duration.
        refuse: answer 403.
        fail: raise an error that is a bug.
        secret: what no print may show.
        file: some path.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        entry: EntryName,
        clock: Clock | None = None,
        tags: Sequence[str] = (),
        wait: Duration = 1.0,
        refuse: bool = False,
        fail: bool = False,
        secret: Secret | None = None,
        file: ConfigPath | None = None,
    ) -> None:
        if "impossible" in tags:
            raise ValueError(f"the tags {list(tags)} do not go together")
        if "secret" in tags and secret is not None:
            raise ValueError(f"a careless plugin repeats {secret.get_secret_value()}")
        if "bug" in tags:
            raise TypeError("a constructor with a bug")
        if file is not None:
            file.read_bytes()
        self.app = app
        self.entry = entry
        self.clock = clock
        self.tags = tuple(tags)
        self.refuse = refuse
        self.fail = fail
        made.append(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        suppose(exchange, tried=(*exchange.tried, *(f"{self.entry}:{tag}" for tag in self.tags)))
        if self.refuse:
            raise Refused(403, "no")
        if self.fail:
            raise ZeroDivisionError("a bug")
        await self.app(scope, receive, send)


class Inherited(Tag):
    """A plugin whose code stands in its base class."""


class Resembling:
    """Has what governs pages, and does not say that it does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.cross_origin = CrossOrigin(origins=["*"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Claiming:
    """Says that it governs pages, and has nothing to do so by."""

    governs_pages: ClassVar = True

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Early(Tag):
    """A plugin that is asked before a body is read, and then leaves its tags with a mark."""

    async def before_body(self, exchange: Exchange) -> None:
        suppose(exchange, tried=(*exchange.tried, *(f"{self.entry}:{tag}?" for tag in self.tags)))
        if self.refuse:
            raise Refused(429, "not now")


class Reads:
    """Reads the body, by the exchange or as any middleware does."""

    def __init__(self, app: ASGIApp, *, entry: EntryName, plainly: bool = False) -> None:
        self.app = app
        self.entry = entry
        self.plainly = plainly

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        await (receive() if self.plainly else exchange.body())
        suppose(exchange, tried=(*exchange.tried, str(self.entry)))
        await self.app(scope, receive, send)


def passing(app: ASGIApp) -> ASGIApp:
    """A plugin that is a function, and adds a frame of its own."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return call


class RewritesOnce:
    """Puts a body of its own in place of the client's when that is read first, as a plain ASGI middleware may."""

    def __init__(self, app: ASGIApp, *, body: str) -> None:
        self.app = app
        self.body = body.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        bodies = [self.body]

        async def rewritten() -> Message:
            message = await receive()
            return {**message, "body": bodies.pop()} if bodies else message

        await self.app(scope, rewritten if scope["type"] == "http" else receive, send)
