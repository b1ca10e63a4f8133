"""Handlers that only read: version, models, running models; and the operator's account."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from proxy.simulator import go_json, model_names
from proxy.simulator.go_json import BOOL, MAP, STRING
from proxy.simulator.host import Host
from proxy.simulator.http_reply import Reply
from proxy.simulator.inference import cloud_model
from proxy.simulator.offline import CLOUD, cloud_failure
from proxy.simulator.refusals import JSON, Refuse, not_found
from proxy.simulator.request import Request
from proxy.simulator.routes_embeddings import read
from proxy.simulator.settings import Model

SHOW: Final = {"model": STRING, "name": STRING, "system": STRING, "template": STRING, "verbose": BOOL, "options": MAP}
SIGNIN_URL: Final = "https://ollama.com/connect?name=simulator&key=none"


async def root(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/``."""
    await reply.whole(200, b"text/plain; charset=utf-8", b"Ollama is running")


async def version(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/version``."""
    await reply.json({"version": sim.settings.version})


async def status(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/status``."""
    await reply.json({"cloud": {"disabled": False, "source": "none"}})


async def recommendations(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/experimental/model-recommendations``."""
    cloud = {"model": "gpt-oss:cloud", "description": "In the cloud"}
    local = {"model": "qwen3", "description": "On this machine", "vram_bytes": 12_000_000_000}
    models = [{**cloud, "context_length": 262_144, "max_output_tokens": 131_072}, local]
    await reply.json({"recommendations": models})


async def tags(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/tags``."""
    await reply.json({"models": [_entry(model) for model in sim.store.listed()]})


async def ps(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/ps``."""
    models = []
    for runner in sorted(sim.engine.loaded.values(), key=lambda runner: runner.expires_at, reverse=True):
        model = runner.model
        expires = runner.expires_at or datetime.now(UTC).timestamp() + max(0.0, runner.keep_alive)
        models.append(
            {
                "name": model.name,
                "model": model.name,
                "size": model.memory or model.size,
                "digest": model.digest,
                "details": _details(model),
                "expires_at": _time(datetime.fromtimestamp(0, UTC) + timedelta(seconds=expires)),
                "size_vram": model.memory or model.size,
                "context_length": runner.options["num_ctx"],
            }
        )
    await reply.json({"models": models})


async def show(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/show``."""
    fields = await read(request, SHOW, "api.ShowRequest")
    raw = fields["model"] or fields["name"]
    if not raw:
        raise Refuse(400, "model is required")
    model, base = _find(sim, request, raw)
    info = _info(model, verbose=fields["verbose"])
    if (request.header("user-agent") or b"").startswith(b"GitHubCopilotChat/"):
        info["general.basename"] = base
    body: dict[str, Any] = {
        "license": model.license,
        "modelfile": _modelfile(model),
        "parameters": "\n".join(f"{name:30} {go_json.dumps(value).decode()}" for name, value in _parameters(model)),
        "template": model.template,
        "system": fields["system"] or model.system,
        "details": _details(model),
        "model_info": info,
        "tensors": [{"name": name, "type": kind, "shape": shape} for name, kind, shape in model.tensors],
        "capabilities": list(model.capabilities),
        "modified_at": _time(model.modified_at),
    }
    if model.remote:
        body |= {"remote_model": model.remote, "remote_host": f"https://{CLOUD}"}
    await reply.json({name: value for name, value in body.items() if value not in ("", [])})


async def models(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/v1/models``."""
    data = [_openai(model.name, model) for model in sim.store.listed()]
    await reply.whole(200, JSON, go_json.dumps({"object": "list", "data": data or None}) + b"\n")


async def model(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/v1/models/{model}``."""
    raw = request.parameters["model"]
    found, _ = _find(sim, request, raw)
    await reply.whole(200, JSON, go_json.dumps(_openai(raw, found)) + b"\n")


async def me(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/me``: who the operator is at ollama.com."""
    if not sim.settings.network:
        raise Refuse(503, "account unavailable")
    if not sim.settings.signed_in:
        raise Refuse(401, "unauthorized", more={"signin_url": SIGNIN_URL})
    await reply.json({"id": "00000000-0000-0000-0000-000000000001", "email": "op@example.com", "name": "operator"})


async def signout(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/signout`` and the deletion of a key."""
    if not sim.settings.network:
        raise Refuse(500, "there was an error signing out")
    if not sim.settings.signed_in:
        raise Refuse(401, "you are not currently signed in")
    sim.settings.signed_in = False
    sim.changed()
    await reply.json(None)


async def web(sim: Host, request: Request, reply: Reply) -> None:
    """Answer ``/api/experimental/web_search`` and ``web_fetch``, which the cloud does on the operator's account."""
    if not (await request.read()).strip():
        raise Refuse(400, "missing request body")
    request.cloud = True
    if not sim.settings.network:
        raise Refuse(502, cloud_failure(request.path.replace("/experimental", "")))
    if not sim.settings.signed_in:
        raise Refuse(401, "unauthorized", more={"signin_url": SIGNIN_URL})
    page = {"title": "A page", "url": "https://example.com/", "content": "Nothing was fetched."}
    if request.route == "/api/experimental/web_fetch":
        await reply.json({"title": page["title"], "content": page["content"], "links": [page["url"]]})
    else:
        await reply.json({"results": [page]})


def _find(sim: Host, request: Request, raw: str) -> tuple[Model, str]:
    """Return (model, its name without source suffix)."""
    try:
        name = model_names.parse(raw)
    except model_names.BadName as error:
        raise Refuse(
            400, str(error) if isinstance(error, model_names.ConflictingSource) else "invalid model name"
        ) from None
    request.model = name.key
    if name.source == "cloud":
        return cloud_model(sim, request, name), name.base
    found = sim.store.get(name.key)
    if found is None or (name.source == "local" and found.remote):
        raise not_found(name.short)
    return found, name.base


def _entry(model: Model) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": model.name, "model": model.name}
    if model.remote:
        entry |= {"remote_model": model.remote, "remote_host": f"https://{CLOUD}"}
    return entry | {
        "modified_at": _time(model.modified_at),
        "size": model.size,
        "digest": model.digest,
        "details": _details(model) | {"context_length": model.context_length, "embedding_length": model.dimensions},
        "capabilities": list(model.capabilities),
    }


def _details(model: Model) -> dict[str, Any]:
    return {
        "parent_model": model.parent,
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameter_size,
        "quantization_level": model.quantization,
    }


def _parameters(model: Model) -> list[tuple[str, Any]]:
    """Return the parameters one by one, as a Modelfile has them."""
    return [
        (name, each)
        for name, value in model.parameters.items()
        for each in (value if isinstance(value, list) else [value])
    ]


def _modelfile(model: Model) -> str:
    head = '# Modelfile generated by "ollama show"\n# To build a new Modelfile based on this, replace FROM with:\n'
    lines = [
        f"# FROM {model.name}",
        "",
        f"FROM /models/blobs/sha256-{model.digest}",
        f'TEMPLATE """{model.template}"""',
    ]
    lines += [f"PARAMETER {name} {value}" for name, value in _parameters(model)]
    return head + "\n".join(lines) + "\n"


def _info(model: Model, *, verbose: bool) -> dict[str, Any]:
    if model.info:
        return {name: value if verbose or not isinstance(value, list) else None for name, value in model.info.items()}
    return {
        "general.architecture": model.family,
        "general.basename": model.name.partition(":")[0],
        f"{model.family}.context_length": model.context_length,
        f"{model.family}.embedding_length": model.dimensions,
    }


def _openai(name: str, model: Model) -> dict[str, Any]:
    owner = model_names.parse_stored(model.name).namespace
    return {"id": name, "object": "model", "created": int(model.modified_at.timestamp()), "owned_by": owner}


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
