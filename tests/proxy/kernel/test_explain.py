"""proxy/kernel/explain.py."""

from proxy.kernel.exchange import Exchange
from proxy.kernel.explain import Explains, Explanation
from proxy.testing import ok


class Plugin:
    async def explain(self, exchange: Exchange) -> Explanation:
        return Explanation("pass", "because")


def test_plugins_that_can_be_asked_are_told_from_others() -> None:
    assert isinstance(Plugin(), Explains)
    assert not isinstance(ok, Explains)
