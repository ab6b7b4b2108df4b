import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import make_first_level_design_matrix

from decoders.errors import InputError
from decoders.signal.events import Block, Events
from decoders.signal.filtering import clean_in_place, cosine_basis, nuisance_basis
from decoders.signal.glm import (
    apply_weights,
    block_weights,
    lsa_weights,
    lss_weights,
    residual,
    trial_events,
    trial_regressors,
)

TR, N = 2.0, 160
TIMES = np.arange(N) * TR


@pytest.fixture
def trials(rng):
    onsets = 6 + np.cumsum(np.full(24, 12.0)) + rng.uniform(-2, 2, 24) - 12
    return [Block("ab"[i % 2], float(onset), float(onset + 1.5)) for i, onset in enumerate(onsets)]


@pytest.fixture
def confounds(rng):
    return np.cumsum(rng.standard_normal((N, 3)), axis=0)


@pytest.fixture
def cleaned(trials, confounds, rng):
    """Data with planted betas, and the same after preprocessing without z-score."""
    betas = rng.standard_normal((24, 7))
    data = trial_regressors(trials, TIMES) @ betas * 10 + 400 + confounds @ rng.standard_normal((3, 7))
    data += cosine_basis(N, TR, 128.0) @ rng.standard_normal((4 + 1, 7)) * 20
    raw = (data + 0.02 * rng.standard_normal(data.shape)).astype(np.float32)
    basis = nuisance_basis(N, TR, 128.0, confounds)
    done = raw.copy()
    clean_in_place(done, basis, standardize=False)
    return betas * 10, raw, done, basis


def nilearn_design(trials, hrf, confounds):
    events = pd.DataFrame({
        "onset": [t.onset for t in trials], "duration": [t.end - t.onset for t in trials],
        "trial_type": [f"t{i:02d}" for i in range(len(trials))],
    })  # fmt: skip
    return make_first_level_design_matrix(
        TIMES, events, hrf_model=hrf, drift_model="cosine", high_pass=1 / 128, add_regs=confounds
    )


@pytest.mark.parametrize("hrf", ["spm", "glover"])
def test_regressors_are_those_of_nilearn(trials, hrf):
    theirs = nilearn_design(trials, hrf, None)[[f"t{i:02d}" for i in range(24)]].to_numpy()
    assert np.abs(trial_regressors(trials, TIMES, hrf) - theirs).max() < 1e-12


def test_lsa_on_cleaned_data_equals_the_full_model_on_raw_data(cleaned, trials, confounds):
    """Frisch-Waugh-Lovell, against numpy's least squares with nilearn's whole design."""
    _, raw, done, basis = cleaned
    design = nilearn_design(trials, "spm", confounds).to_numpy()
    full = np.linalg.lstsq(design, raw.astype(np.float64), rcond=None)[0][:24]
    ours = apply_weights(lsa_weights(trial_regressors(trials, TIMES), basis), done)
    assert np.abs(ours - full).max() < 2e-3 * np.abs(full).max()
    # The mutation: regressors that were not projected as the data were.
    wrong = apply_weights(np.linalg.pinv(trial_regressors(trials, TIMES)), done)
    assert np.abs(wrong - full).max() > 0.05 * np.abs(full).max()


@pytest.mark.filterwarnings("ignore:.*Generation of a mask")
def test_lsa_is_nilearns_first_level_model(cleaned, trials, confounds, tmp_path, save):
    import nibabel as nib
    from nilearn.glm.first_level import FirstLevelModel

    _, raw, done, basis = cleaned
    design = nilearn_design(trials, "spm", confounds)
    image = nib.Nifti1Image(raw.T.reshape(7, 1, 1, N), np.eye(4))
    mask = nib.Nifti1Image(np.ones((7, 1, 1), np.uint8), np.eye(4))
    model = FirstLevelModel(mask_img=mask, noise_model="ols", minimize_memory=False, signal_scaling=False)
    model.fit(image, design_matrices=design)
    theirs = model.compute_contrast(np.eye(design.shape[1])[5], output_type="effect_size")
    ours = apply_weights(lsa_weights(trial_regressors(trials, TIMES), basis), done)
    assert np.abs(ours[5] - np.asarray(theirs.dataobj).ravel()).max() < 0.02


