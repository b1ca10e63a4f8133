"""The policy files of the soaked proxy: two, which take turns, so that every reload changes something."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from bench.soak.plan import HOST
from middleware.auth.key_file_editor import add_key
from middleware.auth.keys import new_key

CALLERS: Final = ("alice", "bob", "carol")
OPERATOR: Final = "operator"


def write_keys(folder: Path) -> dict[str, str]:
    """Write ``keys.yaml`` into `folder`; return the keys by the names of those who have them."""
    keys: dict[str, str] = {}
    for name in (*CALLERS, OPERATOR):
        keys[name], entry = new_key(name, now=time.time(), policy="operators" if name == OPERATOR else None)
        add_key(folder / "keys.yaml", entry)
    return keys


def write_policy(folder: Path, port: int, ops: int, hosts: Sequence[int], turn: int) -> Path:
    """Write the policy file of this `turn` in one step, as editors do, and return its path."""
    path = folder / "soak.yaml"
    beside = folder / "soak.yaml.new"
    beside.write_text(yaml.safe_dump(_settings(port, ops, hosts, turn % 2), sort_keys=False))
    os.replace(beside, path)
    return path


def _settings(port: int, ops: int, hosts: Sequence[int], odd: int) -> dict[str, Any]:
    return {
        "listen": f"{HOST}:{port}",
        "ops": {"listen": f"{HOST}:{ops}"},
        "backends": [
            {"name": f"gpu-{number}", "url": f"http://{HOST}:{host}", "slots": 60 + odd}
            for number, host in enumerate(hosts, 1)
        ],
        "pool": {
            "timeouts": {"connect": "1s", "first_byte": "5s", "idle": "4s"},
            "health": {"every": "1s", "timeout": "2s"},
            "eject": {"for": "2s", "ramp": "1s"},
        },
        "middleware": [
            "logging",
            "metrics",
            {"auth": {"keys": "keys.yaml", "anonymous": "guests"}},
            {"access": {"routes": ["read", "inference"], "models": ["*"]}},
            {"parameters": {"num_ctx": {"max": 8192 + odd}}},
            {"rate_limit": {"requests": "1000000/minute", "tokens": "100000000/minute", "streams": 1000}},
            {"queue": {"depth": 500, "wait": "20s"}},
            {"retry": {"attempts": 3}},
        ],
        "policies": {
            "guests": {"rate_limit": {"requests": "30/minute", "by": "address"}},
            "operators": {"access": {"routes": ["read", "inference", "manage", "ops"]}},
        },
    }
