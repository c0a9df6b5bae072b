"""The restart table of the design, row by row, in its order; and what no row may ever allow."""

import itertools
from dataclasses import replace

import pytest

from playhead.core.checkpoint import Checkpoint, Committed, Cursor
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.restart import Act, Situation, decide

PLACE = TopicPartition("raw_trackpoints", 2)
LEDGER, VERSION = "0f3a9c1e77", "distance@miles"
G, B, C = 2, 5, 100
FIRST = 10


def ours(offset, generation=G, batch=B, ledger=LEDGER, version=VERSION):
    return Committed(offset, str(Checkpoint(ledger, version, generation, batch, 90, "d1")))


def foreign(offset):
    return Committed(offset, "")


def of_another_ledger(offset, generation=G, batch=B):
    return ours(offset, generation, batch, ledger="another")


def of_another_version(offset, generation=G, batch=B):
    return ours(offset, generation, batch, version="distance@km")


def at(k, w, *, topics=True, cursor=(C, G, B), accept=False, retained=(0, 1000)):
    return Situation(
        place=PLACE,
        ledger=LEDGER,
        version=VERSION,
        cursor=Cursor(*cursor) if cursor else None,
        group=k,
        witness=w,
        retained=OffsetRange(*retained),
        first=FIRST,
        topic_outputs=topics,
        accept_gap=accept,
    )


NEW = (C, G, 0)  # a generation that has committed no batch yet
AHEAD = ours(120, G, B + 1)  # the witness of a batch that was published and not stored

