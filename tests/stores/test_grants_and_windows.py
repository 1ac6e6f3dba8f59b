"""Every store against the model of tests/model, with moving clocks, grants, windows and refunds.

HYPOTHESIS_PROFILE=full: 10,000 runs in memory and 500 on each other store.
"""

import os

from hypothesis import HealthCheck, Phase, settings

from model.machine import run
from support.kinds import Kind as StoreKind
from support.kinds import MemoryKind

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
RUNS = {
    # In memory, on another store.
    "quick": (150, 12),
    "thorough": (1000, 60),
    "full": (10_000, 500),
}


def test_the_store_does_what_the_model_says_whatever_happens(kind: StoreKind) -> None:
    in_memory, elsewhere = RUNS[PROFILE]
    memory = isinstance(kind, MemoryKind)
    runs = in_memory if memory else max(elsewhere // (kind.slow if PROFILE == "quick" else 1), 1)
    run(
        kind,
        settings(
            max_examples=runs,
            stateful_step_count=25,
            deadline=None,  # nothing here is timed
            suppress_health_check=list(HealthCheck),
            # Shrinking takes minutes where each step is a sync.
            phases=list(Phase) if memory else [Phase.generate],
            database=None,
            derandomize=PROFILE == "full",  # the same seeds on every store
        ),
    )
