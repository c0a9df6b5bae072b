"""A call into librdkafka that may never come back is given up in time."""

import threading

import pytest

from playhead.adapters.kafka_producer import came_back


def test_a_call_that_comes_back_is_waited_for():
    done = []
    assert came_back(lambda: done.append(1), 10)
    assert done == [1]


def test_what_a_call_raises_is_raised_where_it_was_made():
    with pytest.raises(ZeroDivisionError):
        came_back(lambda: 1 / 0, 10)


def test_a_call_that_does_not_come_back_is_left_behind():
    comes_back = threading.Event()
    try:
        assert not came_back(comes_back.wait, 0.05)
    finally:
        comes_back.set()
