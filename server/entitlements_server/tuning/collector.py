"""Tuning of Python's garbage collector for a server."""

import gc

_THRESHOLDS = (5_000, 10, 10)


def tune_gc() -> None:
    """Run the garbage collector less often and exempt objects created at startup.

    The memtable has some hundred thousand objects without cycles. With Python's default thresholds, a
    full collection visited them every 15,000 charges and stopped all calls for 50 ms: see
    docs/performance.md.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
