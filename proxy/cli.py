"""The command line: ``ollama-proxy serve · check · keys · demo``."""

import gc
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from config.load import Loaded, load, load_data
from config.problems import Invalid
from config.tree import Data
from proxy import __version__, systemd
from proxy.announce import announce
from proxy.app import App, check
from proxy.commands import keys
from proxy.demo import run_demo
from proxy.logs import configure
from proxy.reload import Reloader
from proxy.server import Server, ServerError
from proxy.wiring import server_options
from proxy.writer import Writer

OLLAMA: Final = "http://127.0.0.1:11434"

main = typer.Typer(
    name="ollama-proxy",
    help="A streaming reverse proxy for Ollama: one YAML file, a chain of ASGI middleware, chunks passed unchanged.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
main.add_typer(keys.commands, name="keys")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The policy file. Without it ./proxy.yaml, where there is one.", metavar="FILE"
    ),
]
BackendOption = Annotated[
    list[str] | None,
    typer.Option("--backend", help=f"Serve without a file: an Ollama host, {OLLAMA} if none is named."),
]
ListenOption = Annotated[
    list[str] | None, typer.Option(help="host:port or unix:/path; in place of what the file says.")
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ollama-proxy {__version__}")
        raise typer.Exit


@main.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@main.command()
def serve(
    config: ConfigOption = None,
    backend: BackendOption = None,
    listen: ListenOption = None,
    allow_anonymous_network: Annotated[
        bool, typer.Option(help="Listen beyond this machine although nobody is asked who he is.")
    ] = False,
) -> None:
    """Serve until SIGTERM or SIGINT; streams that run then may finish. SIGHUP, or a change, loads the file again."""

    def read() -> Loaded:
        return _load(file, backend or [], listen or [], allow_anonymous_network)

    file = _file(config, backend or [])
    loaded = read()
    sink = Writer()
    configure(sink)
    try:
        app = App(loaded, sink)
        server = Server(app.frame, server_options(app.settings))
        reloader = Reloader(app, read, file, renew_tls=server.renew_tls)

        def ready(running: Server) -> None:
            keep_collector_calm()
            reloader.start()
            announce(app, running.addresses)
            systemd.ready()

        server.run(ready)
    except Invalid as error:
        _fail(*map(str, error.problems))
    except ServerError as error:
        _fail(str(error))
    finally:
        sink.close()


@main.command("check")
def check_config(config: ConfigOption = None) -> None:
    """Check a policy file and show what it comes to; exits with 1 where it has a mistake, and lists them all."""
    loaded = _load(_file(config, []), [], [], False)
    try:
        plan, settings = check(loaded)
    except Invalid as error:
        _fail(*map(str, error.problems))
    typer.echo(f"{loaded.file} is fine")
    typer.echo(f"listens on   {', '.join(map(str, settings.listen))}")
    for entry in settings.backends:
        typer.echo(f"backend      {entry.name} at {entry.url.shown}")
    typer.echo(f"chain        {plan}")


@main.command()
def demo(
    listen: Annotated[str, typer.Option(help="Where the proxy listens; port 0 is any free one.")] = "127.0.0.1:11435",
) -> None:
    """Start two simulated Ollama hosts and the proxy in front, and print lines to try."""
    try:
        run_demo(listen)
    except Invalid as error:
        _fail(*map(str, error.problems))
    except ServerError as error:
        _fail(str(error))


def keep_collector_calm() -> None:
    """Let the garbage collector look seldom, and never at what was there when serving began.

    Requests leave next to no cycles, so that collecting as often as Python does by default costs a busy proxy one
    twentieth of its CPU for nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _file(config: Path | None, backends: list[str]) -> Path | None:
    """Return the policy file to read, None where the flags are all there is."""
    if config is not None and backends:
        raise typer.BadParameter("name the backends in the file, or leave the file out", param_hint="--backend")
    here = Path("proxy.yaml")
    return config if config is not None or backends or not here.exists() else here


def _load(config: Path | None, backends: list[str], listen: list[str], anonymous: bool) -> Loaded:
    """Read the policy file, or make one up from the flags."""
    changes: dict[str, Data] = {}
    if listen:
        changes["listen"] = list(listen)
    if anonymous:
        changes["allow_anonymous_network"] = True
    if config is not None:
        return load(config, changes=changes)
    made_up: dict[str, Data] = {
        "backends": [{"name": f"ollama-{number}", "url": url} for number, url in enumerate(backends or [OLLAMA], 1)],
        "middleware": ["logging", "retry"],
    }
    return load_data({**made_up, **changes})


def _fail(*messages: str) -> None:
    for message in messages:
        typer.secho(message, fg=typer.colors.RED if sys.stderr.isatty() else None, err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    main()
