import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.errors import InputError
from decoders.stimuli.text import character_times, clean_word, n_letters, tokens_of, windows

HAS_WORD = st.text(min_size=1, max_size=80).filter(lambda text: re.search(r"[^\W_]", text))


@given(HAS_WORD)
def test_the_pieces_give_the_text_back(text):
    import unicodedata

    tokens = tokens_of(text)
    assert "".join(token.text for token in tokens) == " ".join(unicodedata.normalize("NFC", text).split())
    assert all(token.word and token.word == clean_word(token.word) for token in tokens)


def test_english_keeps_inner_apostrophes_and_carries_its_punctuation():
    tokens = tokens_of("“Where?” she said; it’s  the sister-in-law's,\nnot (mine).")
    assert [token.word for token in tokens] == [
        "where",
        "she",
        "said",
        "it's",
        "the",
        "sister",
        "in",
        "law's",
        "not",
        "mine",
    ]
    assert [token.text for token in tokens][:3] == ["“Where?” ", "she ", "said; "]
    assert tokens[-1].text == "(mine)."


def test_an_ideograph_is_a_word_and_an_opening_bracket_goes_with_what_follows():
    tokens = tokens_of("他说：“你好！”")
    assert [token.word for token in tokens] == list("他说你好")
    assert [token.text for token in tokens] == ["他", "说：", "“你", "好！”"]


def test_vowel_signs_belong_to_their_word():
    assert [token.word for token in tokens_of("हिन्दी भाषा")] == ["हिन्दी", "भाषा"]


@pytest.mark.parametrize(
    ("word", "letters"), [("a", 1), ("don't", 4), ("daisy", 5), ("钟", 3), ("3rd", 3), ("हिन्दी", 3)]
)
def test_number_of_letters(word, letters):
    assert n_letters(word) == letters


def test_a_text_without_letters_is_refused():
    with pytest.raises(InputError, match="expected a text with words"):
        tokens_of(" … 。 !")


@given(st.text(min_size=1, max_size=20), st.floats(0, 1e4), st.floats(0.01, 5))
def test_characters_share_the_duration_equally(text, onset, duration):
    rows = character_times(text, onset, duration)
    assert "".join(row[2] for row in rows) == text
    np.testing.assert_allclose(sum(row[1] for row in rows), duration)
    np.testing.assert_allclose(rows[-1][0] + rows[-1][1], onset + duration)


def test_windows_without_overlap_and_with_steps():
    # 14 windows of 20 s in a run of 300 s would need 280 s; here all that fit are given.
    assert len(windows(0, 300, 20)) == 15
    np.testing.assert_array_equal(windows(10, 31, 20, 1), [[10, 30], [11, 31]])
    assert windows(0, 5, 10).shape == (0, 2)
    # Stop reached exactly by a sum of decimals that floats cannot hold.
    assert len(windows(0, 0.3, 0.1)) == 3


@pytest.mark.parametrize(("length", "step"), [(0, 1), (1, 0), (-1, None)])
def test_windows_need_positive_lengths(length, step):
    with pytest.raises(ValueError, match="positive"):
        windows(0, 10, length, step)
