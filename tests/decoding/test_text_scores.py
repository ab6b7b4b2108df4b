"""Error rates against a plain edit distance, and their behaviour at empty texts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.decoding.text_scores import distance_table, edit_counts, error_rate


def levenshtein(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))
    return row[-1]


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_counts_are_the_edit_distance(pairs):
    references, decoded = zip(*pairs, strict=True)
    errors, lengths = edit_counts(references, decoded)
    assert errors.tolist() == [levenshtein(a, b) for a, b in pairs]
    assert lengths.tolist() == [len(a) for a in references]


def test_words_are_parted_by_white_space():
    errors, lengths = edit_counts(["the white  rabbit", " a b "], ["the rabbit", "a c"], "word")
    assert errors.tolist() == [1, 1]
    assert lengths.tolist() == [3, 2]


def test_corpus_and_mean_differ():
    references, decoded = ["ab", "abcdefgh"], ["xx", "abcdefgh"]
    assert error_rate(references, decoded).score == pytest.approx(2 / 10)
    assert error_rate(references, decoded, average="mean").score == pytest.approx(0.5)


def test_empty_references_are_stated_not_hidden():
    corpus = error_rate(["", "abc"], ["xy", "abd"])
    assert (corpus.score, corpus.n, corpus.n_empty) == (pytest.approx(3 / 3), 2, 1)
    mean = error_rate(["", "abc"], ["xy", "abd"], average="mean")
    assert (mean.score, mean.n, mean.n_empty) == (pytest.approx(1 / 3), 1, 1)
    for average in ("corpus", "mean"):
        nothing = error_rate(["", ""], ["", "x"], average=average)
        assert np.isnan(nothing.score)
        assert nothing.n_empty == 2
    assert np.isnan(error_rate([], []).score)


def test_an_empty_text_misses_everything():
    assert error_rate(["abc"], [""]).score == 1


def test_unequal_numbers_are_refused():
    with pytest.raises(ValueError, match="2 references, but 1"):
        edit_counts(["a", "b"], ["a"])


def test_the_reference_numbers_of_random_and_constant_names():
    names = ["bottle", "cat", "chair", "face", "house", "scissors", "scrambledpix", "shoe"]
    errors, lengths = distance_table(names)
    assert errors.sum() / (8 * lengths.sum()) == pytest.approx(0.93, abs=0.005)
    assert errors.sum(axis=0).min() / lengths.sum() == pytest.approx(0.745, abs=0.001)
    assert (np.diag(errors) == 0).all()
