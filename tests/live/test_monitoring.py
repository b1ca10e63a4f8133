"""The dashboard and the alerts ask for metrics that there are, in queries that Prometheus understands."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.telemetry.metric_table import METERS, PROCESS
from tests.conftest import Need
from tests.support import promtool

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
ALERTS: list[dict[str, Any]] = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"][0]["rules"]

LABELS = {meter.name: set(meter.labels) for meter in (*METERS, *PROCESS)} | {"up": set()}
TARGET = {"instance", "job", "le"}
"""Labels that Prometheus adds, and that of a histogram's buckets."""


def queries() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for note in DASHBOARD["annotations"]["list"]:
        yield note["name"], note["expr"]
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]


QUERIES = dict(queries())


@pytest.mark.parametrize("name", QUERIES)
def test_every_metric_and_label_that_is_asked_for_exists(name: str) -> None:
    query = QUERIES[name]
    named = re.findall(
        r"\b((?:ollama_proxy|gen_ai_server|gen_ai_client|process|up)(?:_[a-z_]+)?)\s*(?:\{([^}]*)\})?", query
    )
    asked = {found: set(re.findall(r"(\w+)\s*[!=]~?", inside)) for found, inside in named}
    assert asked, query
    by = {label for group in re.findall(r"\bby \(([^)]*)\)", query) for label in re.split(r",\s*", group)}
    everything: set[str] = set()
    for found, labels in asked.items():
        meter = found if found in LABELS else re.sub(r"_(bucket|count|sum)$", "", found)
        assert meter in LABELS, f"no metric {found}"
        assert labels <= LABELS[meter] | TARGET, f"{found} has no labels {labels - LABELS[meter]}"
        everything |= LABELS[meter]
    assert by <= everything | TARGET


def test_prometheus_understands_every_query(need: Need, tmp_path: Path) -> None:
    need("promtool", promtool.FOUND)
    rules = [
        {"record": f"q{number}", "expr": query.replace("$__rate_interval", "5m").replace("$__range", "1h")}
        for number, query in enumerate(QUERIES.values())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool.promtool("check", "rules", str(file))


def test_the_alerts_do_what_their_tests_say(need: Need) -> None:
    need("promtool", promtool.FOUND)
    promtool.promtool("check", "rules", "alerts.yml", folder=RULES)
    promtool.promtool("test", "rules", "alerts_test.yml", folder=RULES)


def test_every_alert_is_tested_and_explained() -> None:
    tests = yaml.safe_load((RULES / "alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    guide = (ROOT / "docs/guides/metrics.md").read_text()
    for rule in ALERTS:
        assert rule["alert"] in fired
        assert f"`{rule['alert']}`" in guide


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_variables_that_panels_use_are_there() -> None:
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))
    assert used - {"__rate_interval", "__all"} <= names
