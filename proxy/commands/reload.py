"""``ollama-proxy reload``: load the policy file of a running proxy again."""

from proxy.commands.remote import URL, CaOption, KeyOption, Remote, UrlOption, fail
from proxy.commands.terminal import say


def reload(url: UrlOption = URL, key: KeyOption = None, ca: CaOption = None) -> None:
    """Let a running proxy load its policy file again; exits with 1 where it refuses it, and then nothing changed."""
    with Remote(url, key, ca) as remote:
        document = remote.post("/-/reload")
    if document["problems"]:
        fail(f"refused; policy file {document['generation']} is still in force", *document["problems"])
    say(f"policy file {document['generation']} is in force")
    if document["restart"]:
        say(f"only after a restart: {', '.join(document['restart'])}")
