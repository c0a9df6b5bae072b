"""Reading ahead: the same records in the same order, and errors where they are waited for."""

import threading
import time

import pytest

from playhead.core.offsets import TopicPartition
from playhead.core.records import Records
from playhead.engine.ahead import Ahead
from playhead.errors import LogFailed


class Tape:
    """A reader of one partition that ends, and fails at some offset, once."""

    def __init__(self, end, fails_at=None):
        self.at, self.end, self.fails_at = 0, end, fails_at
        self.threads, self.closed = set(), False

    def read(self, max_records, timeout_s):
        self.threads.add(threading.current_thread().name)
        if self.at == self.fails_at:
            self.fails_at = None
            raise LogFailed("away")
        if self.at == self.end:
            time.sleep(timeout_s)
            return []
        begin, self.at = self.at, min(self.end, self.at + max_records)
        offsets = list(range(begin, self.at))
        none = [None] * len(offsets)
        return [Records(TopicPartition("t", 0), offsets, offsets, none, none, self.at)]

    def close(self):
        self.closed = True


def read_all(ahead, end, size=7):
    found = []
    while len(found) < end:
        for records in ahead.read(size, 0.5):
            assert 0 < len(records) <= size
            found += records.offsets
    return found


def test_everything_comes_in_order_read_by_a_thread_of_its_own():
    tape = Tape(100)
    ahead = Ahead(tape)
    assert read_all(ahead, 100) == list(range(100))
    assert ahead.read(7, 0) == []
    ahead.close()
    ahead.close()
    assert tape.closed
    assert tape.threads == {"read ahead"}


def test_one_batch_is_fetched_ahead_and_no_more():
    tape = Tape(1000)
    ahead = Ahead(tape)
    assert read_all(ahead, 10, size=10) == list(range(10))
    time.sleep(0.1)
    assert tape.at <= 30, "one that waits in the queue, and one that waits for the queue"
    ahead.close()


def test_an_error_is_raised_by_read_and_the_next_read_goes_on():
    tape = Tape(30, fails_at=14)
    ahead = Ahead(tape)
    assert read_all(ahead, 14) == list(range(14))
    with pytest.raises(LogFailed, match="away"):
        ahead.read(7, 0.5)
    assert read_all(ahead, 16) == list(range(14, 30))
    ahead.close()


def test_close_ends_a_thread_that_waits_for_its_batch_to_be_taken():
    ahead = Ahead(Tape(1000))
    ahead.read(7, 0.5)
    begun = time.monotonic()
    ahead.close()
    assert time.monotonic() - begun < 2
