"""The routes of Ollama, one row each: what each of them is, as data.

To add a route, add its row here. Nothing else in the proxy knows routes by their path; what a part does differently on
one of them is a column of `Route`. A second file is touched only where the route keeps parameters in places of its own:
``proxy/kernel/parameter_places.py``. (The simulated Ollama has a table of its own, as it shares nothing with this one.)
"""

from typing import Final

from proxy.kernel import parameter_places as places
from proxy.kernel.route import SEARCH_TOOL, ModelList, Route, Run, Unnamed

_READ: Final = ("GET", "HEAD")
_NATIVE: Final = ModelList("models", ("name", "model"))
_OPENAI: Final = ModelList("data", ("id",))
_NOT_FOUND: Final = Unnamed(404, "model '' not found")
_INVALID: Final = Unnamed(400, "invalid model name")
_OPENAIS_TOOLS: Final = (
    SEARCH_TOOL,
    *("file_search", "code_interpreter", "image_generation", "computer_use", "computer", "mcp", "shell"),
)
_ANTHROPICS_TOOLS: Final = (SEARCH_TOOL, "web_fetch", "code_execution", "tool_search_tool", "mcp_toolset")
_EMBEDDINGS: Final = Run("embeddings", places.EMBED)

WEB_SEARCH: Final = Route(
    *("/api/experimental/web_search", ("POST",), "account"),
    body="json",
    repeat="never",
    summary="Search the web on the account",
)
"""The search with the operator's account. Where Ollama itself runs the tool ``web_search`` for a model, the caller
needs the permission for this route."""

OLLAMA: Final = (
    Route("/", _READ, "read", "text", open=True, page=True, view="alive", summary="Whether Ollama runs"),
    Route("/api/version", _READ, "read", page=True, view="version", summary="Its version"),
    Route("/api/tags", _READ, "read", lists=_NATIVE, view="tags", summary="The models there are"),
    Route("/api/ps", ("GET",), "read", lists=_NATIVE, view="running", summary="The models in memory"),
    Route("/api/status", ("GET",), "read", summary="What the host can do"),
    Route("/api/experimental/model-recommendations", ("GET",), "read", summary="Models to try"),
    Route("/api/show", ("POST",), "read", body="json", models=("model", "name"), summary="One model's details"),
    Route("/v1/models", ("GET",), "read", "openai", lists=_OPENAI, view="models", summary="The models there are"),
    Route("/v1/models/{model}", ("GET",), "read", "openai", model_in_path=True, view="model", summary="One model"),
    Route(
        *("/api/generate", ("POST",), "inference", "ollama", True, "json", "costly", ("model",)),
        socket="requests",
        run=Run("text_completion", places.GENERATE),
        unnamed=_NOT_FOUND,
        summary="Complete a prompt",
    ),
    Route(
        *("/api/chat", ("POST",), "inference", "ollama", True, "json", "costly", ("model",)),
        socket="requests",
        run=Run("chat", places.CHAT),
        summary="Answer a conversation",
    ),
    Route(
        *("/api/embed", ("POST",), "inference", "ollama", None, "json", "safe", ("model",)),
        run=_EMBEDDINGS,
        unnamed=_NOT_FOUND,
        summary="Embed texts",
    ),
    Route(
        *("/api/embeddings", ("POST",), "inference", "ollama", None, "json", "safe", ("model",)),
        run=_EMBEDDINGS,
        summary="Embed a text (the older form)",
    ),
    Route(
        *("/v1/chat/completions", ("POST",), "inference", "openai", False, "json", "costly", ("model",)),
        socket="requests",
        run=Run("chat", places.CHAT_COMPLETIONS, counts_on_request=True),
        summary="Answer a conversation",
    ),
    Route(
        *("/v1/completions", ("POST",), "inference", "openai", False, "json", "costly", ("model",)),
        socket="requests",
        run=Run("text_completion", places.COMPLETIONS, counts_on_request=True),
        unnamed=_NOT_FOUND,
        summary="Complete a prompt",
    ),
    Route(
        *("/v1/responses", ("POST",), "inference", "openai", False, "json", "costly", ("model",)),
        socket="responses",
        run=Run(
            *("chat", places.RESPONSES, _OPENAIS_TOOLS),
            continues="previous_response_id",
            background="background",
            uncached=True,
        ),
        summary="Answer a conversation (Responses API)",
    ),
    Route(
        *("/v1/messages", ("POST",), "inference", "anthropic", False, "json", "costly", ("model",)),
        socket="requests",
        run=Run("chat", places.MESSAGES, hosted_tools=_ANTHROPICS_TOOLS, uncached=True),
        unnamed=Unnamed(early=True),
        summary="Answer a conversation (Anthropic's API)",
    ),
    Route(
        *("/v1/embeddings", ("POST",), "inference", "openai", None, "json", "safe", ("model",)),
        run=Run("embeddings", places.NONE),
        unnamed=_NOT_FOUND,
        summary="Embed texts",
    ),
    Route(
        *("/v1/audio/transcriptions", ("POST",), "inference", "openai", None, "multipart", "costly", ("model",)),
        query=("model",),
        run=Run("transcription", places.NONE),
        summary="Write down speech",
    ),
    Route(
        *("/api/pull", ("POST",), "manage", "ollama", True, "json", "never", ("model", "name")),
        everywhere=True,
        unnamed=_INVALID,
        summary="Get a model from a registry",
    ),
    Route(
        *("/api/push", ("POST",), "manage", "ollama", True, "json", "never", ("model", "name")),
        plain_names=True,
        summary="Put a model into a registry",
    ),
    Route(
        *("/api/create", ("POST",), "manage", "ollama", True, "json", "never", ("model", "name", "from")),
        unnamed=_INVALID,
        summary="Make a model from another",
    ),
    Route(
        *("/api/copy", ("POST",), "manage", "ollama", None, "json", "never", ("source", "destination")),
        plain_names=True,
        unnamed=Unnamed(400, 'source "" is invalid'),
        summary="Give a model another name",
    ),
    Route(
        *("/api/delete", ("DELETE",), "manage", "ollama", None, "json", "never", ("model", "name")),
        summary="Delete a model",
    ),
    Route("/api/blobs/{digest}", ("HEAD",), "manage", summary="A file of a model"),
    Route("/api/blobs/{digest}", ("POST",), "manage", body="raw", repeat="never", summary="A file of a model"),
    Route(
        *("/api/me", ("POST",), "account"),
        body="json",
        repeat="never",
        summary="The account that the host is signed in with",
    ),
    Route(
        *("/api/signout", ("POST",), "account"),
        body="json",
        repeat="never",
        summary="Sign the host out of its account",
    ),
    Route(
        *("/api/user/keys/{key}", ("DELETE",), "account"),
        body="json",
        repeat="never",
        summary="Remove a key of the account",
    ),
    WEB_SEARCH,
    Route(
        *("/api/experimental/web_fetch", ("POST",), "account"),
        body="json",
        repeat="never",
        summary="Fetch a page on the account",
    ),
)
