"""A collector of traces: takes what OTLP over HTTP brings and keeps it, decoded."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Span:
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    began: int
    ended: int
    attributes: dict[str, Any]
    events: dict[str, int]
    """Name → time."""
    error: bool
    resource: dict[str, Any]


KINDS = {1: "internal", 2: "server", 3: "client"}


@dataclass
class Collector:
    url: str
    spans: list[Span] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_for(self, found: Callable[["Collector"], bool]) -> None:
        async with asyncio.timeout(10):
            while not found(self):
                self._changed.clear()
                await self._changed.wait()

    async def trace(self, number_of_spans: int) -> dict[str, Span]:
        """Return the spans by name, once there are so many."""
        await self.wait_for(lambda collector: len(collector.spans) >= number_of_spans)
        return {span.name: span for span in self.spans}

    def take(self, head: bytes, body: bytes) -> None:
        self.heads.append(head)
        self.raw.append(body)
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            resource = {item.key: _value(item.value) for item in group.resource.attributes}
            for scope in group.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Span(
                            span.name,
                            KINDS[span.kind],
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            span.start_time_unix_nano,
                            span.end_time_unix_nano,
                            {item.key: _value(item.value) for item in span.attributes},
                            {event.name: event.time_unix_nano for event in span.events},
                            span.status.code == 2,
                            resource,
                        )
                    )
        self._changed.set()


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind)


@asynccontextmanager
async def collecting(*, status: bytes = b"200 OK") -> AsyncIterator[Collector]:
    """Listen for traces; with another `status` they are refused."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.split(b": ", 1) for line in head.lower().strip().split(b"\r\n")[1:])
                body = await reader.readexactly(int(fields[b"content-length"]))
                if status.startswith(b"200"):
                    collector.take(head, gzip.decompress(body) if fields.get(b"content-encoding") == b"gzip" else body)
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    collector = Collector(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/traces")
    try:
        yield collector
    finally:
        server.close()
