"""The command line: commands that serve, that check policy files, and that call a running proxy."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from config.load import Loaded, load, load_data
from config.problems import Invalid
from config.settings import LISTEN, Log, Settings
from config.tree import Data
from proxy import __version__
from proxy.app import App, check
from proxy.chain.plan import Plan
from proxy.collector import keep_collector_calm
from proxy.commands import act, diff, doctor, explain, keys, logs, reload, requests, status, top
from proxy.commands.announce import announce
from proxy.commands.demo import run_demo
from proxy.commands.package_clash import intruders
from proxy.commands.remote import URL, CaOption, KeyOption, Remote, UrlOption
from proxy.commands.terminal import complain, say
from proxy.kernel.log_lines import FORMATS
from proxy.parent import serve_by_workers
from proxy.reload import Reloader
from proxy.server import open_files
from proxy.server.listeners import ServerError
from proxy.server.server import Server
from proxy.server.server_state import log_bounds
from proxy.telemetry.log_setup import configure
from proxy.telemetry.log_writer import Writer
from proxy.wiring import server_options, workers_of

OLLAMA: Final = "http://127.0.0.1:11434"

main = typer.Typer(
    name="ollama-proxy",
    help="A streaming reverse proxy for Ollama: one YAML file, a chain of ASGI middleware, chunks passed unchanged.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
main.add_typer(keys.commands, name="keys")
main.add_typer(requests.commands, name="requests", rich_help_panel="A running proxy")

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

    if mixed := list(intruders()):
        _fail(*mixed)
    open_files.raise_limit()
    file = _file(config, backend or [])
    loaded = read()
    if file is not None and loaded.settings is not None and (count := workers_of(loaded.settings)) > 1:
        changes = _changes(listen or [], allow_anonymous_network)
        raise typer.Exit(_serve_by_workers(loaded, read, file, count, changes))
    log = loaded.settings.log if loaded.settings else Log()
    sink = Writer(render=FORMATS[log.format])
    configure(sink, format=log.format, level=log.level)
    try:
        app = App(loaded, sink)
        closed = app.plan.anonymous and not app.settings.allow_anonymous_network
        server = Server(app.frame, replace(server_options(app.settings), local_only=closed))
        reloader = Reloader(app, read, file, renew_tls=server.renew_tls)

        def ready(running: Server) -> None:
            keep_collector_calm()
            app.server, app.reloader = running, reloader
            reloader.start()
            log_bounds(running.bounds)
            announce(app, running.addresses)
            reloader.say_ready(reloaded=False)

        server.run(ready)
    except Invalid as error:
        _fail(*map(str, error.problems))
    except ServerError as error:
        _fail(app.not_started or str(error))
    finally:
        sink.close()


@main.command("check")
def check_config(
    config: ConfigOption = None,
    compared: Annotated[
        str | None,
        typer.Option(
            "--diff", help="Show what it would change: another policy file, or `running` for the proxy at --url."
        ),
    ] = None,
    url: UrlOption = URL,
    key: KeyOption = None,
    ca: CaOption = None,
) -> None:
    """Check a policy file and show what it comes to; exits with 1 where it has a mistake, and lists them all."""
    file = _file(config, [])
    if file is None:
        _fail("there is no proxy.yaml in this folder; name the policy file with -c")
    loaded = _load(file, [], [], False)
    plan, settings = _checked(loaded)
    say(f"{loaded.file} is fine")
    if compared == "running":
        with Remote(url, key, ca) as remote:
            before = remote.get("/-/config")
        diff.show_diff(before, diff.document_of(plan, settings), diff.callers_of(None, plan))
    elif compared is not None:
        other = _checked(load(compared))
        diff.show_diff(diff.document_of(*other), diff.document_of(plan, settings), diff.callers_of(other[0], plan))
    else:
        say(f"listens on   {', '.join(map(str, settings.listen))}")
        for entry in settings.backends:
            say(f"backend      {entry.name} at {entry.url.shown}")
        say(f"chain        {plan}")
        if settings.workers != 1:
            say(f"workers      {workers_of(settings)}")


@main.command("doctor")
def look_after(config: ConfigOption = None) -> None:
    """Look at this machine and the backends of a policy file; exits with 1 where something is wrong."""
    doctor.doctor(_load(_file(config, []), [], [], False))


@main.command("explain")
def explain_request(
    method: explain.MethodArgument,
    path: explain.PathArgument,
    who: explain.AsOption = None,
    claims: explain.ClaimsOption = None,
    model: explain.ModelOption = None,
    body: explain.BodyOption = None,
    address: explain.AddressOption = None,
    config: ConfigOption = None,
    url: explain.RunningOption = None,
    key: KeyOption = None,
    ca: CaOption = None,
) -> None:
    """Say what each plugin would decide about a request, and why; nothing is counted or sent. 1 where it is refused."""
    request = explain.request_of(method, path, who, claims, model, body, address)
    if url is not None:
        explain.ask_running(url, key, ca, request)
    else:
        explain.ask_file(_load(_file(config, []), [], [], False), request)


@main.command()
def demo(
    listen: Annotated[str, typer.Option(help="Where the proxy listens; port 0 is any free one.")] = str(LISTEN),
) -> None:
    """Start two simulated Ollama hosts and the proxy in front, and print lines to try."""
    try:
        run_demo(listen)
    except Invalid as error:
        _fail(*map(str, error.problems))
    except ServerError as error:
        _fail(str(error))


def _serve_by_workers(
    loaded: Loaded, read: Callable[[], Loaded], file: Path, count: int, changes: dict[str, Data]
) -> int:
    try:
        return serve_by_workers(loaded, read, file, count=count, changes=changes)
    except Invalid as error:
        _fail(*map(str, error.problems))
    except ServerError as error:
        _fail(str(error))


def _file(config: Path | None, backends: list[str]) -> Path | None:
    """Return the policy file to read, None where the flags replace it."""
    if config is not None and backends:
        raise typer.BadParameter("name the backends in the file, or leave the file out", param_hint="--backend")
    here = Path("proxy.yaml")
    return config if config is not None or backends or not here.exists() else here


def _checked(loaded: Loaded) -> tuple[Plan, Settings]:
    try:
        return check(loaded)
    except Invalid as error:
        _fail(*map(str, error.problems))


def _load(config: Path | None, backends: list[str], listen: list[str], anonymous: bool) -> Loaded:
    """Read the policy file, or make a policy from the flags where there is no file."""
    changes = _changes(listen, anonymous)
    if config is not None:
        return load(config, changes=changes)
    made_up: dict[str, Data] = {
        "backends": [{"name": f"ollama-{number}", "url": url} for number, url in enumerate(backends or [OLLAMA], 1)],
        "middleware": ["logging", "retry"],
    }
    return load_data({**made_up, **changes})


def _changes(listen: list[str], anonymous: bool) -> dict[str, Data]:
    """Return the sections that the flags put in place of the file's."""
    changes: dict[str, Data] = {}
    if listen:
        changes["listen"] = list(listen)
    if anonymous:
        changes["allow_anonymous_network"] = True
    return changes


def _fail(*messages: str) -> NoReturn:
    complain(*messages)
    raise typer.Exit(1)


_RUNNING: Final = "A running proxy"
for _command in (status.status, top.top, reload.reload, act.cancel, act.drain, act.undrain, act.unload, logs.logs):
    main.command(rich_help_panel=_RUNNING)(_command)


if __name__ == "__main__":
    main()
