"""The reference of the command line, in Markdown, made from the commands themselves."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from proxy.cli import main


def commands() -> dict[str, Any]:
    """Return every command by its name on the command line: ``check``, ``keys new``."""
    return dict(_walk(get_command(main), ""))


def _walk(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _walk(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def commands_page() -> str:
    """Return the page, in Markdown."""
    lines = [
        "# Commands",
        "",
        "Generated from the commands by `scripts/generate`; not to be edited here. `ollama-proxy COMMAND --help` says",
        "the same, and `ollama-proxy --install-completion` teaches it to your shell.",
    ]
    for name, command in commands().items():
        lines += ["", f"## {name}", "", " ".join((command.help or "").split()), *_parameters(command)]
    return "\n".join(lines) + "\n"


def _parameters(command: Any) -> Iterator[str]:
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    if not parameters:
        return
    yield from ("", "| | | default |", "|---|---|---|")
    for parameter in parameters:
        argument = parameter.param_type_name == "argument"
        names = parameter.name.upper() if argument else ", ".join((*parameter.opts, *parameter.secondary_opts))
        text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
        if variable := getattr(parameter, "envvar", None):
            text += f" (`{variable}`)"
        yield f"| `{names}` | {text} | {_default(parameter)} |"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    return "" if parameter.default in (None, False, (), []) else f"`{parameter.default}`"
