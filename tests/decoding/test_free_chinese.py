"""Free text in a script without spaces: the Chinese phantom, from its text to the rows of the table."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from decoders.config import PhantomSettings
from decoders.decoding.beam import SearchOptions
from decoders.decoding.bits_table import GAIN, bits_rows, measure_bits
from decoders.decoding.free_controls import MODEL, NOISE, Reader, decode_with_controls
from decoders.decoding.free_scores import window_rolls
from decoders.decoding.free_table import Compared, score_rows, shared_windows, text_rows
from decoders.decoding.free_text import Timing, fit_listener
from decoders.decoding.language_fit import LanguageOptions, fit_language
from decoders.decoding.lexicon import corpus_words, lexicon_units
from decoders.decoding.responses import WordVectors
from decoders.decoding.symbols import is_ideograph, plain_text, spelled, words_of
from decoders.decoding.text_extras import extra_rows, extra_scorers
from decoders.simulate.story import simulate_story_runs

N_VOLUMES = 60
ABOUT = {"subject": "01", "seed": 0, "task": "free_text"}


@pytest.fixture(scope="module")
def phantom():
    settings = PhantomSettings(grid=(8, 10, 8), r0=0.6, story_runs=5, text="embedded_zh", seed=100)
    made = simulate_story_runs(settings)
    # Half of each run is enough, and takes half the time.
    heard = [words.between(0.0, 2.0 * N_VOLUMES) for words in made.stories.words]
    heard = [replace(words, text=tuple(map(spelled, words.word))) for words in heard]
    return replace(made, x=made.x[:, :N_VOLUMES]), heard


@pytest.fixture(scope="module")
def reader(phantom):
    made, heard = phantom
    plain = "".join("".join(words.text) for words in heard[:4])
    options = LanguageOptions(n_units=16, n_layers=1, n_heads=2, window=8, length=32, batch_size=8, epochs=2)
    language = fit_language(plain, options, 0).language
    units = lexicon_units(corpus_words(plain, language.alphabet, max_words=300), language.alphabet)
    voxels = np.flatnonzero(made.brain.site >= 0)
    features = WordVectors(made.stories.embedding)
    listener = fit_listener(list(made.x[:4]), heard[:4], voxels, features, Timing(2.0), 4)
    return Reader(listener, language, units, SearchOptions(3, 15, 0.5))


@pytest.fixture(scope="module")
def told(phantom, reader):
    return decode_with_controls(reader, [phantom[0].x[4]], np.random.default_rng(0))


def test_every_ideograph_is_a_word_and_nothing_parts_them(phantom):
    _, heard = phantom
    text = "".join(heard[0].text)
    assert np.mean([is_ideograph(word) for word in heard[0].word]) > 0.95
    assert " " not in text.replace(" ", "", sum(not is_ideograph(word) for word in heard[0].word))
    assert plain_text(text) == text
    assert tuple(words_of(text)) == heard[0].word


def test_the_decoder_writes_ideographs_of_the_corpus(phantom, reader, told):
    written = told[0].texts[0]
    known = {word for words in phantom[1][:4] for word in words.word}
    assert set(written.word) <= known
    assert all(is_ideograph(word) for word in written.word)
    assert len(written) == pytest.approx(len(phantom[1][4]), rel=0.2)
    assert len(set(written.word)) > 20


def test_scores_are_those_of_characters(phantom, reader, told):
    heard = phantom[1][4:]
    windows = shared_windows([N_VOLUMES], 2.0, 20.0)
    rolls = window_rolls([len(windows)], 200, [0])
    compared = Compared(heard, WordVectors(phantom[0].stories.embedding, count=False), windows, 2.0, 1.0, rolls)
    rng = np.random.default_rng(0)
    rows = score_rows(told, compared, "01", 0, rng)
    rows += extra_rows(told, heard, windows, extra_scorers(heard, None, 9), ABOUT, rng)
    table = pd.DataFrame(rows).set_index(["model", "metric"])
    assert 0 < table.score[MODEL, "cer"] < 1.2
    assert 0 < table.score[MODEL, "bleu1"] < 1, "characters are its words"
    assert np.isnan(table.score[MODEL, "wer"])
    assert "without spaces" in table.method[MODEL, "wer"]
    assert table.score[MODEL, "percentile"] > table.score[NOISE, "percentile"]
    first = text_rows(told, compared, "01", ["05"])[0]
    assert " " not in first["decoded"]
    assert (
        first["reference"] == "".join(w for w, m in zip(heard[0].text, heard[0].middle, strict=True) if m < 20).strip()
    )


def test_bits_per_character_are_those_of_ideographs(phantom, reader):
    made, heard = phantom
    found = measure_bits(reader, list(made.x[:4]), heard[:4], [made.x[4]], heard[4:], {}, 20.0, 4)
    table = pd.DataFrame(bits_rows(found, ABOUT, 200, np.random.default_rng(0), [0])).set_index(["metric", "model"])
    assert found.characters[0].sum() == len("".join(heard[4].text))
    assert np.isfinite(table.score[GAIN, MODEL])
    assert (found.brain[0] > 0).all()