# The rows in the design's order: its words, then situations, each with what is to be done.
TABLE = {
    "no cursor row, K and W none": [
        (at(None, None, cursor=None), Act.FIRST_START, FIRST),
        (at(None, None, cursor=None, topics=False), Act.FIRST_START, FIRST),
    ],
    "no cursor row, K foreign, W none": [
        (at(foreign(7), None, cursor=None), Act.FIRST_START, 7),
        (at(foreign(0), None, cursor=None, topics=False), Act.FIRST_START, 0),
    ],
    "no cursor row, anything else": [
        (at(ours(7), None, cursor=None), Act.REFUSE, None),
        (at(None, ours(7), cursor=None), Act.REFUSE, None),
        (at(foreign(7), foreign(7), cursor=None), Act.REFUSE, None),
        (at(None, foreign(7), cursor=None), Act.REFUSE, None),
        (at(foreign(7), ours(7), cursor=None), Act.REFUSE, None),
        (at(of_another_ledger(7), None, cursor=None), Act.REFUSE, None),
        (at(of_another_version(7), None, cursor=None), Act.REFUSE, None),
    ],
    "W ours = (g, b+1) and W > C": [
        (at(ours(C), AHEAD), Act.REDO, 120),
        (at(AHEAD, AHEAD), Act.REDO, 120),
        (at(None, AHEAD), Act.REDO, 120),
        (at(ours(C), AHEAD, retained=(C, 120)), Act.REDO, 120),
        (at(ours(C), AHEAD, retained=(C + 1, 1000)), Act.REFUSE, None),
        (at(ours(C), AHEAD, retained=(0, 119)), Act.REFUSE, None),
    ],
    "W none or foreign, K ours = (g, b+1), K > C": [
        (at(AHEAD, None), Act.REDO, 120),
        (at(AHEAD, foreign(120)), Act.REDO, 120),
        (at(AHEAD, foreign(3)), Act.REDO, 120),
        (at(AHEAD, None, retained=(C + 1, 1000)), Act.REFUSE, None),
    ],
    "W ours, more than one batch ahead, or of a newer generation": [
        (at(ours(140, G, B + 2), ours(140, G, B + 2)), Act.REFUSE, None),
        (at(ours(C), ours(140, G, B + 2)), Act.REFUSE, None),
        (at(ours(C), ours(60, G + 1, 1)), Act.REFUSE, None),
        (at(ours(C), ours(C, G, B + 1)), Act.REFUSE, None),
    ],
    "topic outputs, b > 0, W ours and older than (g, b)": [
        (at(ours(C), ours(90, G, B - 1)), Act.REFUSE, None),
        (at(ours(C), ours(C, G - 1, B + 9)), Act.REFUSE, None),
        (at(None, ours(90, G, B - 1)), Act.REFUSE, None),
        # right after a rewind nothing of this generation has been published yet
        (at(ours(C, G, 0), ours(130, G - 1, 9), cursor=NEW), Act.GO_ON, C),
    ],
    "K none": [
        (at(None, ours(C)), Act.GO_ON, C),
        (at(None, None, topics=False), Act.GO_ON, C),
        (at(None, None), Act.REWIND, C),
    ],
    "K = C, ours (g, b)": [
        (at(ours(C), ours(C)), Act.GO_ON, C),
        (at(ours(C), None), Act.GO_ON, C),
        (at(ours(C), None, topics=False), Act.GO_ON, C),
    ],
    "K = (g+1, 0), K <= C": [
        (at(ours(30, G + 1, 0), ours(C)), Act.REWIND, 30),
        (at(ours(C, G + 1, 0), ours(C)), Act.REWIND, C),
        (at(ours(0, G + 1, 0), None, topics=False), Act.REWIND, 0),
    ],
    "K ours, older batch or generation": [
        (at(ours(90, G, B - 1), None, topics=False), Act.GO_ON, C),
        (at(ours(C, G, B - 1), ours(C)), Act.GO_ON, C),
        (at(ours(900, G - 1, B + 9), ours(C)), Act.GO_ON, C),
        (at(ours(900, G - 1, B + 9), None, topics=False), Act.GO_ON, C),
    ],
    "K = C, foreign; W ours, or no topic outputs": [
        (at(foreign(C), ours(C)), Act.GO_ON, C),
        (at(foreign(C), None, topics=False), Act.GO_ON, C),
    ],
    "K = C, foreign; W none or foreign, topic outputs": [
        (at(foreign(C), None), Act.REWIND, C),
        (at(foreign(C), foreign(C)), Act.REWIND, C),
    ],
    "K < C, foreign": [
        (at(foreign(0), ours(C)), Act.REWIND, 0),
        (at(foreign(99), None), Act.REWIND, 99),
        (at(foreign(99), foreign(99)), Act.REWIND, 99),
        (at(foreign(99), None, topics=False), Act.REWIND, 99),
    ],
    "K > C, foreign; W none or foreign, topic outputs": [
        (at(foreign(120), None), Act.REFUSE, None),
        (at(foreign(120), foreign(120)), Act.REFUSE, None),
        (at(foreign(120), None, accept=True), Act.REFUSE, None),
    ],
    "K > C, foreign": [
        (at(foreign(120), ours(C)), Act.REFUSE, None),
        (at(foreign(120), None, topics=False), Act.REFUSE, None),
        (at(foreign(120), ours(C), accept=True), Act.ACCEPT_GAP, 120),
        (at(foreign(120), None, topics=False, accept=True), Act.ACCEPT_GAP, 120),
    ],
    "anything else, also another's": [
        (at(of_another_ledger(C), ours(C)), Act.REFUSE, None),
        (at(ours(C), of_another_ledger(C)), Act.REFUSE, None),
        (at(of_another_version(C), None, topics=False), Act.REFUSE, None),
        (at(of_another_version(0, G + 1, 0), ours(C)), Act.REFUSE, None),
        (at(ours(90), ours(C)), Act.REFUSE, None),
        (at(ours(120, G + 1, 0), ours(C)), Act.REFUSE, None),
        (at(ours(50, G + 2, 0), ours(C)), Act.REFUSE, None),
        (at(ours(120, G, B + 2), None, topics=False), Act.REFUSE, None),
        (at(ours(50, G, B + 1), None, topics=False), Act.REFUSE, None),
    ],
}


