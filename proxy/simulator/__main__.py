"""``python -m proxy.simulator``: one simulated Ollama as a process of its own."""

import argparse
import asyncio
import contextlib
import signal
import ssl
import sys

import uvloop

from proxy.simulator.settings import DEFAULT_MODELS, Settings
from proxy.simulator.simulated_ollama import Ollama
from proxy.simulator.tiny_models import TINY_MODELS


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; its defaults are those of `Settings`."""
    default = Settings(record=0)
    parse = argparse.ArgumentParser("python -m proxy.simulator", description=__doc__)
    add = parse.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=11434, help="0 is a free one (default: %(default)s)")
    add("--unix", help="path of a unix socket to listen on instead")
    add("--cert", help="PEM file with certificate and key, to speak TLS")
    add("--models", default=",".join(DEFAULT_MODELS), help="names, with commas between (default: %(default)s)")
    add("--seed", type=int, default=default.seed, help="changes every text")
    add("--version", default=default.version, help="what /api/version says")
    for name, text in (
        ("tokens", "length of a reply whose request sets no limit"),
        ("max-tokens", "no reply is longer"),
        ("context", "length of the context array of /api/generate"),
        ("num-parallel", "requests that a model serves at a time"),
        ("max-queue", "requests that may wait for a load"),
        ("max-loaded", "models in memory"),
        ("record", "requests to keep; 0 for none"),
    ):
        add(f"--{name}", type=int, default=getattr(default, name.replace("-", "_")), help=f"{text} (%(default)s)")
    for name, text in (
        ("load-delay", "loading a model"),
        ("prompt-delay", "evaluating a prompt"),
        ("batch", "of a prompt; a slot is kept to its end for a client that has left"),
        ("token-delay", "between two tokens"),
        ("embed-delay", "one embedding"),
        ("pull-delay", "between two progress lines"),
        ("verify-delay", "verifying what was pulled"),
        ("keep-alive", "a model stays in memory"),
    ):
        add(
            f"--{name}",
            type=float,
            default=getattr(default, name.replace("-", "_")),
            help=f"seconds: {text} (%(default)s)",
        )
    add("--cancel", choices=("at_once", "next_token"), default=default.cancel, help="when a close is noticed")
    add("--no-check-host", dest="check_host", action="store_false", help="answer to every Host")
    add("--no-network", dest="network", action="store_false", help="reach neither cloud nor registries")
    add("--control", action="store_true", help="serve GET /_sim/counters, which no Ollama has")
    return parse


async def serve(arguments: argparse.Namespace) -> None:
    """Run until a signal says so; the line with the URL comes once it listens."""
    options = vars(arguments)
    context = None
    if cert := options.pop("cert"):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert)
    tiny = {model.name: model for model in TINY_MODELS}
    models = [tiny.get(name, name) for name in options.pop("models").split(",") if name.strip()]
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Ollama(*models, ssl=context, **options) as sim:
        sys.stdout.write(f"listening on {sim.unix or sim.url}\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    """Run the command line."""
    arguments = parser().parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(arguments))


if __name__ == "__main__":
    main()
