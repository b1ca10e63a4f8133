"""proxy/ops/app_protocol.py."""

from proxy.app import App
from proxy.ops.app_protocol import Engine, Loader
from proxy.reload import Reloader
from proxy.testing import LogLines
from tests.support.policy import load_text


def test_an_app_is_an_engine_and_a_reloader_loads_it() -> None:
    app = App(load_text("backends: [{name: a, url: 'http://127.0.0.1:1'}]"), LogLines())
    engine: Engine = app
    loader: Loader = Reloader(app, lambda: load_text(""), None)
    engine.reloader = loader
    assert engine.serving
    for name in Engine.__annotations__:
        assert hasattr(app, name), name
    assert loader.last.generation == 1
