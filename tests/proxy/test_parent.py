"""proxy/parent.py: what it says to a worker that begins; tests/live/test_workers.py has the rest."""

from pathlib import Path

from proxy.kernel.log_lines import FORMATS
from proxy.parent import Parent
from proxy.telemetry.log_writer import Writer
from tests.support.policy import load_text

TEXT = "backends: [{name: a, url: 'http://127.0.0.1:1'}]\nworkers: 3\nstore: redis://127.0.0.1:1/0\n"


async def test_a_worker_is_told_what_is_in_force() -> None:
    sink = Writer(render=FORMATS["json"])
    parent = Parent(
        load_text(TEXT), lambda: load_text(TEXT), Path("p.yaml"), sink=sink, turns=7, count=3, changes={"listen": ["x"]}
    )
    parent._note_drained({"backend": "a", "draining": True}, {})
    parent._note_drained({"backend": "b", "draining": True}, {})
    parent._note_drained({"backend": "b", "draining": False}, {})
    told = await parent.begin({"worker": 2})
    assert (told["number"], told["count"], told["generation"], told["turns"]) == (2, 3, 1, 7)
    assert told["text"] == told["began_with"] == TEXT
    assert told["drained"] == ["a"]
    assert told["changes"] == {"listen": ["x"]}
    assert (told["sockets"], told["ops"]) == ([], None)
    sink.close()
