import numpy as np
import pytest

from decoders.errors import InputError
from decoders.stimuli import hrf
from decoders.stimuli.embedding import Embedding, cooccurrence_embedding, read_embedding, trigram_embedding
from decoders.stimuli.features import (
    feature_matrix,
    phantom_features,
    read_series,
    speech_seconds,
    target_features,
    zscore_runs,
)
from decoders.stimuli.hrf import convolve_events, double_gamma, sum_events
from decoders.stimuli.timings import Words
from decoders.store.tables import write_table

TIMES = 2.0 * np.arange(30)
WORDS = Words(np.array([0.1, 1.9, 4.0]), np.array([0.4, 0.4, 1.0]), ("one", "two", "one"), ("one ", "two ", "one "))
EMBEDDING = Embedding(("one", "two"), np.array([[1.0, 0.0], [0.0, 2.0]]))


def test_the_response_is_a_difference_of_gamma_densities():
    from scipy.stats import gamma

    t = np.arange(321) / 10
    expected = gamma.pdf(t, 6) - gamma.pdf(t, 16) / 6
    np.testing.assert_allclose(double_gamma(), expected / expected.sum(), atol=1e-12)
    assert double_gamma().sum() == pytest.approx(1)
    assert t[double_gamma().argmax()] == 5.0


def _dense(seconds, values, times):
    """Return the same by numpy's own convolution on a grid from -40 s on."""
    grid = np.zeros((round((times[-1] + 40) * 10) + 1, values.shape[1]))
    for second, value in zip(seconds, values, strict=True):
        if second <= times[-1]:
            grid[int(np.floor((second + 40) * 10 + 1e-6))] += value
    series = np.column_stack([np.convolve(column, double_gamma())[: len(grid)] for column in grid.T])
    return series[np.rint((times + 40) * 10).astype(int)]


def test_convolution_equals_a_dense_one_also_when_the_run_starts_late():
    rng = np.random.default_rng(0)
    seconds, values = np.sort(rng.uniform(-30, 80, 200)), rng.standard_normal((200, 3))
    for times in (TIMES, 20 + TIMES, 1.5 * np.arange(20)):
        np.testing.assert_allclose(convolve_events(seconds, values, times), _dense(seconds, values, times), atol=1e-12)


def test_a_wrong_response_is_noticed(monkeypatch):
    # The mutation: without the undershoot the comparison with the closed form must fail.
    monkeypatch.setattr(hrf, "double_gamma", lambda rate_hz=10: _positive(double_gamma()))
    values = np.ones((1, 1))
    assert not np.allclose(hrf.convolve_events(np.zeros(1), values, TIMES), _dense([0.0], values, TIMES), atol=1e-6)


def _positive(response):
    return np.maximum(response, 0) / np.maximum(response, 0).sum()


def test_sums_fall_into_the_volume_of_the_middle():
    # Middles .3, 2.1 and 4.5 s.
    np.testing.assert_array_equal(sum_events(WORDS.middle, np.ones((3, 1)), TIMES, 2.0)[:4, 0], [1, 1, 1, 0])
    np.testing.assert_array_equal(sum_events(np.array([-0.1, 59.9, 60.0]), np.ones((3, 1)), TIMES, 2.0).sum(), 1)
    # 3 * .1 is more than .3: a boundary must not depend on it.
    assert sum_events(np.array([0.3]), np.ones((1, 1)), 0.1 * np.arange(5), 0.1)[3, 0] == 1


def test_speech_seconds_are_the_overlap():
    seconds = speech_seconds(WORDS, TIMES, 2.0)
    np.testing.assert_allclose(seconds[:3], [0.5, 0.3, 1.0])
    assert seconds.sum() == pytest.approx(WORDS.duration.sum())


def test_feature_matrix_has_a_column_per_feature():
    names = ("word_rate", "speech_seconds", "sound_power", "position", "letters", "embedding")
    power = np.arange(30.0)
    features, columns = feature_matrix(names, WORDS, TIMES, 2.0, embedding=EMBEDDING, sound_power=power)
    assert columns == [*names[:-1], "embedding_00", "embedding_01"]
    assert features.shape == (30, 7)
    np.testing.assert_allclose(
        features[:3], [[1, 0.5, 0, 0, 3, 1, 0], [1, features[1, 1], 1, 1 / 29, 3, 0, 2], [1, 1, 2, 2 / 29, 3, 1, 0]]
    )
    with_hrf, _ = feature_matrix(names, WORDS, TIMES, 2.0, hrf=True, embedding=EMBEDDING, sound_power=power)
    np.testing.assert_allclose(with_hrf[:, [0, 5, 6]], phantom_features(WORDS, EMBEDDING, TIMES))
    np.testing.assert_array_equal(with_hrf[:, 2], power)
    # All of the speech has passed through the response after 38 s.
    np.testing.assert_allclose(with_hrf[:, 1].sum() * 20, WORDS.duration.sum(), rtol=0.02)


def test_features_of_a_late_recording_are_those_of_a_whole_one():
    late = feature_matrix(("word_rate", "speech_seconds"), WORDS, TIMES[5:], 2.0, hrf=True)[0]
    whole = feature_matrix(("word_rate", "speech_seconds"), WORDS, TIMES, 2.0, hrf=True)[0]
    np.testing.assert_allclose(late, whole[5:], atol=1e-12)


