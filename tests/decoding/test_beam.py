"""Beam search against exhaustive search, planted texts and rescoring; checks fail for named, deliberate bugs."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from decoders.decoding import beam as beam_module
from decoders.decoding.beam import SearchOptions, search
from decoders.decoding.language import CharacterModel, Language
from decoders.decoding.lexicon import BestBelow, corpus_words, lexicon_units, open_units
from decoders.decoding.likelihood import whiten
from decoders.decoding.responses import BrainScores, WordVectors, expected_word, response_kernel
from decoders.decoding.spelling import Spelling
from decoders.decoding.symbols import Alphabet, spelled
from decoders.errors import InputError
from decoders.stimuli.embedding import Embedding

WORDS = ("a", "ab", "abba", "b", "ba", "bab", "cab", "cc")
TR = 2.0
EXHAUSTIVE = SearchOptions(width=1000, prefixes=10_000, max_characters=6)


def language(characters="\ufffd abc", scale=1.0, seed=0):
    """An untrained model whose distributions are far from uniform."""
    torch.manual_seed(seed)
    model = CharacterModel(len(characters), n_units=8, n_layers=2, n_heads=2, window=6, dropout=0.0).double().eval()
    model.readout[1].weight.data *= scale
    return Language(model, Alphabet(characters))


def vectors_of(words, n=6, seed=5):
    return WordVectors(Embedding(tuple(words), np.random.default_rng(seed).standard_normal((len(words), n))))


def brain_of(words, features, noise=0.0, seed=2, n_voxels=12, gap=1.3):
    """A run in which words were heard one after the other, and its scores."""
    rng = np.random.default_rng(seed)
    seconds = 1.0 + gap * np.arange(len(words))
    times = TR * np.arange(int((seconds[-1] + 20) // TR))
    kernel = response_kernel(seconds, times, TR)
    vectors = features.vectors(words)
    weights = rng.standard_normal((vectors.shape[1], n_voxels))
    rows = np.einsum("dtw,wf->tdf", kernel, vectors).reshape(len(times), -1) @ weights
    rows = rows + noise * rng.standard_normal(rows.shape)
    found = whiten(rows, weights, np.zeros(n_voxels), max(1e-3, noise) ** 2 * (np.eye(n_voxels) + 1))
    return BrainScores(found, kernel, expected_word(features, sorted(features.embedding.words)))


def drawn(n, seed=0, words=WORDS):
    return [str(word) for word in np.random.default_rng(seed).choice(words, n)]


# ---- the planted text -----------------------------------------------------------------------------------------------


def check_planted(options):
    spoken, lang, features = drawn(25), language(), vectors_of(WORDS)
    units = lexicon_units(WORDS, lang.alphabet)
    found = search(lang.model, lang.alphabet, units, 25, options, brain_of(spoken, features), features)
    assert list(found[0].words) == spoken


def test_a_noise_free_brain_gives_the_exact_text():
    check_planted(SearchOptions(width=100))


def test_without_the_brain_the_text_is_another():
    """Mutation: the brain has no weight."""
    with pytest.raises(AssertionError):
        check_planted(SearchOptions(width=100, brain_weight=0.0))


# ---- the language model alone ---------------------------------------------------------------------------------------


def exhaustive(lang, words, n):
    """Return log P of every text of n words, best first."""
    texts = ["".join(map(spelled, choice)) for choice in product(words, repeat=n)]
    scored = [(float(lang.log_probabilities(" " + text).sum()), text) for text in texts]
    return sorted(scored, reverse=True)


def check_language_alone(options=EXHAUSTIVE):
    lang = language(scale=4.0)
    options = replace(options, brain_weight=0.0)
    words = ["".join(letters) for n in (1, 2) for letters in product("abc", repeat=n)]
    for units, vocabulary in ((lexicon_units(WORDS, lang.alphabet), WORDS), (open_units(lang.alphabet), words)):
        allowed = replace(options, max_characters=3) if vocabulary is words else options
        found = search(lang.model, lang.alphabet, units, 2, allowed)
        best = exhaustive(lang, vocabulary, 2)
        assert len(found) == len(best)
        assert ["".join(map(spelled, h.words)) for h in found[:20]] == [text for _, text in best[:20]]
        assert [h.score for h in found] == pytest.approx([score for score, _ in best], abs=1e-10)


def test_a_brain_weight_of_zero_is_exhaustive_search_of_the_language_model():
    check_language_alone()


def test_the_search_fails_without_the_boundary_in_the_score(monkeypatch):
    """Mutation: the end of a word costs nothing, so words of any length are alike."""
    find = Spelling.find

    def free_ends(self, *args):
        found = find(self, *args)
        return replace(found, language=found.language + 1.0 * (found.letters[:, -1] < 0))

    monkeypatch.setattr(Spelling, "find", free_ends)
    with pytest.raises(AssertionError):
        check_language_alone()


def test_a_narrow_search_of_the_language_model_is_no_better():
    lang = language(scale=4.0)
    units = lexicon_units(WORDS, lang.alphabet)
    scores = [
        search(lang.model, lang.alphabet, units, 4, SearchOptions(width=width, prefixes=prefixes, brain_weight=0))[0]
        for width, prefixes in ((1, 8), (8, 40), (4096, 40_000))
    ]
    assert scores[0].score <= scores[1].score <= scores[2].score


# ---- accumulation ---------------------------------------------------------------------------------------------------


def from_scratch(lang, features, brain, words, options):
    """Return language and brain scores of a text, each from the whole text at once."""
    plain = "".join(map(spelled, words))
    state, gain = brain.start(), 0.0
    vectors = torch.from_numpy(features.vectors(words))
    for n, vector in enumerate(vectors):
        gain += float(brain.gains(state, n, vector[None])[0])
        state = brain.advance(state, n, vector[None])
    spoken = float(lang.log_probabilities(" " + plain).sum())
    return spoken, gain, options.language_weight * spoken + options.brain_weight * gain


def check_accumulated():
    lang, features, spoken = language(scale=2.0), vectors_of(WORDS), drawn(8)
    brain = brain_of(spoken, features, noise=0.05)
    options = SearchOptions(width=20, prefixes=300, language_weight=1.7, brain_weight=0.6)
    for units in (lexicon_units(WORDS, lang.alphabet), open_units(lang.alphabet)):
        found = search(lang.model, lang.alphabet, units, 8, options, brain, features)
        assert len(found) == 20
        assert len({hypothesis.words for hypothesis in found}) == 20
        assert all(a.score >= b.score for a, b in pairwise(found))
        for hypothesis in found:
            expected = from_scratch(lang, features, brain, hypothesis.words, options)
            assert (hypothesis.language, hypothesis.brain, hypothesis.score) == pytest.approx(expected, abs=1e-8)


def test_accumulated_scores_equal_rescoring_the_text():
    check_accumulated()


def forgetful(part):
    def extend(self, beam, word):
        return original(self, replace(beam, **{part: torch.zeros_like(getattr(beam, part))}), word)

    original = beam_module._Step.extend
    return extend


@pytest.mark.parametrize("part", ["language", "brain"])
def test_rescoring_fails_where_scores_are_not_accumulated(part, monkeypatch):
    """Mutation: each word is scored on its own."""
    monkeypatch.setattr(beam_module._Step, "extend", forgetful(part))
    with pytest.raises(AssertionError):
        check_accumulated()


def plain_beam(lang, features, brain, n, options):
    """Score every word for every hypothesis, and keep the best: the search without its shortcuts."""
    vectors = torch.from_numpy(features.vectors(WORDS))
    beam = [((), 0.0, brain.start())]
    for step in range(n):
        grown = []
        for words, gained, state in beam:
            ranks = brain.form(state, step).all_pairs(vectors)[0].tolist()
            for index, (word, rank) in enumerate(zip(WORDS, ranks, strict=True)):
                text = "".join(map(spelled, (*words, word)))
                spoken = options.language_weight * float(lang.log_probabilities(" " + text).sum())
                total = spoken + options.brain_weight * (gained + rank)
                gain = gained + float(brain.gains(state, step, vectors[index][None])[0])
                score = spoken + options.brain_weight * gain
                after = brain.advance(state, step, vectors[index][None])
                grown.append((total, (*words, word), gain, after, score))
        grown.sort(key=lambda row: -row[0])
        beam = [(words, gain, state) for _, words, gain, state, _ in grown[: options.width]]
    return sorted(((row[1], row[4]) for row in grown[: options.width]), key=lambda row: -row[1])


def check_pruning():
    lang, features, spoken = language(scale=3.0), vectors_of(WORDS), drawn(6, seed=3)
    brain = brain_of(spoken, features, noise=0.05)
    options = SearchOptions(width=5, prefixes=1000, brain_weight=0.3)
    found = search(lang.model, lang.alphabet, lexicon_units(WORDS, lang.alphabet), 6, options, brain, features)
    expected = plain_beam(lang, features, brain, 6, options)
    assert [hypothesis.words for hypothesis in found] == [words for words, _ in expected]
    assert [hypothesis.score for hypothesis in found] == pytest.approx([score for _, score in expected], abs=1e-8)


def test_what_is_pruned_within_words_could_not_have_entered_the_beam():
    check_pruning()


def test_the_best_word_below_every_node_is_found():
    units = lexicon_units(WORDS, language().alphabet)
    gains = torch.randn(3, len(WORDS), generator=torch.Generator().manual_seed(0))
    best = BestBelow(units, gains)
    texts = {0: ""}
    for node, row in enumerate(units.next_node):
        texts |= {int(after): texts[node] + "\ufffd abc"[symbol] for symbol, after in enumerate(row) if after >= 0}
    for node, text in texts.items():
        below = [n for n, word in enumerate(units.words) if spelled(word).startswith(text)]
        found = best(torch.arange(3), torch.full((3,), node))
        assert torch.equal(found, gains[:, below].max(1).values)


def test_pruning_fails_where_prefixes_do_not_know_their_best_word(monkeypatch):
    """Mutation: a prefix is bounded by the worst of its words."""

    def worst_below(self, units, gains):
        built(self, units, -gains)
        self._table.neg_()

    built = BestBelow.__init__
    monkeypatch.setattr(BestBelow, "__init__", worst_below)
    with pytest.raises(AssertionError):
        check_pruning()


# ---- the rest -------------------------------------------------------------------------------------------------------


def test_equal_input_gives_equal_output():
    lang, features = language(), vectors_of(WORDS)
    brain = brain_of(drawn(6), features, noise=0.1)
    units = open_units(lang.alphabet)
    first, second = (
        search(lang.model, lang.alphabet, units, 6, SearchOptions(width=9), brain, features) for _ in range(2)
    )
    assert first == second


def test_ideographs_are_words_of_one_character():
    lang = language("\ufffd 你好世ok")
    for units in (open_units(lang.alphabet), lexicon_units(["你", "好", "世", "ok"], lang.alphabet)):
        options = replace(EXHAUSTIVE, brain_weight=0.0, max_characters=3)
        found = search(lang.model, lang.alphabet, units, 2, options)
        assert {len(word) for hypothesis in found for word in hypothesis.words} <= {1, 2}
        for hypothesis in found[:10]:
            text = "".join(map(spelled, hypothesis.words))
            assert hypothesis.score == pytest.approx(float(lang.log_probabilities(" " + text).sum()), abs=1e-10)
    features = vectors_of(["你", "好", "世", "ok"])
    brain = brain_of(["你", "ok", "好", "你"], features)
    found = search(lang.model, lang.alphabet, units, 4, SearchOptions(width=300), brain, features)
    assert found[0].words == ("你", "ok", "好", "你")


def test_least_risk_takes_the_text_that_agrees_with_the_others():
    texts = [("a", "b", "c"), ("k", "l", "m"), ("a", "b", "z"), ("x", "b", "c")]
    scored = [beam_module.Hypothesis(words, 0, 0, -0.1 * abs(i - 1)) for i, words in enumerate(texts)]
    chosen = beam_module._least_risk(scored)
    assert chosen[0].words == ("a", "b", "c")
    assert {hypothesis.words for hypothesis in chosen} == set(texts)


def test_a_shuffled_brain_is_searched_like_any_other():
    lang, features, spoken = language(), vectors_of(WORDS), drawn(12)
    units = lexicon_units(WORDS, lang.alphabet)
    other = brain_of(drawn(12, seed=9), features)
    found = search(lang.model, lang.alphabet, units, 12, SearchOptions(width=50), other, features)[0]
    assert list(found.words) == drawn(12, seed=9)
    assert list(found.words) != spoken


def test_words_of_a_corpus():
    alphabet = Alphabet("\ufffd abc")
    assert corpus_words("a b a cab dog cab a ", alphabet) == ["a", "b", "cab"]
    assert corpus_words("a b a cab dog cab a ", alphabet, min_count=2) == ["a", "cab"]
    assert corpus_words("a b a cab dog cab a ", alphabet, max_words=1) == ["a"]


def test_errors_say_what_to_do():
    lang, features = language(), vectors_of(WORDS)
    units = lexicon_units(WORDS, lang.alphabet)
    with pytest.raises(InputError, match="at least one word time"):
        search(lang.model, lang.alphabet, units, 0, SearchOptions())
    with pytest.raises(InputError, match="no features"):
        search(lang.model, lang.alphabet, units, 2, SearchOptions(), brain_of(["a", "b"], features))
    with pytest.raises(InputError, match="same word times"):
        search(lang.model, lang.alphabet, units, 3, SearchOptions(), brain_of(["a", "b"], features), features)
    with pytest.raises(InputError, match="Give a space"):
        search(lang.model, lang.alphabet, units, 3, SearchOptions(), prompt="")
    with pytest.raises(InputError, match="Raise max_characters"):
        search(lang.model, lang.alphabet, lexicon_units(["abba"], lang.alphabet), 1, SearchOptions(max_characters=3))
    with pytest.raises(InputError, match="words with 'dgo'"):
        lexicon_units(["dog"], lang.alphabet)
    with pytest.raises(InputError, match="no words"):
        lexicon_units([], lang.alphabet)