def test_planted_betas_come_back(cleaned, trials):
    betas, _, done, basis = cleaned
    regressors = trial_regressors(trials, TIMES)
    assert np.corrcoef(apply_weights(lsa_weights(regressors, basis), done).ravel(), betas.ravel())[0, 1] > 0.99
    assert np.corrcoef(apply_weights(lss_weights(regressors, basis), done).ravel(), betas.ravel())[0, 1] > 0.9


def test_lss_equals_one_regression_per_trial(cleaned, trials, confounds):
    _, raw, done, basis = cleaned
    regressors = trial_regressors(trials, TIMES)
    ours = apply_weights(lss_weights(regressors, basis), done)
    drift = np.column_stack([np.ones(N), cosine_basis(N, TR, 128.0), confounds])
    for trial in (0, 11, 23):
        others = np.delete(regressors, trial, axis=1).sum(axis=1)
        design = np.column_stack([regressors[:, trial], others, drift])
        truth = np.linalg.lstsq(design, raw.astype(np.float64), rcond=None)[0][0]
        assert np.abs(ours[trial] - truth).max() < 2e-3 * np.abs(truth).max()


def test_one_trial_is_one_regression(trials):
    basis = nuisance_basis(N, TR, None)
    one = trial_regressors(trials[:1], TIMES)
    assert np.allclose(lss_weights(one, basis), lsa_weights(one, basis))


def test_trials_that_cannot_be_told_apart_are_refused(trials):
    basis = nuisance_basis(N, TR, 128.0)
    twice = trial_regressors([*trials, trials[3]], TIMES)
    with pytest.raises(InputError, match="25 trials in 160 volumes, of which 24"):
        lsa_weights(twice, basis, "events.tsv")
    with pytest.raises(InputError, match=r"trial 1 of 2 cannot be told.*|trial 1 of 2"):
        lss_weights(twice[:, [3, 24]], basis, "events.tsv")
    crowded = trial_regressors([Block("a", i * 0.5, i * 0.5) for i in range(300)], TIMES)
    with pytest.raises(InputError, match="lss"):
        lsa_weights(crowded, basis, "events.tsv")


def test_trials_before_the_first_kept_volume_have_their_response():
    late = trial_regressors([Block("a", 2.0, 40.0)], 60 + np.arange(20) * TR)
    whole = trial_regressors([Block("a", 2.0, 40.0)], np.arange(50) * TR)
    assert np.abs(late - whole[30:]).max() < 1e-3
    assert late.max() < 0.5


def test_block_means_and_their_lag(rng):
    data = rng.standard_normal((20, 3)).astype(np.float32)
    times = np.arange(20) * TR
    blocks = [Block("a", 4.0, 10.0), Block("b", 10.0, 14.0)]
    weights = block_weights(blocks, times, 0.0)
    assert np.allclose(apply_weights(weights, data)[0], data[2:5].mean(axis=0), atol=1e-6)
    later = apply_weights(block_weights(blocks, times, 4.0), data)
    assert np.allclose(later[1], data[7:9].mean(axis=0), atol=1e-6)
    # The mutation: the lag with the other sign.
    assert not np.allclose(later[1], data[3:5].mean(axis=0), atol=1e-3)
    with pytest.raises(InputError, match=r"'a' from 4 to 4\.5 s"):
        block_weights([Block("a", 4.0, 4.5)], times, 1.0)


def test_rest_is_no_trial():
    kinds = np.array(["rest", "a", ""], object)
    events = Events(np.arange(3.0), np.ones(3), kinds, True, "events.tsv")
    assert trial_events(events) == [Block("a", 1.0, 2.0)]
    with pytest.raises(InputError, match="trial_type"):
        trial_events(Events(np.zeros(1), np.ones(1), kinds[:1], True, "events.tsv"))


def test_residual_is_orthogonal(rng):
    basis = nuisance_basis(N, TR, 128.0)
    assert np.abs(basis.T @ residual(rng.standard_normal((N, 4)), basis)).max() < 1e-12