def test_targets_are_word_vectors_without_the_response():
    np.testing.assert_array_equal(target_features(WORDS, EMBEDDING, TIMES, 2.0)[:4], [[1, 0], [0, 2], [1, 0], [0, 0]])


def test_zscoring_is_over_all_runs():
    runs = [np.array([[0.0, 7], [2, 7]]), np.array([[4.0, 7], [6, 7]])]
    z = np.concatenate(zscore_runs(runs))
    np.testing.assert_allclose(z.mean(axis=0), 0)
    np.testing.assert_allclose(z[:, 0].std(), 1)
    np.testing.assert_array_equal(z[:, 1], 0)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("rate", "found 'rate'"), ("embedding", "word vectors for"), ("sound_power", "the sound power")],
)
def test_missing_inputs_are_sentences(name, sentence):
    with pytest.raises(InputError, match=sentence):
        feature_matrix((name,), WORDS, TIMES, 2.0)


def test_series_are_checked(tmp_path):
    path = tmp_path / "power.txt"
    path.write_text("1\n2\n3\n")
    np.testing.assert_array_equal(read_series(path, 3), [1, 2, 3])
    with pytest.raises(InputError, match="expected 4 rows"):
        read_series(path, 4)
    path.write_text("1\nnan\n3\n")
    with pytest.raises(InputError, match="finite"):
        read_series(path, 3)
    path.write_text("1\nx\n3\n")
    with pytest.raises(InputError, match="one number per volume"):
        read_series(path, 3)


def _corpus(rng, n=6000):
    """Two topics of 20 words each, and 5 words that go with either."""
    topics = rng.integers(2, size=n // 20)
    return [f"t{topic}w{i}" if i < 20 else f"common{i}" for topic in topics for i in rng.integers(25, size=20)]


def test_cooccurrence_vectors_tell_topics_apart():
    words = _corpus(np.random.default_rng(1))
    embedding = cooccurrence_embedding([words], dimensions=4)
    np.testing.assert_allclose(np.linalg.norm(embedding.vectors, axis=1), 1, atol=1e-5)
    first, second = ([f"t{topic}w{i}" for i in range(20)] for topic in range(2))
    a, b = embedding.lookup(first), embedding.lookup(second)
    within, across = ((a @ a.T).sum() - 20) / 380, (a @ b.T).mean()
    assert within > across + 0.5


def test_cooccurrence_against_counts_by_hand():
    from decoders.stimuli.embedding import _cooccurrence, _ppmi

    words = ["a", "b", "c", "a", "b", "d", "a", "e", "a", "b"]
    vocabulary = ["a", "b", "c", "d"]
    counts = np.zeros((4, 4))
    for i, left in enumerate(words):
        for j, right in enumerate(words):
            if i != j and abs(i - j) <= 5 and left in vocabulary and right in vocabulary:
                counts[vocabulary.index(left), vocabulary.index(right)] += 1
    np.testing.assert_array_equal(_cooccurrence([words], vocabulary), counts)
    # Windows stay within a document.
    assert _cooccurrence([["a"], ["b"]], vocabulary).sum() == 0
    p = counts / counts.sum()
    context = counts.sum(0) ** 0.75
    with np.errstate(divide="ignore"):
        expected = np.maximum(np.log(p / (p.sum(1)[:, None] * (context / context.sum())[None])), 0)
    np.testing.assert_allclose(_ppmi(counts), expected)


def test_embeddings_repeat_and_do_not_depend_on_the_order_of_documents():
    rng = np.random.default_rng(2)
    one, two = _corpus(rng), _corpus(rng)
    first, second = cooccurrence_embedding([one, two], 6), cooccurrence_embedding([two, one], 6)
    assert first.words == second.words
    np.testing.assert_allclose(first.vectors, second.vectors, atol=1e-5)
    np.testing.assert_array_equal(first.vectors, cooccurrence_embedding([one, two], 6).vectors)


def test_trigram_vectors_know_spelling():
    stems = ["walk", "jump", "climb", "paint", "garden", "whistle", "number", "river", "window", "bottle"]
    words = [stem + ending for stem in stems for ending in ("", "s", "ing", "ed")] + ["a", "钟"]
    embedding = trigram_embedding(words, 12)
    similarity = embedding.vectors @ embedding.vectors.T
    of_stem = [next((i for i, stem in enumerate(stems) if word.startswith(stem)), -1) for word in embedding.words]
    same = np.equal.outer(of_stem, of_stem) & ~np.eye(len(of_stem), dtype=bool)
    assert similarity[same].mean() > similarity[~same & ~np.eye(len(of_stem), dtype=bool)].mean() + 0.5


def test_unknown_words_are_zero_and_tables_are_read_back(tmp_path):
    np.testing.assert_array_equal(EMBEDDING.lookup(["three", "two"]), [[0, 0], [0, 2]])
    embedding = trigram_embedding([*_corpus(np.random.default_rng(0), 400), "null", "na", "12"], 5)
    write_table(tmp_path / "e.tsv", embedding.table())
    back = read_embedding(tmp_path / "e.tsv")
    assert back.words == embedding.words
    np.testing.assert_array_equal(back.vectors, embedding.vectors)


def test_a_corpus_too_small_is_refused():
    with pytest.raises(InputError, match="more than 24 different words"):
        cooccurrence_embedding([["a", "b"]])
