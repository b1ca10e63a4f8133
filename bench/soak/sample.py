"""What the proxy takes at a moment: as the kernel counts it, and as it says itself."""

import http.client
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.soak.plan import HOST

_LINE: Final = re.compile(r"([a-z_:]+)(?:\{[^}]*\})? ([-+0-9.eE]+|NaN)")
_OURS: Final = 'ollama_proxy_requests_in_flight{class="ops"}'
"""The request for these numbers is one itself."""
SUMMED: Final[Mapping[str, str]] = {
    "requests running": "ollama_proxy_requests_in_flight",
    "slots taken": "ollama_proxy_backend_active",
    "waiting": "ollama_proxy_queue_waiting",
    "body bytes": "ollama_proxy_body_memory_bytes",
    "tasks": "ollama_proxy_tasks",
    "log lines lost": "ollama_proxy_log_lines_dropped_total",
}
"""Numbers of the proxy's own, summed over their labels."""

Sample = Mapping[str, float]


def kernel(pid: int) -> dict[str, float]:
    """Return memory (bytes, no shared pages), descriptors and threads of a process."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    private = sum(int(size) for size in re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.MULTILINE))
    return {
        "memory": private * 1024.0,
        "descriptors": float(len(os.listdir(f"/proc/{pid}/fd"))),
        "threads": float(len(os.listdir(f"/proc/{pid}/task"))),
    }


def read_metrics(text: str) -> dict[str, float]:
    """Return the numbers that `SUMMED` names, and how many series and label sets there are."""
    sums: dict[str, float] = {}
    series = 0
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None or line.startswith(_OURS):
            continue
        series += 1
        sums[found[1]] = sums.get(found[1], 0.0) + float(found[2])
    return {"series": float(series), **{name: sums.get(metric, 0.0) for name, metric in SUMMED.items()}}


def loop_lag(text: str, before: str = "") -> float:
    """Return the 99th percentile of the event loop's lag between two texts of metrics, as a bucket's bound, seconds."""
    counts, earlier = _buckets(text), _buckets(before)
    grown = {bound: count - earlier.get(bound, 0.0) for bound, count in counts.items()}
    whole = max(grown.values(), default=0.0)
    return next((bound for bound, count in sorted(grown.items()) if count >= 0.99 * whole), 0.0)


def _buckets(text: str) -> dict[float, float]:
    pairs = re.findall(r'^ollama_proxy_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', text, re.MULTILINE)
    return {float(bound): float(count) for bound, count in pairs}


def metrics(port: int, key: str) -> str:
    """Return the metrics of the proxy whose ops listener is at `port`."""
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    try:
        connection.request("GET", "/-/metrics", headers={"authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"the metrics were answered {answer.status}: {text[:200]}")
    return text
