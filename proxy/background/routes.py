"""The routes by which callers reach their responses in background mode."""

from typing import Final

from proxy.kernel.route import Route

RETRIEVE: Final = Route(
    *("/v1/responses/{id}", ("GET",), "stored", "openai"),
    query=("stream", "starting_after", "include"),
    summary="A response in background mode, or its events",
)
DELETE: Final = Route(
    *("/v1/responses/{id}", ("DELETE",), "stored", "openai"), repeat="never", summary="Delete a response"
)
CANCEL: Final = Route(
    *("/v1/responses/{id}/cancel", ("POST",), "stored", "openai"), repeat="never", summary="Cancel a response"
)
INPUT_ITEMS: Final = Route(
    *("/v1/responses/{id}/input_items", ("GET",), "stored", "openai"),
    query=("after", "limit", "order", "include"),
    summary="What a response answers",
)

ROUTES: Final = (RETRIEVE, DELETE, CANCEL, INPUT_ITEMS)
