"""Handlers that change the models on disk: pull, push, create, copy, delete, blobs."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

from proxy.simulator import disk, go_json, model_names
from proxy.simulator.go_json import ANY, BOOL, MAP, POINTER, STRING
from proxy.simulator.host import Host
from proxy.simulator.http_reply import Reply, RunnerFailed
from proxy.simulator.refusals import JSON, Refuse, not_found
from proxy.simulator.request import Request
from proxy.simulator.routes_embeddings import read
from proxy.simulator.settings import Model

PULL: Final = {"model": STRING, "name": STRING, "insecure": BOOL, "stream": POINTER + BOOL}
CREATE: Final = {
    **PULL,
    "from": STRING,
    "remote_host": STRING,
    "files": MAP,
    "adapters": MAP,
    "template": STRING,
    "license": ANY,
    "system": STRING,
    "parameters": MAP,
    "messages": ANY,
    "quantize": STRING,
    "quantization": STRING,
    "info": MAP,
}
DELETE: Final = {"model": STRING, "name": STRING}
COPY: Final = {"source": STRING, "destination": STRING}

Progress = AsyncIterator[dict[str, Any]]


class Failed(Exception):
    """A management task went wrong; the text becomes its error line."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


async def pull(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/pull``."""
    fields = await read(request, PULL)
    name = _stored(fields["model"] or fields["name"], "invalid model name")
    request.model = name.key
    await report(sim, reply, fields["stream"], _pulling(sim, name))


async def push(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/push``."""
    fields = await read(request, PULL)
    raw = fields["model"] or fields["name"]
    if not raw:
        raise Refuse(400, "model is required")
    await report(sim, reply, fields["stream"], _pushing(sim, request, raw))


async def create(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/create``."""
    fields = await read(request, CREATE)
    try:
        name = model_names.parse_plain(fields["model"] or fields["name"])
    except model_names.BadName:
        raise Refuse(400, "invalid model name") from None
    request.model = name.key
    await report(sim, reply, fields["stream"], _creating(sim, name, fields))


async def copy(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/copy`` with an empty 200."""
    fields = await read(request, COPY)
    parsed = []
    for what in ("source", "destination"):
        try:
            parsed.append(model_names.parse_plain(fields[what]))
        except model_names.BadName:
            raise Refuse(400, f'{what} "{fields[what]}" is invalid') from None
    request.model = parsed[0].key
    if not sim.store.copy(parsed[0].key, parsed[1]):
        raise Refuse(404, f'model "{fields["source"]}" not found')
    sim.changed()
    await reply.whole(200, b"", b"")


async def delete(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/delete`` with an empty 200."""
    fields = await read(request, DELETE)
    raw = fields["model"] or fields["name"]
    name = _stored(raw, f'name "{raw}" is invalid')
    request.model = name.key
    if not sim.store.remove(name.key):
        raise not_found(raw)
    sim.engine.unload(name.key)
    sim.changed()
    await reply.whole(200, b"", b"")


async def head_blob(sim: Host, request: Request, reply: Reply) -> None:
    """Answer whether a blob is there."""
    digest = _digest(request)
    if digest not in sim.store.blobs:
        raise Refuse(404, f'blob "{request.parameters["digest"]}" not found')
    await reply.whole(200, b"", b"")


async def create_blob(sim: Host, request: Request, reply: Reply) -> None:
    """Take in a blob; one that is there already is answered at once, its body unread."""
    digest = _digest(request)
    if sim.settings.early_blobs or digest in sim.store.blobs:
        await reply.whole(200, b"", b"")
        return
    checksum = hashlib.sha256()
    async for data in request.stream():
        checksum.update(data)
        sim.changed()
    found = f"sha256:{checksum.hexdigest()}"
    if found != digest:
        raise Refuse(400, f'digest mismatch, expected "{request.parameters["digest"]}", got "{found}"')
    sim.store.blobs[digest] = request.body_bytes
    await reply.whole(201, b"", b"")


async def report(sim: Host, reply: Reply, stream: bool | None, progress: Progress) -> None:
    """Write progress line by line, or wait for the last line when `stream` is false."""
    last: dict[str, Any] = {}
    try:
        number = 0
        async for line in progress:
            reply.connection.check()
            reply.check(number)
            number += 1
            last = line
            if stream is not False:
                if not reply.started:
                    await reply.start(200, [(b"Content-Type", b"application/x-ndjson")])
                await reply.send(go_json.dumps(line) + b"\n")
                await asyncio.sleep(sim.settings.pull_delay)
        sim.changed()
    except (Failed, RunnerFailed) as error:
        if not reply.started:
            raise Refuse(error.status if isinstance(error, Failed) else 500, str(error)) from None
        await reply.send(go_json.dumps({"error": str(error)}) + b"\n")
    if stream is False:
        await reply.whole(200, JSON, go_json.dumps(last))
    else:
        await reply.end()


async def _pulling(sim: Host, name: model_names.Name) -> Progress:
    settings = sim.settings
    yield {"status": "pulling manifest"}
    if not _known(sim, name):
        raise Failed("pull model manifest: file does not exist")
    model = Model.of(name.short)
    for digest, total in disk.layers(name.key, settings.pull_layers, model.size):
        status = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": total}
        yield status
        for step in range(1, settings.pull_steps + 1):
            yield {**status, "completed": total * step // settings.pull_steps}
        sim.store.blobs[digest] = total
    yield {"status": "verifying sha256 digest"}
    yield {"status": "writing manifest"}
    sim.store.add(model)
    yield {"status": "success"}


async def _pushing(sim: Host, request: Request, raw: str) -> Progress:
    try:
        name = model_names.parse_plain(raw)
    except model_names.BadName:
        raise Failed("invalid model name") from None
    request.model = name.key
    yield {"status": "retrieving manifest"}
    model = sim.store.get(name.key)
    if model is None:
        yield {"status": "couldn't retrieve manifest"}
        raise Failed(f"open {name.key.replace(':', '/')}: no such file or directory")
    if not _known(sim, name):
        raise Failed("you are not authorized to push to this namespace, create the model under a namespace you own")
    settings = sim.settings
    for digest, total in disk.layers(name.key, settings.pull_layers, model.size):
        status = {"status": f"pushing {digest[7:19]}", "digest": digest, "total": total}
        for step in range(settings.pull_steps + 1):
            done = total * step // settings.pull_steps if settings.pull_steps else total
            yield {**status, "completed": done} if done else status
    yield {"status": "pushing manifest"}
    yield {"status": "success"}


async def _creating(sim: Host, name: model_names.Name, fields: dict[str, Any]) -> Progress:
    base: Model | None = None
    if fields["from"]:
        source = _stored(fields["from"], "invalid model name")
        if fields["remote_host"]:
            base = Model(name.short, remote=fields["from"], size=384)
        else:
            if source.key not in sim.store.models:
                async for line in _pulling(sim, source):
                    if line["status"] != "success":
                        yield line
            base = sim.store.get(source.key)
    elif fields["files"]:
        for digest in fields["files"].values():
            if disk.digest_of(str(digest)) not in sim.store.blobs:
                raise Failed(
                    f'blob "{digest}" not found' if disk.digest_of(str(digest)) else "invalid digest format", 400
                )
        yield {"status": "parsing GGUF"}
    else:
        raise Failed("neither 'from' or 'files' was specified", 400)
    model = replace(
        base or Model(name.short), name=name.short, parent=fields["from"], system=fields["system"], digest=""
    )
    yield {"status": f"using existing layer sha256:{(base or model).digest}"}
    if fields["system"]:
        yield {"status": f"creating new layer sha256:{hashlib.sha256(fields['system'].encode()).hexdigest()}"}
    yield {"status": "writing manifest"}
    sim.store.add(model)
    yield {"status": "success"}


def _stored(raw: str, message: str) -> model_names.Name:
    try:
        return model_names.parse_stored(raw)
    except model_names.ConflictingSource as error:
        raise Refuse(400, str(error)) from None
    except model_names.BadName:
        raise Refuse(400, message) from None


def _known(sim: Host, name: model_names.Name) -> bool:
    registry = sim.settings.registry
    if registry is None:
        return "missing" not in name.key
    return name.key in {model_names.parse_stored(each).key for each in registry}


def _digest(request: Request) -> str:
    digest = disk.digest_of(request.parameters["digest"])
    if digest is None:
        raise Refuse(400, "invalid digest format")
    return digest
