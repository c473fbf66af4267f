"""The process shell."""

import gc
import weakref

from purveyor import process


class Node:
    """An object that a cycle keeps."""

    def __init__(self) -> None:
        self.itself = self


def test_collector_passes_over_what_was_built_at_start_and_finds_later_cycles() -> None:
    threshold = gc.get_threshold()
    try:
        process._spare_the_collector()
        later = weakref.ref(Node())
        frozen = gc.get_freeze_count()
        gc.collect()

        assert frozen > 0
        assert gc.get_threshold()[0] > threshold[0]
        assert later() is None
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)
