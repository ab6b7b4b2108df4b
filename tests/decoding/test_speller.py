"""The speller: probabilities over the trie, spelling, training on planted patterns, determinism."""

import numpy as np
import pytest
import torch

from decoders.decoding import speller_fit
from decoders.decoding.speller import Speller
from decoders.decoding.speller_fit import SpellerOptions, answers, cross_fitted_gate, fit_speller
from decoders.decoding.trie import END, build_trie
from decoders.errors import InputError

NAMES = ("cat", "chair", "cats", "face", "house")


def model(seed=0, names=NAMES, mask=12):
    torch.manual_seed(seed)
    return Speller(mask, build_trie(names), "linear", 0, n_brain=8).eval()


def planted(n=200, shape=(6, 5, 2), seed=0, names=3, signal=1.0):
    rng = np.random.default_rng(seed)
    mask = np.ones(shape, dtype=bool)
    centres = np.zeros((names, mask.size))
    for name in range(names):
        centres[name, 10 * name : 10 * name + 10] = signal  # the last voxels say nothing
    labels = np.arange(n) % names
    x = centres[labels] + rng.standard_normal((n, mask.size))
    return (x / x.std()).astype(np.float32), labels, mask


def test_probabilities_of_all_names_sum_to_one():
    speller = model()
    scores = speller.score_names(torch.randn(7, 8, generator=torch.Generator().manual_seed(1)))
    assert scores.shape == (7, 5)
    assert torch.logsumexp(scores, dim=1).detach().numpy() == pytest.approx(0, abs=1e-5)


def test_without_the_mask_they_would_not():
    """Mutation: without the trie's mask some probability falls on texts that are no names."""
    speller = model()
    speller.allowed.fill_(True)
    scores = speller.score_names(torch.zeros(1, 8))
    assert torch.logsumexp(scores, dim=1).item() < -0.1


def test_log_probability_is_the_chain_of_its_characters():
    speller, brain = model(), torch.randn(1, 8, generator=torch.Generator().manual_seed(2))
    trie, total, state, symbol, node = speller.trie, 0.0, None, END, 0
    for target in trie.targets[1][trie.targets[1] >= 0]:
        logits, state = speller.decoder(brain, torch.tensor([[symbol]]), state)
        allowed = torch.from_numpy(trie.next_node[node] >= 0)
        total += torch.log_softmax(logits[0, 0].masked_fill(~allowed, -torch.inf), 0)[target].item()
        symbol, node = int(target), trie.next_node[node, target]
    assert speller.score_names(brain)[0, 1].item() == pytest.approx(total, abs=1e-5)


def test_everything_spelled_is_a_name_and_likely_names_are_spelled():
    speller = model()
    speller.decoder.readout.weight.data *= 8
    brain = torch.randn(50, 8, generator=torch.Generator().manual_seed(3)) * 3
    spelled = speller.spell(brain)
    assert set(spelled) <= set(NAMES)
    best = [NAMES[i] for i in speller.score_names(brain).argmax(1)]
    assert np.mean([a == b for a, b in zip(spelled, best, strict=True)]) > 0.7


def test_groups_add_their_log_probabilities():
    speller = model()
    brain = torch.randn(6, 8, generator=torch.Generator().manual_seed(4)) * 3
    alone = speller.spell(brain)
    # A group of copies spells what one copy spells, groups come in ascending order.
    copies = brain.repeat_interleave(3, dim=0)
    groups = np.repeat([50, 40, 30, 20, 10, 5], 3)
    assert speller.spell(copies, groups) == alone[::-1]


@pytest.mark.parametrize("head", ["linear", "patchify", "k7"])
def test_it_learns_planted_patterns_and_finds_their_voxels(head):
    x, labels, mask = planted()
    x_test, truth, _ = planted(seed=1)
    options = SpellerOptions(epochs=30, head=head, bottleneck=0.01, sigma_voxels=0.6)
    speller = fit_speller(x, labels, mask, build_trie(NAMES[:3]), options, 0)
    scores, texts, pooled = answers(speller, x_test, truth)
    assert np.mean(scores.argmax(1) == truth) > 0.8
    assert np.mean([NAMES[t] == text for t, text in zip(truth, texts, strict=True)]) > 0.75
    assert pooled == list(NAMES[:3])
    m = speller.gate.m().detach().numpy()
    assert m[:30].mean() > m[30:].mean() + 0.03


