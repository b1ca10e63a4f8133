"""The routes by which callers reach their own deferred and recorded requests."""

from typing import Final

from proxy.kernel.route import Route

LIST: Final = Route("/-/requests", ("GET",), "stored", query=("state", "after", "limit"), summary="One's own requests")
STATE: Final = Route("/-/requests/{id}", ("GET",), "stored", summary="The state of a deferred request")
CANCEL: Final = Route(
    "/-/requests/{id}", ("DELETE",), "stored", repeat="never", summary="Cancel a deferred request, or delete it"
)
ANSWER: Final = Route("/-/requests/{id}/answer", ("GET",), "stored", summary="The recorded answer, from any byte")

ROUTES: Final = (LIST, STATE, CANCEL, ANSWER)
