"""Word vectors learnt from the corpus: what they are made of, and that held-out stories are no part of it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from made_up_listener import language

from decoders.config import FreeTextSettings, VoxelMapSettings, parse_settings
from decoders.decoding import learnt_vectors
from decoders.decoding.learnt_vectors import learnt_embedding
from decoders.decoding.splits_free_text import declare_free_text, language_corpus
from decoders.decoding.splits_voxels import declare_voxels
from decoders.decoding.symbols import words_of
from decoders.errors import SettingsError
from decoders.stage import SettingsSlice, run_stage
from decoders.stats.declared import write_declaration
from decoders.stats.findings import Material
from decoders.stats.leaks import audit
from decoders.stimuli.embedding import cooccurrence_embedding, read_embedding
from decoders.stimuli.timings import words_table
from decoders.store.atomic import sha256_of
from decoders.store.tables import write_table
from tests.decoding.test_free_stage import STORIES, timed

RUNS = [timed(number) for number in range(1, 6)]
LEARNT = VoxelMapSettings(test_runs=1, features="language_model")


def documents(seed=0, n=2):
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abc"), rng.integers(1, 5))) for _ in range(60)]
    return ["".join(f"{word} " for word in rng.choice(words, 300)) for _ in range(n)]


def by_hand(texts, n_words):
    """The mean state after each of the commonest words, one text after the other, read from its beginning."""
    import torch

    states, model = {}, language()
    for text in texts:
        symbols = torch.from_numpy(model.alphabet.encode(" " + text))
        with torch.no_grad():
            stream = model.model.states(symbols[None])[0].double().numpy()
        place = 0
        for word in words_of(text):
            place += len(word) + 1
            states.setdefault(word, []).append(stream[place])
    common = sorted(states, key=lambda word: (-len(states[word]), word))[:n_words]
    return {word: np.mean(states[word], axis=0) for word in common}, {word: len(states[word]) for word in common}


def geometry(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def check(embedding, dimensions=6):
    means, counts = by_hand(documents(), 40)
    assert list(embedding.words) == list(means)
    frequency = np.array([counts[word] for word in means], dtype=np.float64)
    matrix = np.stack(list(means.values()))
    matrix = matrix - frequency @ matrix / frequency.sum()
    left, singular, _ = np.linalg.svd(matrix, full_matrices=False)
    expected = left[:, :dimensions] * np.sqrt(singular[:dimensions])
    expected = expected - frequency @ expected / frequency.sum()
    expected = expected / expected.std(0)
    np.testing.assert_allclose(geometry(embedding.vectors), geometry(expected), atol=2e-4)


def test_vectors_of_the_language_model_are_mean_states_after_words():
    check(learnt_embedding("language_model", documents(), language(), 6, 40))


def test_a_named_bug_states_of_the_word_before_are_noticed(monkeypatch):
    original = learnt_vectors.word_states
    monkeypatch.setattr(learnt_vectors, "word_states", lambda model, words: np.roll(original(model, words), 1, axis=0))
    with pytest.raises(AssertionError):
        check(learnt_embedding("language_model", documents(), language(), 6, 40))


def test_co_occurrence_does_not_cross_documents():
    texts = documents()
    found = learnt_embedding("cooccurrence", texts, language(), 6, 40)
    np.testing.assert_array_equal(found.vectors, cooccurrence_embedding(list(map(words_of, texts)), 6, 40).vectors)
    joined = cooccurrence_embedding([words_of("".join(texts))], 6, 40)
    assert not np.array_equal(found.vectors, joined.vectors)


def test_learnt_vectors_stand_in_the_audit_with_the_corpus_they_come_from():
    settings = FreeTextSettings(corpus=("book",))
    declaration = declare_free_text(RUNS, LEARNT, settings, sorted(STORIES), ("s5",))
    corpus = language_corpus(declaration)
    embedding = declaration.splits[0].corpora[0]
    assert (embedding.kind, embedding.stimuli, embedding.sources) == ("embedding", corpus.stimuli, ("book",))
    for text, expected in ((("a", "b"), set()), (STORIES["s5"].word, {"corpus"})):
        material = Material(STORIES, source=lambda name, text=text: {"book": text})
        voxels = declare_voxels(RUNS, LEARNT, sorted(STORIES), dataclasses.replace(corpus, kind="embedding"))
        assert {f.check for f in audit([voxels], material) if f.passed == "no"} == expected


def test_without_a_corpus_nothing_can_be_learnt():
    values = {"study": "x", "data": {"source": "bids", "root": "."}, "preprocess": {}}
    with pytest.raises(SettingsError, match="learnt from the corpus of 'free_text': give that block too"):
        parse_settings({**values, "decoding": {"voxels": {"features": "language_model"}}})
    with pytest.raises(ValueError, match="the corpus from which the features"):
        declare_voxels(RUNS, LEARNT, sorted(STORIES))


def test_the_stage_writes_vectors_of_words_that_no_held_out_story_is_part_of(tmp_path):
    declaration = declare_free_text(RUNS, LEARNT, FreeTextSettings(), sorted(STORIES), ("s5",))
    write_declaration(tmp_path / "splits.json", declaration)
    row = {"analysis": "free_text", "check": "run", "passed": "yes", "declaration": sha256_of(tmp_path / "splits.json")}
    rows = [{**row, "split": split.name, "found": "", "needed": "", "detail": ""} for split in declaration.splits]
    write_table(tmp_path / "leaks.tsv", pd.DataFrame(rows), "leaks")
    stories = {**STORIES, "s5": dataclasses.replace(STORIES["s5"], word=("unheard",) * len(STORIES["s5"]))}
    table = pd.concat([words_table(words).assign(stimulus=name) for name, words in stories.items()])
    write_table(tmp_path / "words.tsv", table)
    voxels = {"test_runs": 1, "features": "language_model"}
    decoding = {"voxels": voxels, "free_text": {"epochs": 1, "max_words": 20}}
    data = {"source": "bids", "root": "."}
    study = parse_settings({"study": "x", "data": data, "preprocess": {}, "decoding": decoding})
    ends = (("splits", "json"), ("leaks", "tsv"), ("words", "tsv"))
    inputs = {name: [tmp_path / f"{name}.{end}"] for name, end in ends}
    outputs = {"weights": tmp_path / "lm.safetensors", "vectors": tmp_path / "vectors.tsv"}
    run_stage(SettingsSlice.of("language", study), inputs, outputs)
    found = read_embedding(outputs["vectors"])
    assert found.vectors.shape[1] == 24
    assert set(found.words) == {word for name in ("s1", "s2", "s3", "s4") for word in STORIES[name].word}
