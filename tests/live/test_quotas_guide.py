"""The guide about quotas does what it says."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.app import check
from proxy.kernel.token_estimate import BYTES_PER_TOKEN, IMAGE_TOKENS, Estimate
from proxy.services.system_clock import SystemClock
from proxy.simulator import Ollama
from proxy.stores.open import open_store
from tests.support.policy import load_text
from tests.support.proxy import running
from tests.support.wire import ask

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "quotas.md").read_text()
POLICIES = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.M | re.S)
FIELDS = dict(
    line.split(": ", 1)
    for block in re.findall(r"^```http\n(.*?)^```$", GUIDE, re.M | re.S)
    for line in block.splitlines()
)
CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("text", POLICIES)
def test_every_policy_file_in_it_is_right(text: str, tmp_path: Path) -> None:
    if "keys.yaml" in text:
        (tmp_path / "keys.yaml").write_text("keys: []\n")
    check(load_text(f'backends: [{{name: gpu-1, url: "http://127.0.0.1:11434"}}]\n{text}', folder=tmp_path))


def test_every_address_in_it_is_one() -> None:
    table = GUIDE.partition("| address |")[2].partition("\n\n")[0]
    addresses = re.findall(r"^\| `([^`]+)`", table, re.M)
    assert len(addresses) == 5
    for address in addresses:
        open_store(address, SystemClock())


def test_the_numbers_in_it_are_those_of_the_code() -> None:
    defaults = Estimate()
    assert BYTES_PER_TOKEN == 4
    for number in (IMAGE_TOKENS, defaults.output, defaults.max):
        assert str(number) in GUIDE


def limits_of(text: str, policy: str | None) -> Any:
    settings = yaml.safe_load(text)
    (options,) = [entry["rate_limit"] for entry in settings["middleware"] if "rate_limit" in entry]
    return {**options, **settings.get("policies", {}).get(policy, {}).get("rate_limit", {})}


async def test_an_answer_has_the_fields_that_it_shows() -> None:
    chain: list[object] = [{"rate_limit": limits_of(POLICIES[0], None)}]
    async with Ollama(tokens=2) as sim, running(sim.url, middleware=chain) as proxy:
        answer = await ask(proxy.address, "POST", "/api/chat", CHAT)
    said = {name: value for name, value in answer.headers.items() if "ratelimit" in name}
    assert set(said) == set(FIELDS)
    for name, value in said.items():  # what is left of the tokens depends on the request
        assert re.sub(r"98\d\d\d", "98950", value) == FIELDS[name]


async def test_guests_are_refused_after_ten_in_the_words_it_shows() -> None:
    chain: list[object] = [{"rate_limit": limits_of(POLICIES[0], "guests")}]
    async with Ollama(tokens=2) as sim, running(sim.url, middleware=chain) as proxy:
        answers = [await ask(proxy.address, "POST", "/api/chat", {**CHAT, "stream": False}) for _ in range(11)]
    assert [answer.status for answer in answers] == [200] * 10 + [429]
    shown = re.search(r'\{"error":"(rate_limit: .*?)",\n "code":"rate_limit_exceeded"\}', GUIDE)
    assert shown is not None
    pattern = (
        re.escape(shown[1]).replace("60", "10").replace("identity", "address").replace(r"12\.3s", r"[0-9.]+m?[0-9]*s")
    )
    assert re.search(pattern, answers[-1].body.decode())
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60


async def test_several_limits_hold_together() -> None:
    options = limits_of(POLICIES[1], None)
    async with Ollama(tokens=2) as sim, running(sim.url, middleware=[{"rate_limit": options}]) as proxy:
        answer = await ask(proxy.address, "POST", "/api/chat", CHAT)
    assert re.findall(r'"([^"]+)";r=', answer.headers["ratelimit"]) == [
        "default-streams",
        "default-requests-minute",
        "team-tokens-day",
        "team-tokens-month",
        "big-model-streams",
    ]
