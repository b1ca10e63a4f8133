"""What the runner's own server refuses once it has the request: a format, images, a prompt that is too long.

Ollama passes these errors on as they came. In the place of a stream that has no record yet they come in chunks.
"""

from typing import Any, Final

from proxy.simulator import go_json
from proxy.simulator.generation_job import Job
from proxy.simulator.refusals import Refuse, runner_error
from proxy.simulator.settings import Model

_TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})


def check_runner(job: Job, model: Model, context: int) -> None:
    """Refuse what the runner of `model`, loaded with `context` tokens, does not take."""
    check_format(job)
    if job.images and "vision" not in model.capabilities:
        text = "Multimodal data provided, but model does not support multimodal requests."
        raise Refuse(400, runner_error(400, text), chunked=job.stream)
    tokens = job.prompt_tokens
    if not job.truncate and tokens > context:
        text = f"request ({tokens} tokens) exceeds the available context size ({context} tokens), try increasing it"
        more = {"n_prompt_tokens": tokens, "n_ctx": context}
        raise Refuse(400, runner_error(400, text, "exceed_context_size_error", **more), chunked=job.stream)


def check_format(job: Job) -> None:
    """Refuse a format that is neither ``json`` nor a schema (with 500), and a schema of an unknown type."""
    if job.format not in (None, "", "json") and not isinstance(job.format, dict):
        shown = go_json.dumps(go_json.dumps(job.format).decode()).decode()
        text = f'invalid format: {shown}; expected "json" or a valid JSON Schema object'
        raise Refuse(500, text, chunked=job.stream)
    if isinstance(job.format, dict) and (wrong := _unknown(job.format)) is not None:
        shown = go_json.dumps(wrong).decode()
        text = f"Field 'json_schema': \"json_schema\": JSON schema conversion failed:\nUnrecognized schema: {shown}"
        raise Refuse(400, runner_error(400, text), chunked=job.stream)


def _unknown(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first part of a schema whose type is none of JSON's."""
    kind = schema.get("type")
    if isinstance(kind, str) and kind not in _TYPES:
        return schema
    properties = schema.get("properties")
    parts = [*(properties.values() if isinstance(properties, dict) else ()), schema.get("items")]
    return next((wrong for part in parts if isinstance(part, dict) and (wrong := _unknown(part)) is not None), None)