@pytest.mark.parametrize("row", TABLE)
def test_the_table(row):
    for situation, act, to in TABLE[row]:
        decision = decide(situation)
        assert decision.act is act, situation.told()
        if to is not None:
            assert decision.to == to, situation.told()
        if act is Act.REDO:
            assert decision.expected == AHEAD.checkpoint


# --- an earlier row wins over a later one ------------------------------------------------------


@pytest.mark.parametrize(
    ("situation", "act", "to", "then", "then_to"),
    [
        # the pending batch first, then what somebody wanted of the group
        (at(foreign(0), AHEAD), Act.REDO, 120, Act.REWIND, 0),
        (at(foreign(C), AHEAD), Act.REDO, 120, Act.REWIND, C),
        (at(foreign(120), AHEAD), Act.REDO, 120, Act.GO_ON, 120),
        (at(foreign(500), AHEAD), Act.REDO, 120, Act.REFUSE, None),
        (at(foreign(500), AHEAD, accept=True), Act.REDO, 120, Act.ACCEPT_GAP, 500),
        (at(None, AHEAD), Act.REDO, 120, Act.GO_ON, 120),
        (at(ours(40, G + 1, 0), AHEAD), Act.REDO, 120, Act.REWIND, 40),
        (at(ours(120, G + 1, 0), AHEAD), Act.REDO, 120, Act.REWIND, 120),
    ],
)
def test_a_pending_batch_is_redone_before_anything_else(situation, act, to, then, then_to):
    first = decide(situation)
    assert (first.act, first.to) == (act, to)
    after = replace(situation, cursor=Cursor(first.to, G, B + 1))
    second = decide(after)
    assert second.act is then
    assert then_to is None or second.to == then_to


@pytest.mark.parametrize(
    "group", [None, ours(C), foreign(0), foreign(C), foreign(500), ours(30, G + 1, 0)], ids=str
)
@pytest.mark.parametrize(
    ("witness", "said"),
    [
        (ours(140, G, B + 2), "restored from an older backup"),
        (ours(90, G, B - 1), "the log has lost a transaction"),
        (of_another_ledger(C), "disagree"),
    ],
)
def test_a_witness_that_contradicts_the_ledger_wins_over_every_row_about_the_group(
    group, witness, said
):
    decision = decide(at(group, witness))
    assert decision.act is Act.REFUSE
    assert said in decision.why


# --- what the refusals say ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("situation", "why", "cure"),
    [
        (at(ours(7), None, cursor=None), ["no cursor", "store is gone"], ["Restore the store"]),
        (
            at(ours(C), AHEAD, retained=(110, 900)),
            ["[100, 120)", "no longer retained", "[110, 900)"],
            ["Restore the topic"],
        ),
        (at(ours(C), ours(140, G, B + 2)), ["older backup", "140"], ["newest state"]),
        (at(ours(C), ours(90, G, B - 1)), ["lost a transaction"], ["new label"]),
        (at(foreign(120), None), ["Cannot tell"], ["Reset the group to 100"]),
        (at(foreign(120), ours(C)), ["[100, 120)"], ["--accept-gap", "Reset the group to 100"]),
        (
            at(of_another_version(C), ours(C)),
            ["disagree", "share the group", "cursor 100", "distance@km", "witness 100"],
            ["--store", "group="],
        ),
        (
            at(ours(120, G + 1, 0), ours(C)),
            ["cursor 100 (generation 2, batch 5)", "group 120", "generation 3, batch 0"],
            ["--log"],
        ),
    ],
)
def test_a_refusal_says_where_what_and_what_to_do(situation, why, cure):
    decision = decide(situation)
    assert decision.act is Act.REFUSE
    assert decision.why.startswith("raw_trackpoints[2]: ")
    assert [words for words in why if words not in decision.why] == []
    assert [words for words in cure if words not in (decision.cure or "")] == []


