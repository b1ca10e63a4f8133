"""The reference of the metrics has every one of them, and says what several workers come to."""

import re

from proxy.reference.metrics import metrics_page
from proxy.telemetry.metric_table import METERS, PROCESS


def test_the_reference_has_every_metric_and_no_other() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", metrics_page(), re.MULTILINE)
    assert rows == [meter.name for meter in (*METERS, *PROCESS)]


def test_each_row_says_what_several_workers_come_to() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| \w+ \| [^|]* \| (sum|max|min) \|", metrics_page(), re.MULTILINE))
    assert len(rows) == len(METERS) + len(PROCESS)
    assert rows["ollama_proxy_requests_total"] == "sum"
    assert rows["ollama_proxy_backend_state"] == "max"
