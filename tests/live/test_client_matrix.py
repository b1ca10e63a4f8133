"""Client programs, as the guides' recipes have them: each streams, stops, and says in words what went wrong."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import Need
from tests.support.client_actions import Subject, scene, try_all
from tests.support.client_builds import BUILT
from tests.support.client_catalog import CLIENTS, INSTALLED, LARGE, Client
from tests.support.client_programs import FOLDER, NODE, PAGES, Interpreter, Shell, recipes_of
from tests.support.client_table import PAGE, page_with_table


def installed(client: Client) -> bool:
    if client.group == "js":
        return NODE is not None and (FOLDER / "js" / "node_modules" / client.packages[0]).is_dir()
    if client.group == "system":
        return shutil.which(client.packages[0]) is not None
    return (INSTALLED / client.group / ".installed-from").exists()


@asynccontextmanager
async def subject(client: Client, home: Path) -> AsyncIterator[Subject]:
    """Make a client ready to be started; what it keeps, it keeps in `home`."""
    (recipe,) = (found for found in recipes_of(client.page) if found.number == client.number)
    env = {"HOME": str(home)}
    programs = INSTALLED / client.group / "bin"
    if recipe.language == "sh":
        yield Subject(recipe, Shell(programs), client.streams, client.says, env)
        return
    assert NODE is not None or recipe.language == "python"
    command = (
        (programs / "python", FOLDER / "python" / "run.py")
        if recipe.language == "python"
        else (NODE or "", FOLDER / "js" / "run.mjs")
    )
    async with Interpreter.started(*command) as runner:
        yield Subject(recipe, runner, client.streams, client.says, env)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.id)
async def test_a_client_streams_stops_and_says_what_went_wrong(client: Client, tmp_path: Path, need: Need) -> None:
    need(f"{client.title} (scripts/clients --install)", installed(client))
    async with scene(tmp_path) as at, subject(client, tmp_path) as program:
        await try_all(program, at)


def test_every_program_of_a_page_is_run() -> None:
    known = {client.id for client in CLIENTS} | LARGE.keys() | BUILT.keys()
    assert {recipe.id for page in PAGES.glob("*.md") for recipe in recipes_of(page.stem)} == known


def test_the_table_says_what_was_run() -> None:
    """``scripts/clients --table`` writes it."""
    assert PAGE.read_text("utf-8") == page_with_table()