def test_a_stronger_bottleneck_passes_less():
    x, labels, mask = planted()
    nats = []
    for weight in (0.0, 0.1):
        options = SpellerOptions(epochs=4, head="linear", bottleneck=weight)
        nats.append(fit_speller(x, labels, mask, build_trie(NAMES[:3]), options, 0).gate.information_bound().item())
    assert nats[1] < 0.7 * nats[0]


def test_same_seed_same_bits_and_the_global_generator_is_left_alone():
    x, labels, mask = planted(60)
    options, trie = SpellerOptions(epochs=2), build_trie(NAMES[:3])
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = fit_speller(x, labels, mask, trie, options, 7)
    assert torch.rand(1) == expected
    second = fit_speller(x, labels, mask, trie, options, 7)
    other = fit_speller(x, labels, mask, trie, options, 8)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.gate.theta, other.gate.theta)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_the_training(value):
    x, labels, mask = planted(n=60)
    x[3, 5] = value
    with pytest.raises(InputError, match="a finite loss of the speller"):
        fit_speller(x, labels, mask, build_trie(("a", "b", "c")), SpellerOptions(epochs=1, head="linear"), 0)


# ---- the cross-fitted gate ------------------------------------------------------------------------------------------

GATE = SpellerOptions(head="linear", epochs=25, n_brain=16, folds=2, bottleneck=2e-3)


def of_runs(signal=0.9, seed=0):
    """Six runs; the first 30 of 60 voxels tell the names apart."""
    x, labels, mask = planted(n=240, seed=seed, signal=signal)
    return x, labels, mask, np.repeat(np.arange(6), 40)


def margin(options, seed=0):
    """How far the gates of told voxels stand above the others, by the labels and by shuffled ones."""
    x, labels, mask, runs = of_runs(seed=seed)
    shuffled = np.random.default_rng(seed).permutation(labels)
    found = []
    for truth in (labels, shuffled):
        m = cross_fitted_gate(x, truth, mask, build_trie(("a", "b", "c")), options, 1, runs).m().detach().numpy()
        found.append((m[:30].mean() - m[30:].mean(), m.mean()))
    return found


def test_a_cross_fitted_gate_opens_where_names_are_told_and_closes_without_them():
    (told, openness), (nothing, shut) = margin(GATE)
    assert told > 0.15
    assert abs(nothing) < 0.1
    assert shut < openness


def test_a_named_bug_a_gate_that_learns_from_the_same_runs_stays_open_to_shuffled_names(monkeypatch):
    shut = margin(GATE)[1][1]
    original = speller_fit._surprise

    def same_runs(speller, x, names, rows, generator):
        return original(speller, x, names, torch.arange(len(x)), generator)

    monkeypatch.setattr(speller_fit, "_surprise", same_runs)
    assert margin(GATE)[1][1] > shut + 0.05


def test_the_speller_is_trained_behind_the_gate_and_leaves_it_as_it_is():
    x, labels, mask, runs = of_runs()
    trie = build_trie(("a", "b", "c"))
    gate = cross_fitted_gate(x, labels, mask, trie, GATE, 1, runs)
    speller = fit_speller(x, labels, mask, trie, GATE, 1, runs)
    assert torch.equal(speller.gate.theta, gate.theta)
    scores = answers(speller, x, np.arange(len(x)))[0]
    assert (scores.argmax(1) == labels).mean() > 0.8


def test_a_gate_cannot_be_cross_fitted_on_one_run():
    x, labels, mask, runs = of_runs()
    with pytest.raises(InputError, match="two training runs or more to cross-fit the gate"):
        fit_speller(x, labels, mask, build_trie(("a", "b", "c")), GATE, 1, np.zeros_like(runs))
