"""proxy/services/weak_keepsakes.py: objects outlive a reload while somebody holds them."""

import gc
import weakref

from proxy.services.weak_keepsakes import WeakKeepsakes


class Learned:
    pass


def test_an_object_is_found_again_while_somebody_holds_it() -> None:
    keepsakes = WeakKeepsakes()
    held = keepsakes.keep("a", Learned)
    assert keepsakes.keep("a", Learned) is held
    assert keepsakes.keep("b", Learned) is not held


def test_an_object_that_nobody_holds_is_gone() -> None:
    keepsakes = WeakKeepsakes()
    gone = weakref.ref(keepsakes.keep("a", Learned))
    gc.collect()
    assert gone() is None
