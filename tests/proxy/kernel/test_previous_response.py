from typing import Any

import orjson
import pytest

from proxy.kernel.errors import Refused
from proxy.kernel.previous_response import previous_response, refuse_previous_response
from proxy.testing import make_exchange


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/v1/responses", {"previous_response_id": "resp_1"}, "resp_1"),
        ("/v1/responses", {"previous_response_id": None}, None),
        ("/v1/responses", {}, None),
        ("/v1/chat/completions", {"previous_response_id": "resp_1"}, None),
    ],
)
async def test_what_a_request_goes_on_from(path: str, body: dict[str, Any], named: str | None) -> None:
    exchange = make_exchange("POST", path, body=orjson.dumps({"model": "m", "input": "hi", **body}))
    await exchange.json()
    assert previous_response(exchange) == named
    if named is None:
        refuse_previous_response(exchange)
    else:
        with pytest.raises(Refused, match="resp_1") as refused:
            refuse_previous_response(exchange)
        assert refused.value.status == 404
