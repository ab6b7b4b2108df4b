import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.errors import InputError
from decoders.signal.events import (
    Block,
    Events,
    check_events,
    label_volumes,
    merge_blocks,
    overlaps,
    read_events,
)


def make(rows):
    onset, duration, kind = zip(*rows, strict=True)
    return Events(np.array(onset, float), np.array(duration, float), np.array(kind, object), True, "events.tsv")


def write(tmp_path, text):
    path = tmp_path / "events.tsv"
    path.write_text(text)
    return path


def test_reads_in_order_of_onset_and_empties_na(tmp_path):
    events = read_events(write(tmp_path, "onset\tduration\ttrial_type\textra\n4\t1\tb\tx\n1.5\t2\tn/a\ty\n"))
    assert events.onset.tolist() == [1.5, 4]
    assert events.trial_type.tolist() == ["", "b"]
    assert events.typed


def test_without_trial_type_all_conditions_are_empty(tmp_path):
    events = read_events(write(tmp_path, "onset\tduration\n1\t1\n"))
    assert not events.typed
    assert events.trial_type.tolist() == [""]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("onset,duration\n1,1\n", ["onset and duration"]),
        ("onset\tduration\n1\tn/a\n", ["duration", "'n/a' in row 2"]),
        ("onset\tduration\nsoon\t1\n", ["onset", "'soon' in row 2"]),
        ("onset\tduration\n1\t-2\n", ["-2 s in row 2", "0 s or more"]),
        ("", ["BIDS events table"]),
    ],
)
def test_what_is_no_events_table_is_said(tmp_path, text, parts):
    with pytest.raises(InputError) as error:
        read_events(write(tmp_path, text))
    for part in [*parts, "events.tsv"]:
        assert part in str(error.value)


def test_events_beyond_the_run_name_event_and_end():
    with pytest.raises(InputError) as error:
        check_events(make([(10, 2, "face"), (300, 2, "house")]), n_volumes=100, tr=2.0)
    for part in ["'house'", "300 to 302 s", "end of the run at 200 s", "100 volumes", "1 of 2 events"]:
        assert part in str(error.value)


def test_an_event_may_outlast_the_run_by_one_tr_only():
    check_events(make([(190, 12, "a")]), 100, 2.0)
    check_events(make([(-4, 2, "a")]), 100, 2.0)
    with pytest.raises(InputError, match=r"190 to 202\.1 s"):
        check_events(make([(190, 12.1, "a")]), 100, 2.0)
    with pytest.raises(InputError):
        check_events(make([(200, 0, "a")]), 100, 2.0)


def test_gaps_up_to_two_tr_are_closed():
    events = make([(0, 1, "a"), (5, 1, "a"), (10.1, 1, "a"), (11.1, 1, "b"), (12.1, 1, "a")])
    blocks = merge_blocks(events, tr=2.0)
    assert blocks == [Block("a", 0, 6), Block("a", 10.1, 11.1), Block("b", 11.1, 12.1), Block("a", 12.1, 13.1)]


def test_volumes_belong_to_the_block_that_covers_their_start():
    conditions, groups = label_volumes([Block("a", 2, 6), Block("b", 6, 7)], np.arange(6) * 2.0)
    assert conditions.tolist() == ["", "a", "a", "b", "", ""]
    assert groups.tolist() == [-1, 0, 0, 1, -1, -1]


def test_where_blocks_overlap_the_later_start_counts():
    blocks = [Block("long", 0, 10), Block("short", 4, 6)]
    conditions, _ = label_volumes(blocks, np.arange(5) * 2.0)
    assert conditions.tolist() == ["long", "long", "short", "long", "long"]
    assert overlaps(blocks) == 1


@given(st.lists(st.tuples(st.floats(0, 500), st.floats(0, 30), st.sampled_from(["a", "b", ""])), max_size=25))
@settings(max_examples=60, deadline=None)
def test_a_volume_in_an_event_is_in_a_block(rows):
    rows.sort(key=lambda row: row[0])
    events = make(rows) if rows else Events(np.zeros(0), np.zeros(0), np.zeros(0, object), True, "")
    blocks = merge_blocks(events, 2.0)
    times = np.arange(0, 600, 2.0)
    conditions, groups = label_volumes(blocks, times)
    inside = np.zeros(times.size, bool)
    for onset, duration, kind in rows:
        inside |= (times >= onset) & (times < onset + duration - 1e-5) & bool(kind)
    assert (conditions[inside] != "").all()
    assert ((groups >= 0) == (conditions != "")).all()
    assert all(blocks[group].condition == kind for group, kind in zip(groups, conditions, strict=True) if group >= 0)


@given(st.text(max_size=120))
@settings(max_examples=80, deadline=None)
def test_any_text_is_read_or_refused_in_a_sentence(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("events") / "events.tsv"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        read_events(path)
    except InputError as error:
        assert "events.tsv" in str(error)
