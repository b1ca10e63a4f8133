"""The command line of the storm over a fleet: ``scripts/storm fleet [--seconds N] [--seed N] [--clients N] …``."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, get_args

import orjson
import yaml

from bench.bursts.cast import Proxy, keys, stop_all
from bench.fleet.calls import Seen
from bench.fleet.clients import Deferred
from bench.fleet.plan import HOSTS, METERED, PROXIES, SHARES, Plan
from bench.fleet.redis_pair import Pair, redis_pair
from bench.fleet.schedule import Faults, Strike, schedule
from bench.fleet.strikes import Striker
from bench.fleet.usage import Usage
from bench.fleet.verdict import Judgement, Told, judge
from bench.fleet.watch import EVERY, Look, Watch, look
from bench.plan import HOST
from bench.report import table
from bench.soak.part import Part, PartEnded
from bench.targets import TargetFailed, free_port

WITHIN: Final = 90.0
"""Seconds after the storm in which everything that was deferred has to be over."""
STARTING: Final = 1.5
"""Seconds that the clients have to start."""
REST: Final = 5.0
"""Seconds after everything, in which all permits have to go back."""
SHOWN: Final = 8
"""Examples of what does not hold that are printed; all of them are in the JSON."""


def storm(plan: Plan, strikes: Sequence[Strike], folder: Path, say: Callable[[str], None]) -> tuple[Told, Usage]:
    """Let one storm pass; return what everybody told of it. Stops whatever it started."""
    with ExitStack() as stack:
        pair = stack.enter_context(redis_pair(folder))
        hosts = [Part(stack, "bench.fleet.host", str(plan.slots), str(number)) for number in range(HOSTS)]
        urls = [f"http://{HOST}:{host.hear()}" for host in hosts]
        credentials = dict(zip(SHARES, keys(folder, len(SHARES), {METERED: "metered"}), strict=True))
        proxies = [_proxy(folder, number, urls, pair.url, plan) for number in range(PROXIES)]
        stack.callback(stop_all, proxies)
        with ThreadPoolExecutor() as pool:
            list(pool.map(Proxy.start, proxies))
        begins = time.monotonic() + STARTING
        given = {"ports": [proxy.port for proxy in proxies], "keys": credentials, "plan": plan, "within": WITHIN}
        watch, usage = Watch(pair), Usage(os.getpid())
        striker = Striker(strikes, proxies, pair, say)
        clients = Part(stack, "bench.fleet.clients", orjson.dumps({**given, "begins": begins}).decode())
        stack.callback(watch.stop)
        stack.callback(striker.stop)
        watch.start()
        striker.start(begins)
        usage.during(plan.seconds)
        striker.wait()
        told = clients.hear()
        rest = _at_rest(pair)
        notes = [host.end() for host in hosts]
        if striker.failure is not None:
            raise striker.failure
    found = Told(
        plan=plan,
        hosts=notes,
        seen=[Seen(**one) for one in told["seen"]],
        deferred=[_deferred(one) for one in told["deferred"]],
        windows=striker.windows,
        looks=watch.looks,
        rest=rest,
        began=told["began"],
        ended=told["asked_until"],
        proxies=PROXIES,
    )
    return found, usage


def _at_rest(pair: Pair) -> Look:
    """Return what Redis says when no permit is held any more, or when there was time enough for it."""
    until = time.monotonic() + REST
    while (found := look(pair)).held and time.monotonic() < until:
        time.sleep(EVERY)
    return found


def _proxy(folder: Path, number: int, urls: Sequence[str], store: str, plan: Plan) -> Proxy:
    """Return a proxy, not started, in front of the hosts at `urls`."""
    port, policy = free_port(), folder / f"proxy-{number}.yaml"
    limit = {"requests": f"{plan.limit}/minute", "by": "tenant", "on_store_failure": "closed"}
    settings: dict[str, Any] = {
        "listen": f"{HOST}:{port}",
        "store": store,
        "backends": [{"name": f"gpu-{n}", "url": url, "slots": plan.slots} for n, url in enumerate(urls)],
        "middleware": [
            "logging",
            {"auth": {"keys": "keys.yaml"}},
            "resumable",
            {"defer": {"per_identity": 10_000, "total": 100_000}},
            {"rate_limit": {"streams": 10_000}},
            {"queue": {"depth": 1000, "wait": "60s"}},
            "retry",
        ],
        "policies": {"metered": {"rate_limit": limit}},
    }
    policy.write_text(yaml.safe_dump(settings, sort_keys=False))
    return Proxy(policy, port)


def _deferred(row: dict[str, Any]) -> Deferred:
    followed = row.pop("followed")
    return Deferred(**{**row, "seen": Seen(**row["seen"])}, followed=followed and Seen(**followed))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a storm; returns 1 where something promised did not hold."""
    options = _parse(arguments)
    plan = Plan(options.seconds, options.seed, options.clients, options.slots, options.limit)
    strikes = schedule(plan.seed, plan.seconds, options.faults)
    _say(
        f"seed {plan.seed}, {plan.seconds:g} s, {plan.clients} clients of {len(SHARES)} tenants, {PROXIES} proxies, "
        f"{HOSTS} hosts with {plan.slots} slots, {len(strikes)} strikes ({options.faults})"
    )
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = Path(name)
        try:
            told, usage = storm(plan, strikes, folder, _say)
        except (TargetFailed, PartEnded, OSError, subprocess.TimeoutExpired) as error:
            _say(f"the storm could not go on: {type(error).__name__} {error}")
            for log in sorted(folder.glob("*.log")):
                _say(log.read_text(errors="replace")[-2000:])
            return 1
        finally:
            if options.logs is not None:
                options.logs.mkdir(parents=True, exist_ok=True)
                for log in folder.glob("*.log"):
                    (options.logs / log.name).write_bytes(log.read_bytes())
    found = [*judge(told), *usage.judgements()]
    show(found)
    if options.json is not None:
        options.json.write_bytes(orjson.dumps({"judgements": found, "windows": told.windows, "plan": asdict(plan)}))
    return 1 if any(one.holds is False for one in found) else 0


def show(found: Sequence[Judgement]) -> None:
    """Print the table, and examples of what does not hold."""
    words = {True: "pass", False: "FAIL", None: ""}
    rows = [("", "found", "bound", "")]
    for one in found:
        late = " (the machine?)" if one.holds is False and one.timing else ""
        rows.append((one.name, one.found, one.bound, words[one.holds] + late))
    _say(table(rows))
    for one in found:
        for example in one.more[:SHOWN]:
            _say(f"  {one.name}: {example}")
        if len(one.more) > SHOWN:
            _say(f"  … and {len(one.more) - SHOWN} more")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/storm fleet", description="Kill three proxies and their Redis, and judge what holds. Linux only."
    )
    add = parser.add_argument
    add("--seconds", type=float, default=180.0, metavar="N", help="how long the clients ask (%(default)s)")
    add("--seed", type=int, default=1, metavar="N", help="of what is struck and who asks (%(default)s)")
    add("--clients", type=int, default=300, metavar="N", help="who ask at a time (%(default)s)")
    add("--slots", type=int, default=8, metavar="N", help="of each host (%(default)s)")
    add("--limit", type=int, default=60, metavar="N", help="requests a minute of the metered tenant (%(default)s)")
    add("--faults", choices=get_args(Faults), default="all", help="what is struck (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the judgements with all their examples")
    add("--logs", type=Path, metavar="FOLDER", help="keep the logs of the proxies")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and stop on the way out what was started
    sys.exit(main())
