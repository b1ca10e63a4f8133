"""The routes of files and batches."""

from typing import Final

from proxy.kernel.route import Route

_PAGE: Final = ("after", "limit", "order", "purpose")
_BOTH_WAYS: Final = ("after_id", "before_id", "limit")

UPLOAD: Final = Route(
    *("/v1/files", ("POST",), "stored", "openai"), body="raw", repeat="never", summary="Upload a file for a batch"
)
FILES: Final = Route("/v1/files", ("GET",), "stored", "openai", query=_PAGE, summary="One's own files")
FILE: Final = Route("/v1/files/{id}", ("GET",), "stored", "openai", summary="A file's size and purpose")
CONTENT: Final = Route("/v1/files/{id}/content", ("GET",), "stored", "openai", summary="A file's contents")
DELETE_FILE: Final = Route(
    *("/v1/files/{id}", ("DELETE",), "stored", "openai"), repeat="never", summary="Delete a file"
)

CREATE: Final = Route(
    *("/v1/batches", ("POST",), "stored", "openai"), body="json", repeat="never", summary="Begin a batch"
)
BATCHES: Final = Route("/v1/batches", ("GET",), "stored", "openai", query=_PAGE, summary="One's own batches")
BATCH: Final = Route("/v1/batches/{id}", ("GET",), "stored", "openai", summary="A batch as it is now")
CANCEL: Final = Route(
    *("/v1/batches/{id}/cancel", ("POST",), "stored", "openai"), repeat="never", summary="Cancel a batch"
)

CREATE_MESSAGES: Final = Route(
    *("/v1/messages/batches", ("POST",), "stored", "anthropic"),
    body="json",
    repeat="never",
    summary="Begin a message batch",
)
MESSAGES: Final = Route(
    *("/v1/messages/batches", ("GET",), "stored", "anthropic"), query=_BOTH_WAYS, summary="One's own message batches"
)
MESSAGE_BATCH: Final = Route(
    *("/v1/messages/batches/{id}", ("GET",), "stored", "anthropic"), summary="A message batch as it is now"
)
DELETE_MESSAGES: Final = Route(
    *("/v1/messages/batches/{id}", ("DELETE",), "stored", "anthropic"),
    repeat="never",
    summary="Delete a message batch",
)
CANCEL_MESSAGES: Final = Route(
    *("/v1/messages/batches/{id}/cancel", ("POST",), "stored", "anthropic"),
    repeat="never",
    summary="Cancel a message batch",
)
RESULTS: Final = Route(
    *("/v1/messages/batches/{id}/results", ("GET",), "stored", "anthropic"), summary="The results of a message batch"
)

ROUTES: Final = (
    *(UPLOAD, FILES, FILE, CONTENT, DELETE_FILE),
    *(CREATE, BATCHES, BATCH, CANCEL),
    *(CREATE_MESSAGES, MESSAGES, MESSAGE_BATCH, DELETE_MESSAGES, CANCEL_MESSAGES, RESULTS),
)
