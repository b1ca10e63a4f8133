"""Names from the policy file that a plugin may ask for."""


class Policies(frozenset[str]):
    """The names of all policies that the policy file defines."""


class EntryName(str):
    """The name of the plugin's own entry in the policy file; its counters and messages carry this name."""
