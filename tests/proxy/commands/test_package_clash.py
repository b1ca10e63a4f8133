"""proxy/commands/package_clash.py."""

from proxy.commands.package_clash import intruders


def test_here_we_are_alone() -> None:
    assert not list(intruders())


def test_another_distribution_is_named_with_what_to_do() -> None:
    owners = {"proxy": ["ollama-proxy"], "config": ["ollama-proxy", "config"], "rich": ["rich"]}
    (sentence,) = intruders(owners)
    assert sentence.startswith("config installs a package called 'config' as well")
    assert "virtual environment of its own" in sentence
