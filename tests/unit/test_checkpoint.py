"""Commit metadata: ours can be read back, anybody else's says nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.core.checkpoint import Checkpoint, Committed, Cursor

words = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1)
numbers = st.integers(0, 2**63 - 1)


@given(st.builds(Checkpoint, words, words, numbers, numbers, numbers, words))
def test_what_is_written_is_read_back(checkpoint):
    assert Checkpoint.parse(str(checkpoint)) == checkpoint
    assert Committed(5, str(checkpoint)).checkpoint == checkpoint


def test_the_metadata_is_the_one_of_the_design():
    written = str(Checkpoint("ledger1", "distance@miles", 2, 7, 1200, "00ff00ff00ff00ff"))
    assert written == "playhead/1 ledger1 distance@miles 2 7 1200 00ff00ff00ff00ff"


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        "",
        "consumer-1",
        "playhead/1",
        "playhead/1 l v 1 2 3",
        "playhead/1 l v 1 2 3 d more",
        "playhead/2 l v 1 2 3 d",
        "playhead/1 l v one 2 3 d",
        "playhead/1 l v 1 2.0 3 d",
        "playhead/1  v 1 2 3",
        "\x00\x01\x02",
    ],
)
def test_foreign_and_malformed_metadata_is_nobodys(metadata):
    assert Checkpoint.parse(metadata) is None
    assert Committed(5, metadata or "").checkpoint is None


def test_a_cursor_shows_its_place_generation_and_batch():
    assert str(Cursor(1200, 3, 4)) == "1200 (generation 3, batch 4)"
