import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.errors import InputError
from decoders.simulate.bids import write_tsv
from decoders.stimuli.text import clean_word
from decoders.stimuli.textgrid import Interval, TextGrid, Tier, write_textgrid
from decoders.stimuli.timings import (
    Words,
    characters_of,
    read_characters,
    read_words,
    words_from_table,
    words_table,
)

PRINTABLE = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8)


@st.composite
def spoken(draw):
    texts = draw(st.lists(PRINTABLE.filter(clean_word), min_size=1, max_size=8))
    gaps = draw(st.lists(st.integers(0, 2000), min_size=2 * len(texts), max_size=2 * len(texts)))
    edges = np.cumsum(gaps) / 1000
    return Words(edges[::2], np.diff(edges)[::2], tuple(map(clean_word, texts)), tuple(text + " " for text in texts))


@given(spoken())
def test_what_is_written_is_read_back(tmp_path_factory, words):
    path = tmp_path_factory.mktemp("words") / "a_words.tsv"
    write_tsv(path, words_table(words))
    found = read_words(path)
    assert found.word == words.word
    assert found.text == words.text
    np.testing.assert_allclose(found.onset, words.onset, atol=1e-9)
    np.testing.assert_allclose(found.duration, words.duration, atol=1e-9)


@given(spoken())
def test_characters_are_written_and_read_back(tmp_path_factory, words):
    path = tmp_path_factory.mktemp("characters") / "a_characters.tsv"
    table = characters_of(words)
    write_tsv(path, table)
    found = read_characters(path)
    assert "".join(found["character"]) == "".join(words.text)
    np.testing.assert_allclose(found["onset"], table["onset"], atol=1e-6)


@given(spoken())
def test_tables_and_words_are_the_same(words):
    back = words_from_table(words_table(words))
    assert (back.word, back.text) == (words.word, words.text)
    np.testing.assert_array_equal(back.onset, words.onset)


@given(st.binary(max_size=200))
def test_garbage_is_an_input_error_and_nothing_else(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("garbage") / "a_words.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_words(path)


def _table(tmp_path, **columns):
    path = tmp_path / "s_words.tsv"
    rows = {"onset": ["0", "1"], "duration": ["1", "1"], "word": ["one", "two"], **columns}
    pd.DataFrame({key: value for key, value in rows.items() if value is not None}).to_csv(path, sep="\t", index=False)
    return path


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"duration": ["1.2", "1"]}, r"'one' until 1.200 s and 'two' from 1.000 s \(row 1\)"),
        ({"onset": ["5", "1"]}, "in order of time"),
        ({"duration": ["1", "-0.5"]}, "-0.5 s for 'two' in row 2"),
        ({"duration": ["1", "n/a"]}, "none for 'two' in row 2"),
        ({"onset": ["0", "one"]}, "expected seconds in the column 'onset', found 'one' in row 2"),
        ({"word": None}, "no word among onset, duration"),
        ({"duration": None, "word": None}, "no duration, word among onset"),
        ({"word": ["", "…"]}, "expected words, found none"),
        ({"onset": ["0", "inf"]}, "none for 'two'"),
    ],
)
def test_faults_are_sentences_that_name_the_file(tmp_path, columns, sentence):
    path = _table(tmp_path, **columns)
    with pytest.raises(InputError, match=sentence) as error:
        read_words(path)
    assert str(path) in str(error.value)


def test_a_missing_table_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_words(tmp_path / "x_words.tsv")


def test_a_quote_that_swallows_rows_is_found(tmp_path):
    path = tmp_path / "s_words.tsv"
    path.write_text('onset\tduration\tword\n0\t1\t"one\n1\t1\ttwo"\n')
    with pytest.raises(InputError, match="quotes in pairs"):
        read_words(path)


def test_overlap_by_rounding_is_no_fault(tmp_path):
    assert len(read_words(_table(tmp_path, duration=["1.004", "1"]))) == 2


def test_a_textgrid_drops_silences_and_marks(tmp_path):
    labels = ["sp", "Well", "", "don't ", "sil", "!", "SP"]
    intervals = tuple(Interval(i, i + 1, label) for i, label in enumerate(labels))
    write_textgrid(tmp_path / "a.TextGrid", TextGrid((Tier("word", intervals, 0, 7),), 0, 7))
    words = read_words(tmp_path / "a.TextGrid")
    assert words.word == ("well", "don't")
    assert words.text == ("Well ", "don't ")
    np.testing.assert_array_equal(words.onset, [1, 3])


def test_between_takes_onsets_and_not_the_end():
    words = Words(np.array([0.0, 1, 2]), np.ones(3), ("a", "b", "c"), ("a ", "b ", "c "))
    assert words.between(1, 2).word == ("b",)
    np.testing.assert_array_equal(words.middle, [0.5, 1.5, 2.5])


@pytest.mark.mirror
def test_alice_has_2127_words(mirror):
    words = read_words(mirror / "alice_fmri_brennan2016/alice_stim_shared/DownTheRabbitHoleFinal_exp120_pad_1.TextGrid")
    assert len(words) == 2127
    assert words.word[:4] == ("alice", "was", "beginning", "to")
