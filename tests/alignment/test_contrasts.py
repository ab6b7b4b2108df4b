import numpy as np
import pytest

from decoders.alignment.contrasts import (
    Model,
    Scores,
    contrast,
    draw_all,
    evaluate,
    method_sentence,
    region_contrast,
)
from decoders.stats.resampling import draw_counts

B = 400


def crossed_scores(rng, n_stimuli=24, n_subjects=10, n_seeds=3, sds=(1.0, 1.0, 1.0, 3.0), n_resamples=B):
    """Return scores that are means over stimuli of crossed effects (stimulus, subject, seed, interaction)."""
    stimulus, subject, seed, interaction = sds
    values = stimulus * rng.standard_normal((n_stimuli, 1, 1)) + subject * rng.standard_normal((1, 1, n_subjects))
    values = values + seed * rng.standard_normal((1, n_seeds, 1))
    values = values + interaction * rng.standard_normal((n_stimuli, n_seeds, n_subjects))
    counts = draw_counts(n_stimuli, n_resamples, rng)
    subjects, seeds = draw_all(n_subjects, range(2, n_seeds + 1), n_resamples, rng)
    resampled = np.einsum("bi,iks->bks", counts / n_stimuli, values)
    return Scores(values.mean(axis=0), resampled, n_stimuli, subjects, seeds)


@pytest.mark.parametrize("n_seeds", [1, 6])
def test_the_variance_is_that_of_repeated_experiments(n_seeds):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(150):
        scores = crossed_scores(rng, n_seeds=n_seeds)
        found.append(evaluate(scores, "a", "", scores.full, scores.resampled))
    true = 1 / 24 + 1 / 10 + (1 / 6 if n_seeds > 1 else 1) + 9 / (24 * 10 * n_seeds)
    # A single seed is a constant of the experiment, not a sample.
    true -= 1 if n_seeds == 1 else 0
    estimates = np.array([item.estimate for item in found])
    assert np.mean([item.variance for item in found]) == pytest.approx(true, rel=0.15)
    # Mutation: the joint draws as they are.
    assert np.mean([item.draws.var() for item in found]) > 1.2 * true if n_seeds == 1 else True
    assert estimates.var() == pytest.approx(true + (1 if n_seeds == 1 else 0), rel=0.35)


def test_df_lies_between_those_of_the_smallest_factor_and_of_all():
    scores = crossed_scores(np.random.default_rng(0))
    found = evaluate(scores, "a", "", scores.full, scores.resampled)
    assert 2 <= found.df <= 2 + 9 + 23
    assert found.n_seeds == 3
    single = evaluate(scores, "a", "", scores.full[:1], scores.resampled[:, :1])
    assert 9 <= single.df <= 9 + 23
    assert single.n_seeds == 1


def test_df_is_that_of_the_only_factor_that_varies():
    scores = crossed_scores(np.random.default_rng(0))
    # The seeds' own means, the same for all subjects and stimulus samples.
    seeds = np.array([0.1, 0.5, 0.9])
    full = np.repeat(seeds[:, None], scores.full.shape[1], axis=1)
    found = evaluate(scores, "a", "", full, np.repeat(full[None], len(scores.resampled), axis=0))
    assert found.df == pytest.approx(2.0)


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    scores = crossed_scores(rng, n_seeds=1)
    shifted = Scores(
        np.vstack([scores.full, scores.full - 0.3]),
        np.concatenate([scores.resampled, scores.resampled - 0.3], axis=1),
        24,
        scores.subject_counts,
    )
    found = contrast(shifted, Model("a", {"": 0}), Model("b", {"": 1}))
    assert found.name == "a - b"
    assert found.estimate == pytest.approx(0.3)
    assert found.variance == pytest.approx(0, abs=1e-12)


def test_seeds_are_paired_by_their_name():
    scores = crossed_scores(np.random.default_rng(0))
    first, second = Model("a", {"0": 0, "7": 1}), Model("b", {"7": 2, "9": 0})
    assert contrast(scores, first, second).estimate == pytest.approx((scores.full[1] - scores.full[2]).mean())
    assert contrast(scores, first, second).n_seeds == 1
    assert contrast(scores, Model("a", {"0": 0}), Model("b", {"1": 1})) is None
    assert contrast(scores, first, Model("c", {"": 2})).n_seeds == 2


def test_regions_are_paired_within_subject():
    scores = crossed_scores(np.random.default_rng(0), n_seeds=1)
    other = Scores(scores.full - 0.1, scores.resampled - 0.1, 24, scores.subject_counts)
    found = region_contrast(scores, other, Model("a", {"": 0}), "IT")
    assert found.estimate == pytest.approx(0.1)
    assert found.variance == pytest.approx(0, abs=1e-12)


def test_one_subject_and_few_stimuli_are_said():
    rng = np.random.default_rng(0)
    one = crossed_scores(rng, n_subjects=1, n_seeds=1)
    found = evaluate(one, "a", "", one.full, one.resampled)
    sentence = method_sentence(one, [found], "spearman", B)
    assert "bootstrap over stimuli (400)" in sentence
    assert "one subject: no inference beyond this subject" in sentence
    assert found.df == 23

    few = Scores(np.ones((1, 5)) * np.arange(5), None, 8, draw_all(5, [], B, rng)[0])
    found = evaluate(few, "a", "", few.full, None)
    sentence = method_sentence(few, [found], "spearman", B)
    assert "bootstrap over subjects (400)" in sentence
    assert "stimuli not resampled (8, fewer than 10)" in sentence
    assert found.variance == pytest.approx(np.arange(5).var(ddof=1) / 5, rel=0.2)

    neither = Scores(np.ones((1, 1)), None, 8, None)
    found = evaluate(neither, "a", "", neither.full, None)
    assert np.isnan(found.variance)
    assert "no factor to resample, no test" in method_sentence(neither, [found], "spearman", B)


def test_resamples_without_variation_are_counted():
    scores = crossed_scores(np.random.default_rng(0), n_seeds=1)
    scores.resampled[:5] = np.nan
    found = evaluate(scores, "a", "", scores.full, scores.resampled)
    assert found.n_lost == 5
    assert np.isfinite(found.variance)
    assert "up to 5 resamples" in method_sentence(scores, [found], "spearman", B)
