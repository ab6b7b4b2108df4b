"""Windows told from made-up sensors: above all controls where words are carried, at chance where they are not."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_meg_story import SETTINGS, listened, truth

from decoders.decoding.identification import identify_runs, rank_true, sliding_windows, window_correlations
from decoders.decoding.meg_encoder import WindowEncoder, train_encoder
from decoders.decoding.meg_windows import ALL, ENCODER, RIDGE, noise_like, ridge_decode, window_rows
from decoders.decoding.refit import identification_scores
from decoders.errors import InputError
from decoders.stats.verdicts import CHANCE, decoding_verdicts

PLANTED = np.flatnonzero(truth()[0])
ABOUT = {"subject": "01", "seed": 0, "task": "window_3s", "split": "test_runs"}
CONTROLS = {"noise", "shuffled", "word_rate", "duration", "shifted", "other_subject"}


def rows_of(strength, chosen=PLANTED, others="nobody else", **changes):
    train, test = listened(strength=strength)
    settings = SETTINGS.model_copy(update=changes)
    found, decoded = window_rows(
        train, test, others, chosen, settings, ABOUT, 0, np.random.default_rng(0), range(len(test))
    )
    return pd.DataFrame(found), decoded


@pytest.fixture(scope="module")
def told():
    return rows_of(0.25)[0]


def score(rows, model, metric="percentile", of=None):
    own = rows[(rows["model"] == model) & (rows["metric"] == metric)]
    own = own[own["control_of"].isna()] if of is None else own[own["control_of"] == of]
    return own.iloc[0]


@pytest.mark.parametrize("model", [ENCODER, RIDGE, ALL])
def test_windows_are_told_well_above_what_hears_nothing(told, model):
    own = score(told, model)
    assert own["score"] > 0.9
    assert own["p"] <= 0.01
    assert score(told, model, "top1")["score"] > 0.3
    for control in ("noise", "shuffled", "shifted"):
        assert score(told, f"control:{control}", of=model)["ci_high"] < own["score"]
    assert set(told[told["control_of"] == model]["model"].str.removeprefix("control:")) == CONTROLS
    assert np.isnan(score(told, "control:other_subject", of=model)["score"])
    assert 0.3 < score(told, "control:position")["score"] < 0.7


def test_without_an_answer_windows_are_at_chance():
    """Of recordings that know nothing p is uniform: mean 1/2, and rarely small."""
    p, n = [], 16
    for k in range(n):
        train, test = listened(strength=0.0, seed=k)
        sensors = np.random.default_rng(k).choice(42, 12, replace=False)
        read, texts = ridge_decode(train, test, sensors, SETTINGS), [run.text for run in test]
        seeds = range(100 * k, 100 * k + len(test))
        scores, _ = identification_scores(read, texts, 75, np.random.default_rng(k), seeds, 60)
        p.append(scores["percentile"].p)
    assert abs(np.mean(p) - 0.5) < 3 * np.sqrt(1 / 12 / n)
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)


def test_no_sensor_is_a_result():
    rows, decoded = rows_of(0.25, np.zeros(0, dtype=np.int64))
    for model in (ENCODER, RIDGE):
        absent = score(rows, model)
        assert np.isnan(absent["score"])
        assert "no sensor lies above the null gates" in absent["method"]
    assert list(decoded) == [ALL]
    verdicts = decoding_verdicts(rows.assign(modality="meg"), 0.05).set_index("analysis")["verdict"]
    assert verdicts[f"meg window_3s: {ENCODER}, percentile, split test_runs, seed 0"] == CHANCE


def test_another_subject_is_read_by_the_decoder_of_this_one():
    _, test = listened(strength=0.25)
    # A stranger with the same sensors answers as this one: what is read of it is the same, and so is its score.
    rows, _ = rows_of(0.25, others=test, encoder_epochs=2)
    own, other = score(rows, RIDGE), score(rows, "control:other_subject", of=RIDGE)
    assert other["score"] == pytest.approx(own["score"])


def test_the_encoder_reads_the_answer_to_a_moment_and_nothing_else():
    torch.manual_seed(0)
    network = WindowEncoder(3, 4, 8, factor=2, response=15).eval()
    x = torch.randn(1, 3, 120)
    found = network(x)
    assert found.shape == (1, 60 - 15, 4)
    for sample, reached in ((10, range(0, 6)), (60, range(15, 31))):
        moved = x.clone()
        moved[..., sample] += 10
        changed = (network(moved) - found).abs().sum((0, 2)) > 1e-6
        assert np.flatnonzero(changed.numpy()).tolist() == list(reached), "samples before or after would leak in"


def test_equal_seeds_train_equal_encoders():
    train, test = listened(strength=0.25)
    short = SETTINGS.model_copy(update={"encoder_epochs": 2})
    one, other, third = (train_encoder(train, PLANTED, short, seed).predict(test)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, third)


def test_an_encoder_whose_loss_is_not_finite_is_refused():
    train, _ = listened(strength=0.25)
    broken = [dataclasses.replace(run, fast=np.full_like(run.fast, np.inf)) for run in train]
    with pytest.raises(InputError, match="a finite loss of the encoder"):
        train_encoder(broken, PLANTED, SETTINGS, 0)


def test_noise_has_the_covariance_and_the_autocorrelation_of_the_sensors():
    train, test = listened(strength=0.25)
    found = noise_like(test[0], train, np.random.default_rng(0))
    x = np.concatenate([run.fast for run in train])
    assert found.fast.shape == test[0].fast.shape
    assert found.slow.shape == test[0].slow.shape
    off = ~np.eye(x.shape[1], dtype=bool)
    assert np.corrcoef(np.corrcoef(found.fast.T)[off], np.corrcoef(x.T)[off])[0, 1] > 0.9
    along = [(f[1:] * f[:-1]).mean() / (f**2).mean() for f in (found.fast, x)]
    assert along[0] == pytest.approx(along[1], abs=0.05)
    assert abs(np.corrcoef(found.fast.ravel(), test[0].fast.ravel())[0, 1]) < 0.02


def test_pairing_by_order_and_windows_that_overlap_are_noticed():
    rng = np.random.default_rng(0)
    measured, text = rng.standard_normal((400, 2)), rng.standard_normal((400, 2))
    # Mutation: windows are paired with themselves, not with the text.
    assert identify_runs([measured], [text], 20).percentile.mean() < 0.7
    assert identify_runs([measured], [measured], 20).percentile.mean() == 1.0
    # Mutation: neighbours that share samples stand among the candidates and crowd the best places.
    near = text + 2.0 * measured
    apart = identify_runs([text], [near], 20).within(3).mean()
    sliding = rank_true(window_correlations(sliding_windows(text, 20, 1), sliding_windows(near, 20, 1)))
    assert sliding.within(3).mean() < apart - 0.1


def test_ranks_within_k_count_what_stands_before():
    similarity = np.array([[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.7, 0.6, 0.5]])
    found = rank_true(similarity)
    assert [found.within(k).tolist() for k in (1, 2, 3)] == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert found.n_candidates.tolist() == [3, 3, 3]
