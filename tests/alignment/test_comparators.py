import numpy as np
import pytest
from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling
from rsatoolbox.rdm import RDMs
from rsatoolbox.rdm import compare as rsatoolbox_compare
from scipy import stats

from decoders.alignment.ceilings import noise_ceiling
from decoders.alignment.comparators import COMPARATORS, LINEAR, RSATOOLBOX_NAMES, compare, embed
from decoders.stats.permutation import permute_pairs

N_STIMULI = 12
N_PAIRS = 66


@pytest.fixture(params=["continuous", "tied"])
def rdms(request):
    rng = np.random.default_rng(0)
    values = rng.random((7, N_PAIRS)) + rng.random(N_PAIRS)
    return np.round(values * 4) / 4 if request.param == "tied" else values


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_equal_to_rsatoolbox(rdms, comparator):
    found = compare(rdms[:3], rdms[3:], comparator)
    expected = rsatoolbox_compare(RDMs(rdms[:3]), RDMs(rdms[3:]), method=RSATOOLBOX_NAMES.get(comparator, comparator))
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_equal_to_scipy(rdms):
    spearman, pearson = (compare(rdms[:1], rdms[1:2], name)[0, 0] for name in ("spearman", "pearson"))
    assert spearman == pytest.approx(stats.spearmanr(rdms[0], rdms[1]).statistic, abs=1e-12)
    assert pearson == pytest.approx(stats.pearsonr(rdms[0], rdms[1]).statistic, abs=1e-12)


def test_rho_a_is_the_mean_over_broken_ties():
    rng = np.random.default_rng(0)
    model, recorded = (rng.random(N_PAIRS) > 0.5).astype(float), rng.random(N_PAIRS)
    broken = [stats.spearmanr(model + 1e-6 * rng.random(N_PAIRS), recorded).statistic for _ in range(4000)]
    assert compare(model[None], recorded[None], "rho_a")[0, 0] == pytest.approx(np.mean(broken), abs=0.003)


@pytest.mark.parametrize("comparator", sorted(LINEAR))
def test_relabelling_relabels_the_embedding(rdms, comparator):
    order = np.random.default_rng(1).permutation(N_STIMULI)
    relabelled = np.array([permute_pairs(rdm, order) for rdm in rdms])
    embedded = embed(rdms, comparator)
    if embedded.shape[1] == N_PAIRS:
        expected = np.array([permute_pairs(row, order) for row in embedded])
    else:
        expected = embedded.reshape(-1, N_STIMULI, N_STIMULI)[:, order][:, :, order].reshape(len(rdms), -1)
    np.testing.assert_allclose(embed(relabelled, comparator), expected, atol=1e-12)


@pytest.mark.parametrize("comparator", ["spearman", "pearson", "corr_cov"])
def test_a_constant_rdm_has_no_score(rdms, comparator):
    assert np.isnan(compare(np.full((1, N_PAIRS), 0.3), rdms, comparator)).all()


def test_an_unknown_comparator_is_named():
    with pytest.raises(ValueError, match="'spaerman' is no comparator"):
        compare(np.ones((1, 3)), np.ones((1, 3)), "spaerman")


@pytest.mark.parametrize("comparator", COMPARATORS)
@pytest.mark.filterwarnings("ignore:Noise ceiling for tau")
def test_ceilings_equal_rsatoolbox(rdms, comparator):
    expected = boot_noise_ceiling(RDMs(rdms), method=RSATOOLBOX_NAMES.get(comparator, comparator))
    np.testing.assert_allclose(noise_ceiling(rdms, comparator), expected, atol=1e-8)


def test_the_ceiling_of_one_subject_is_unknown(rdms):
    assert np.isnan(noise_ceiling(rdms[:1], "spearman")).all()


def test_no_model_beats_the_upper_ceiling_of_cosine(rdms):
    high = noise_ceiling(rdms, "cosine")[1]
    models = np.random.default_rng(2).random((50, N_PAIRS)) + rdms.mean(axis=0)
    assert compare(models, rdms, "cosine").mean(axis=1).max() <= high + 1e-12
