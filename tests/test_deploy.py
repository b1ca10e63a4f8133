"""deploy/: every file can be read, what it mounts or copies is there, and its policy files hold."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from config.load import Loaded, load
from config.settings import Settings
from proxy.app import check
from proxy.ops.routes import HEALTH, OPERATIONS
from tests.conftest import Need
from tests.support import promtool
from tests.support.policy import load_text

ROOT: Final = Path(__file__).parents[1]
DEPLOY: Final = ROOT / "deploy"
DOCKER: Final = DEPLOY / "docker"
ENVIRONMENT: Final = {"OLLAMA_URL": "http://ollama:11434", "STORE_URL": "redis://redis:6379/0"}


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text("utf-8")))


COMPOSE: Final[dict[str, Any]] = documents(DOCKER / "compose.yaml")[0]
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
KUBERNETES: Final[dict[str, Any]] = {
    document["kind"]: document for document in documents(DEPLOY / "kubernetes/ollama-proxy.yaml")
}
READABLE: Final = sorted(path for path in DEPLOY.rglob("*") if path.suffix in (".yaml", ".yml", ".json"))
MOUNTS: Final = [
    (service, *mount.split(":")[:2]) for service, about in SERVICES.items() for mount in about.get("volumes", [])
]


@pytest.mark.parametrize("path", READABLE, ids=lambda path: path.name)
def test_every_file_can_be_read(path: Path) -> None:
    found = [json.loads(path.read_text("utf-8"))] if path.suffix == ".json" else documents(path)
    assert all(isinstance(document, dict) for document in found)


@pytest.mark.parametrize(("service", "source", "target"), MOUNTS, ids=lambda part: str(part))
def test_what_compose_mounts_is_there(service: str, source: str, target: str) -> None:
    if "/" in source:
        assert (DOCKER / source).exists(), f"{service} mounts {source}"
    else:
        assert source in COMPOSE["volumes"]
    assert target.startswith("/")


def test_what_compose_builds_and_hands_in_is_there() -> None:
    build = SERVICES["proxy"]["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).resolve() == DOCKER / "Dockerfile"
    for about in SERVICES.values():
        assert set(about.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert set(about.get("depends_on", [])) <= set(SERVICES)
    # The one secret is made by a command in the head, and must not be checked in.
    made = COMPOSE["secrets"]["prometheus-key"]["file"].removeprefix("./")
    assert f"> {made}" in (DOCKER / "compose.yaml").read_text()
    assert f"/deploy/docker/{made}" in (ROOT / ".gitignore").read_text().splitlines()


def test_what_the_image_copies_is_there() -> None:
    for line in re.findall(r"^COPY (?!--)(.*)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source


def policy_files() -> dict[str, Loaded]:
    config_map = KUBERNETES["ConfigMap"]["data"]["proxy.yaml"]
    return {
        "docker": load(DOCKER / "proxy/proxy.yaml", env=ENVIRONMENT),
        "kubernetes": load_text(config_map, folder=DOCKER),
    }


@pytest.mark.parametrize("name", ["docker", "kubernetes"])
def test_the_policy_files_hold(name: str) -> None:
    plan, settings = check(policy_files()[name])
    assert {"auth", "access"} <= {link.name for link in plan.links}
    assert {"operators", "monitoring"} <= set(plan.policies)
    assert settings.store.get_secret_value() == "redis://redis:6379/0"


def test_who_stops_the_proxy_is_more_patient_than_its_streams() -> None:
    unit = (DEPLOY / "systemd/ollama-proxy.service").read_text()
    patience = {
        "compose": SERVICES["proxy"]["stop_grace_period"].removesuffix("s"),
        "kubernetes": KUBERNETES["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
        "systemd": re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0],
    }
    default = Settings.model_fields["server"].get_default().shutdown
    assert all(float(seconds) > default + 10 for seconds in patience.values()), patience


def test_probes_ask_what_is_open_to_everybody() -> None:
    (container,) = KUBERNETES["Deployment"]["spec"]["template"]["spec"]["containers"]
    asked = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")]
    assert asked == [route.path for route in HEALTH]
    (checked,) = re.findall(r"http://127\.0\.0\.1:11435(/-/\w+)", (DOCKER / "Dockerfile").read_text())
    assert checked == asked[0]


def test_prometheus_asks_for_the_metrics_and_finds_its_rules() -> None:
    config = documents(DOCKER / "prometheus.yml")[0]
    (job,) = config["scrape_configs"]
    assert job["metrics_path"] in {operation.route.path for operation in OPERATIONS}
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{SERVICES['prometheus']['secrets'][0]}"
    mounted = {target: DOCKER / source for service, source, target in MOUNTS if service == "prometheus"}
    for rules in config["rule_files"]:
        folder, _, name = rules.rpartition("/")
        assert (mounted[folder] / name).exists()


def test_promtool_takes_what_prometheus_is_given(need: Need, tmp_path: Path) -> None:
    need("promtool", promtool.FOUND)
    key = tmp_path / "key"
    key.write_text("op_x")
    text = (DOCKER / "prometheus.yml").read_text()
    text = text.replace("/run/secrets/prometheus-key", str(key))
    text = text.replace("/etc/prometheus/rules", str(DEPLOY / "prometheus"))
    (tmp_path / "prometheus.yml").write_text(text)
    promtool.promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_grafana_finds_its_data_source_and_the_dashboard() -> None:
    mounted = {target: DOCKER / source for service, source, target in MOUNTS if service == "grafana"}
    (source,) = documents(mounted["/etc/grafana/provisioning/datasources"] / "prometheus.yml")[0]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = documents(mounted["/etc/grafana/provisioning/dashboards"] / "ollama-proxy.yml")[0]["providers"]
    folder = Path(provider["options"]["path"])
    (dashboard,) = [path for target, path in mounted.items() if Path(target).parent == folder]
    assert json.loads(dashboard.read_text())["uid"] == "ollama-proxy"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_knows_every_setting_of_the_units(tmp_path: Path) -> None:
    service = (DEPLOY / "systemd/ollama-proxy.service").read_text()
    # What is not installed here, and a type that older releases do not have, is not what this is about.
    service = re.sub(r"/opt/ollama-proxy/bin/ollama-proxy", "/bin/true", service).replace("notify-reload", "notify")
    service = re.sub(r"^(User|Group)=.*$", r"\1=daemon", service, flags=re.MULTILINE)
    (tmp_path / "ollama-proxy.service").write_text(service)
    shutil.copy(DEPLOY / "systemd/ollama-proxy.socket", tmp_path)
    units = [str(tmp_path / f"ollama-proxy.{kind}") for kind in ("service", "socket")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "ollama-proxy" in line]
    assert said == []
