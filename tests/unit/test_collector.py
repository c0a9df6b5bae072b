"""The collector of cycles: off within batches, on again, and nothing is left lying about."""

import gc
import weakref

from playhead.engine import collector
from playhead.engine.collector import Collector


class Cycle:
    def __init__(self):
        self.me = self


def test_it_is_off_while_any_is_open_and_then_as_it_was():
    assert gc.isenabled()
    first, second = Collector(), Collector()
    with first:
        second.__enter__()
        assert not gc.isenabled()
    assert not gc.isenabled(), "the second is still open"
    second.__exit__(None, None, None)
    assert gc.isenabled()
    gc.disable()
    try:
        with Collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_between_collects_once_a_second():
    with Collector() as one:
        gone = weakref.ref(Cycle())
        one.between()
        assert gone() is not None
        one._at_s -= collector.EVERY_S
        one.between()
        assert gone() is None


def test_what_many_of_them_leave_is_collected():
    """A process that runs worker after worker keeps none of their cycles."""
    left = []
    for _ in range(5):
        with Collector():
            left.append(weakref.ref(Cycle()))
    gc.collect()
    assert [ref() for ref in left] == [None] * 5
