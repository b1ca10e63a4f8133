"""Handlers that change the models on disk: pull, push, create, copy, delete, blobs."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from proxy.simulator import disk, go_json, model_names
from proxy.simulator.go_json import ANY, BOOL, MAP, POINTER, STRING
from proxy.simulator.host import Host
from proxy.simulator.http_reply import Reply, RunnerFailed
from proxy.simulator.offline import registry_failure
from proxy.simulator.refusals import JSON, Refuse, not_found
from proxy.simulator.request import Request
from proxy.simulator.routes_embeddings import read
from proxy.simulator.settings import Model
from proxy.simulator.templates import parse_error

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
QUANTIZATIONS: Final = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")
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
    fields = await read(request, PULL, "api.PullRequest")
    name = _stored(fields["model"] or fields["name"], "invalid model name")
    request.model = name.key
    await report(sim, reply, fields["stream"], _pulling(sim, name, insecure=fields["insecure"]))


async def push(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/push``."""
    fields = await read(request, PULL, "api.PushRequest")
    raw = fields["model"] or fields["name"]
    if not raw:
        raise Refuse(400, "model is required")
    await report(sim, reply, fields["stream"], _pushing(sim, request, raw))


async def create(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/create``."""
    fields = await read(request, CREATE, "api.CreateRequest")
    try:
        name = model_names.parse_plain(fields["model"] or fields["name"])
    except model_names.BadName:
        raise Refuse(400, "invalid model name") from None
    request.model = name.key
    await report(sim, reply, fields["stream"], _creating(sim, name, fields))


async def copy(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/copy`` with an empty 200."""
    fields = await read(request, COPY, "api.CopyRequest")
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
    fields = await read(request, DELETE, "api.DeleteRequest")
    raw = fields["model"] or fields["name"]
    if not raw:
        raise Refuse(400, "model is required")
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
    head = b""
    async for data in request.stream():
        checksum.update(data)
        head = head if len(head) >= 4 else head + data
        sim.changed()
    found = f"sha256:{checksum.hexdigest()}"
    if found != digest:
        raise Refuse(400, f'digest mismatch, expected "{request.parameters["digest"]}", got "{found}"')
    sim.store.blobs[digest] = request.body_bytes
    if not head.startswith(b"GGUF"):
        sim.store.foreign.add(digest)
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
        status = error.status if isinstance(error, Failed) else 500
        if stream is False:
            await reply.whole(status, JSON, go_json.dumps({"error": str(error)}))
            return
        if not reply.started:
            raise Refuse(status, str(error), chunked=True) from None
        await reply.send(go_json.dumps({"error": str(error)}) + b"\n")
    if stream is False:
        await reply.whole(200, JSON, go_json.dumps(last))
    else:
        await reply.end()


async def _pulling(sim: Host, name: model_names.Name, *, insecure: bool = False) -> Progress:
    settings = sim.settings
    yield {"status": "pulling manifest"}
    if not settings.network:
        cause = registry_failure("Get", name, f"manifests/{name.tag}", insecure=insecure)
        raise Failed(f"pull model manifest: {cause}")
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
    await asyncio.sleep(settings.verify_delay)
    yield {"status": "writing manifest"}
    sim.store.add(model)
    yield {"status": "success"}


async def _pushing(sim: Host, request: Request, raw: str) -> Progress:
    yield {"status": "retrieving manifest"}
    try:
        name = model_names.parse_plain(raw)
    except model_names.BadName:
        yield {"status": "couldn't retrieve manifest"}
        raise Failed(f"unqualified name: {model_names.filled_in(raw)}") from None
    request.model = name.key
    model = sim.store.get(name.key)
    if model is None:
        yield {"status": "couldn't retrieve manifest"}
        raise Failed(f"open /models/manifests/{name.key.replace(':', '/')}: no such file or directory")
    if not sim.settings.network:
        raise Failed(registry_failure("Head", name, f"blobs/sha256:{model.digest}"))
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
    if (kind := (fields["quantize"] or fields["quantization"]).upper()) and kind not in QUANTIZATIONS:
        supported = ", ".join(QUANTIZATIONS)
        raise Failed(f"unsupported quantization type {kind} - supported types are {supported}")
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
        digests = [disk.digest_of(str(digest)) for digest in fields["files"].values()]
        if None in digests:
            raise Failed("invalid digest format", 400)
        yield {"status": "parsing GGUF"}
        for digest in filter(None, digests):
            if digest not in sim.store.blobs:
                raise Failed(f"open /models/blobs/{digest.replace(':', '-')}: no such file or directory")
            if digest in sim.store.foreign:
                raise Failed("supplied file was not in GGUF format")
    else:
        raise Failed("neither 'from' or 'files' was specified", 400)
    if error := parse_error(fields["template"]):
        raise Failed(error, 400)
    base = base or Model(name.short)
    if kind:
        yield {
            "status": f"quantizing {base.quantization} model to {kind}",
            "digest": "0" * 19,
            "total": base.size,
            "completed": base.size // 2,
        }
        yield {"status": "verifying conversion"}
    model = _derived(base, name, fields)
    for line in _layers(base, model, fields):
        yield line
    yield {"status": "writing manifest"}
    sim.store.add(model)
    yield {"status": "success"}


def _derived(base: Model, name: model_names.Name, fields: dict[str, Any]) -> Model:
    """Return the model that is made of `base`."""
    return replace(
        base,
        name=name.short,
        parent=fields["from"],
        system=fields["system"] or base.system,
        template=fields["template"] or base.template,
        parameters={**base.parameters, **fields["parameters"]},
        quantization=(fields["quantize"] or fields["quantization"]).upper() or base.quantization,
        modified_at=datetime.now(UTC),
        digest="",
    )


def _layers(base: Model, model: Model, fields: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Yield the lines about a new model's layers: weights, template, system and parameters, in this order."""
    parts = (
        (base.digest, False),
        (model.template, bool(fields["template"])),
        (model.system, bool(fields["system"])),
        (go_json.dumps(model.parameters).decode() if model.parameters else "", bool(fields["parameters"])),
    )
    for number, (text, new) in enumerate(parts):
        if text:
            digest = hashlib.sha256(text.encode()).hexdigest() if number else text
            yield {"status": f"{'creating new' if new else 'using existing'} layer sha256:{digest}"}


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
