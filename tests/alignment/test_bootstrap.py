import numpy as np
import pytest
from rsatoolbox.rdm import RDMs
from rsatoolbox.rdm import compare as rsatoolbox_compare
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from decoders.alignment import resampled
from decoders.alignment.bootstrap import resampled_scores, scores_and_parts
from decoders.alignment.comparators import COMPARATORS, RSATOOLBOX_NAMES
from decoders.alignment.partial import partition
from decoders.alignment.ranks import PairOrder, RankedRDMs
from decoders.stats.resampling import draw_counts

N_STIMULI = 14
ROWS, COLUMNS = np.triu_indices(N_STIMULI, 1)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    recorded = rng.random((4, len(ROWS)))
    models = rng.random((3, len(ROWS))) + recorded.mean(axis=0)
    labels = rng.integers(0, 3, N_STIMULI)
    category = (labels[ROWS] != labels[COLUMNS]).astype(float)
    return np.vstack([models, np.round(models[:1] * 3), category]), recorded, draw_counts(N_STIMULI, 12, rng)


def naive(models, recorded, count, comparator, keep_copies=False):
    """Build the resampled RDMs, drop the pairs of copies, and compare by rsatoolbox."""
    drawn = np.repeat(np.arange(N_STIMULI), count)
    rows, columns = np.triu_indices(len(drawn), 1)
    expanded = [np.array([squareform(rdm)[drawn[rows], drawn[columns]] for rdm in rdms]) for rdms in (models, recorded)]
    if not keep_copies:
        for rdms in expanded:
            rdms[:, drawn[rows] == drawn[columns]] = np.nan
    return rsatoolbox_compare(*(RDMs(rdms) for rdms in expanded), method=RSATOOLBOX_NAMES.get(comparator, comparator))


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_equal_to_the_naive_loop(data, comparator):
    models, recorded, counts = data
    found = resampled_scores(models, recorded, counts, comparator)
    expected = [naive(models, recorded, count, comparator) for count in counts]
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_mutation_copies_kept(data):
    models, recorded, counts = data
    found = resampled_scores(models, recorded, counts, "spearman")
    kept = np.array([naive(models, recorded, count, "spearman", keep_copies=True) for count in counts])
    assert np.abs(found - kept).max() > 0.05
    # Zeros that every RDM shares raise the scores.
    assert (kept - found)[:, :3].mean() > 0.02


def test_weighted_ranks_equal_ranks_of_copies(data):
    models, _, counts = data
    weights = counts[:, ROWS] * counts[:, COLUMNS]
    centred = RankedRDMs(models).centred(weights)
    assert centred.shape == (len(counts), len(models), len(ROWS))
    for times, drawn in zip(weights, centred, strict=True):
        for rdm, ranks in zip(models, drawn, strict=True):
            copies = np.repeat(rdm, times)
            expected = dict(zip(copies, rankdata(copies), strict=True))
            pairs = np.flatnonzero(times)
            doubled = ranks[pairs] + times.sum() + 1
            np.testing.assert_array_equal(doubled / 2, [expected[value] for value in rdm[pairs]])


def test_mutation_no_mid_ranks(data, monkeypatch):
    models, recorded, counts = data
    expected = resampled_scores(models, recorded, counts, "spearman")

    def last_of_ties(self, weights):
        sums = np.cumsum(weights[:, self.order], axis=1)
        return 2 * sums[:, np.argsort(self.order)]

    monkeypatch.setattr(PairOrder, "doubled_ranks", last_of_ties)
    assert np.abs(resampled_scores(models, recorded, counts, "spearman") - expected).max() > 0.01


@pytest.mark.parametrize(("size", "value"), [("_NUMBERS_AT_ONCE", 1000), ("_RDMS_AT_ONCE", 2)])
def test_chunks_do_not_change_a_bit(data, monkeypatch, size, value):
    models, recorded, counts = data
    expected = resampled_scores(models, recorded, counts, "spearman")
    monkeypatch.setattr(resampled, size, value)
    np.testing.assert_array_equal(resampled_scores(models, recorded, counts, "spearman"), expected)


def test_a_resample_without_variation_is_missing():
    models = np.zeros((1, len(ROWS)))
    models[0, -1] = 1.0
    count = np.zeros((1, N_STIMULI), dtype=int)
    count[0, :7] = 2
    recorded = np.random.default_rng(0).random((2, len(ROWS)))
    assert np.isnan(resampled_scores(models, recorded, count, "spearman")).all()


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_scores_and_parts_together_are_those_of_either(data, comparator):
    models, recorded, counts = data
    controls = models[2:4]
    scores, parts = scores_and_parts(models, controls, recorded, counts, comparator)
    np.testing.assert_array_equal(scores, resampled_scores(models, recorded, counts, comparator))
    apart = partition(models, controls, recorded, counts, comparator)
    for name in ("partial", "unique", "shared"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(apart, name))


def test_large_weights_are_ranked_in_64_bits(data):
    models, _, counts = data
    weights = counts[:2, ROWS] * counts[:2, COLUMNS]
    small = RankedRDMs(models).centred(weights)
    np.testing.assert_array_equal(RankedRDMs(models).centred(weights * 2**25), small * 2**25)