@pytest.mark.parametrize(
    ("situation", "noted"),
    [
        (at(ours(C), ours(C)), False),
        (at(None, None, cursor=None), False),
        (at(foreign(7), None, cursor=None), True),
        (at(foreign(C), ours(C)), True),
        (at(foreign(0), ours(C)), True),
        (at(foreign(120), ours(C), accept=True), True),
        (at(ours(C), AHEAD), True),
    ],
)
def test_the_audit_hears_of_what_is_not_normal(situation, noted):
    assert decide(situation).noteworthy is noted


# --- all small situations ----------------------------------------------------------------------

OFFSETS = (1, 3, 5)


def committed_by_anyone():
    yield None
    for offset in OFFSETS:
        yield foreign(offset)
        yield of_another_ledger(offset, 1, 1)
        yield of_another_version(offset, 1, 1)
        for generation, batch in itertools.product((1, 2, 3), (0, 1, 2, 3)):
            yield ours(offset, generation, batch)


def what_could_go_wrong_at_the_cursor(s):
    """Why reading on from the cursor could lose or double a record; None: it cannot.

    Written from what the three positions *prove*, not from the table.
    """
    stage = (s.cursor.generation, s.cursor.batch)
    said = {}
    for name, position in (("K", s.group), ("W", s.witness)):
        note = position and position.checkpoint
        if note and (note.ledger, note.version) != (LEDGER, VERSION):
            return f"{name} is another's: two write here"
        if note:
            said[name] = (note.generation, note.batch)
            if said[name] > stage:
                return f"{name} proves a batch or a rewind that the ledger does not have"
            if said[name] == stage and s.cursor.batch > 0 and position.offset != s.cursor.next:
                return f"{name} says that this very batch ended elsewhere"
    if s.group and "K" not in said and s.group.offset != s.cursor.next:
        return "somebody wants another place"
    if s.topic_outputs:
        if not said:
            return "nothing proves that no batch after the cursor was published"
        if s.cursor.batch > 0 and said.get("W", stage) < stage:
            return "what the ledger holds was not published"
    return None


def everything():
    positions = list(committed_by_anyone())
    for cursor, k, w, topics, accept in itertools.product(
        [(3, 1, 0), (3, 1, 1), (3, 2, 0), (3, 2, 1)],
        positions,
        positions,
        (False, True),
        (False, True),
    ):
        yield at(k, w, topics=topics, cursor=cursor, accept=accept, retained=(0, 9))


def test_nothing_is_lost_or_doubled_in_any_small_situation():
    wrong = []
    for s in everything():
        decision = decide(s)
        here = s.cursor.next
        if decision.act is Act.GO_ON:
            reason = what_could_go_wrong_at_the_cursor(s)
            if reason or decision.to != here:
                wrong.append(f"goes on, but {reason}: {s.told()}, topics={s.topic_outputs}")
        elif decision.act is Act.REDO:
            assert decision.to > here
            assert decision.expected is not None
            again = replace(s, cursor=Cursor(decision.to, s.cursor.generation, s.cursor.batch + 1))
            assert decide(again).act is not Act.REDO
        elif decision.act is Act.REWIND:
            assert decision.to <= here
        elif decision.act is Act.ACCEPT_GAP:
            assert s.accept_gap
            assert decision.to > here
        else:
            assert decision.act is Act.REFUSE
            assert decision.cure
            assert str(PLACE) in decision.why
    kinds = sorted({line.partition(":")[0] for line in wrong})
    assert not wrong, f"{len(wrong)} situations: {kinds}; the first: {wrong[0]}"


def test_every_small_situation_without_a_cursor_has_an_answer():
    positions = list(committed_by_anyone())
    for k, w, topics in itertools.product(positions, positions, (False, True)):
        decision = decide(at(k, w, topics=topics, cursor=None))
        fresh = w is None and (k is None or k.checkpoint is None)
        assert decision.act is (Act.FIRST_START if fresh else Act.REFUSE)
