"""proxy/ops/effective_config.py."""

from pathlib import Path
from typing import Any

import orjson

from config.load import load
from proxy.app import check
from proxy.ops.effective_config import Digest, digest, flat
from tests.support.policy import load_text

TEXT = """
listen: ["127.0.0.1:1", "127.0.0.1:${PORT}"]
store: redis://:canary@localhost:6379/0
backends:
  - {name: a, url: "${URL}", headers: {X-Key: canary}, model_slots: {llama3: 2}}
middleware:
  - auth:
      keys: keys.yaml
      anonymous: guests
      jwt: {issuer: "${ISSUER}", audience: me, secret: canary-canary-canary-canary-canary}
  - rate_limit: {requests: "${RATE}", limits: [{name: day, tokens: [1/day, 2/month]}]}
  - queue: {routes: [read, inference]}
policies:
  guests: {rate_limit: {requests: 10/minute}}
  night: {rate_limit: {tokens: "${RATE}"}}
  operators: {rate_limit: off}
"""
ENV = {
    "PORT": "4711",
    "URL": "http://canary.example.com",
    "ISSUER": "https://canary.example.com",
    "RATE": "77/minute",
}


def made(text: str = TEXT) -> Digest:
    return digest(*check(load_text(text, env=ENV)))


def test_no_secret_and_nothing_from_the_environment_is_in_it() -> None:
    text = orjson.dumps(made()).decode()
    assert "canary" not in text
    assert "4711" not in text
    assert "77" not in text
    assert made().settings["store"] == "**********"
    assert made().settings["listen"] == ["127.0.0.1:1", "127.0.0.1:${PORT}"]
    assert made().settings["backends"][0]["url"] == "${URL}"


def test_values_stand_there_as_they_are_written() -> None:
    auth, rate_limit, queue = made().middleware
    assert auth.options["anonymous"] == "guests"
    assert rate_limit.options["requests"] == "${RATE}"
    assert rate_limit.options["limits"][0]["tokens"] == ["1/day", "2/month"]
    assert rate_limit.options["tokens"] == []
    assert rate_limit.options["local_share"] == "50%"
    assert queue.options["wait"] == "1m"
    assert queue.options["routes"] == ["inference", "read"]
    assert made().settings["pool"]["eject"]["for"] == "30s"


def test_each_policy_has_its_own_options() -> None:
    policies: Any = made().middleware[1].policies
    assert policies["guests"]["requests"] == "10/minute"
    assert policies["night"]["requests"] == "${RATE}"
    assert policies["night"]["tokens"] == "${RATE}"
    assert policies["operators"] is None
    assert made().policies == ["guests", "night", "operators"]


def test_the_shipped_file_can_be_shown() -> None:
    shipped = load(Path(__file__).parents[3] / "proxy.yaml")
    found = digest(*check(shipped))
    assert "auth" in [entry.name for entry in found.middleware]
    orjson.dumps(found)


def test_flat_names() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": []}, "e": {}, "f": None}) == {"a.b.c": 1, "a.d": [], "e": {}, "f": None}
