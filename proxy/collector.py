"""How often Python looks for reference cycles in a process that serves."""

import gc


def keep_collector_calm() -> None:
    """Make the garbage collector run seldom, and skip the objects that exist when serving begins.

    Requests leave almost no reference cycles. Collecting as often as Python does by default would cost a busy proxy
    5 % of its CPU for nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
