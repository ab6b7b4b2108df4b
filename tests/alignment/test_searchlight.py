"""Spheres, RDMs and scores of the searchlight against rsatoolbox; each test fails under a named mutation."""

import contextlib
import io

import numpy as np
import pytest
from rsatoolbox.data import Dataset
from rsatoolbox.inference import eval_fixed
from rsatoolbox.model import ModelFixed
from rsatoolbox.rdm import calc_rdm
from rsatoolbox.util.searchlight import evaluate_models_searchlight, get_searchlight_RDMs, get_volume_searchlight
from scipy.stats import rankdata

from decoders.alignment import searchlight, spheres
from decoders.alignment.comparators import RSATOOLBOX_NAMES
from decoders.alignment.ranks import midranks
from decoders.alignment.regions import Trials
from decoders.alignment.searchlight import prepare_patterns, searchlight_scores, sphere_rdms
from decoders.alignment.spheres import Spheres, find_spheres, sphere_offsets
from decoders.errors import InputError

N = 8
NAMES = [f"c{i}" for i in range(N)]
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
RADIUS = 2.5


@pytest.fixture(scope="module")
def mask():
    """A ragged mask that stays away from the borders (rsatoolbox cuts spheres there before it takes their share)."""
    mask = np.zeros((11, 11, 11), dtype=bool)
    mask[3:8, 3:8, 3:8] = np.random.default_rng(0).random((5, 5, 5)) > 0.25
    return mask


@pytest.fixture(scope="module")
def trials(mask):
    """Three runs with each condition twice, with a mean that differs between voxels and conditions."""
    rng = np.random.default_rng(1)
    conditions = [*NAMES, *NAMES] * 3
    runs = [f"r{i}" for i in range(3) for _ in range(2 * N)]
    level = 5 * rng.standard_normal(mask.sum()) + np.tile(3 * rng.standard_normal(N), 6)[:, None]
    scale = rng.uniform(0.5, 2, mask.sum())
    signal = np.tile(rng.standard_normal((N, mask.sum())), (6, 1))
    noise = rng.standard_normal((6 * N, mask.sum()))
    return Trials((level + scale * (0.3 * signal + noise)).astype(np.float32), conditions, runs)


@pytest.fixture(scope="module")
def models():
    return np.random.default_rng(2).random((4, N * (N - 1) // 2))


def theirs(mask, threshold=0.0, truncate=True):
    with contextlib.redirect_stdout(io.StringIO()):
        return get_volume_searchlight(mask, radius=RADIUS, threshold=threshold, truncate_at_boundary=truncate)


def ours(mask, share=0.0):
    return find_spheres(mask, AFFINE, 2 * RADIUS, share)


def largest_difference(mask, trials, models, method="correlation", comparator="spearman"):
    """Return how far our scores lie from those of rsatoolbox, centre by centre."""
    found = ours(mask)
    patterns = prepare_patterns(trials, method, NAMES, "subject 01")
    scores = searchlight_scores(patterns, found, found.centres, models, comparator)
    centres, neighbours = theirs(mask)
    volume = np.zeros((len(trials.patterns), mask.size))
    volume[:, mask.ravel()] = trials.patterns
    events = np.array([NAMES.index(name) for name in trials.conditions])
    number = np.cumsum(mask.ravel()) - 1
    kept = [len(voxels) >= spheres.MIN_VOXELS for voxels in neighbours]
    assert np.array_equal(found.centres, number[centres[kept]])
    rdms = get_searchlight_RDMs(volume, centres, neighbours, events, method=method, verbose=False)
    fixed = [ModelFixed(f"m{i}", model) for i, model in enumerate(models)]
    name = RSATOOLBOX_NAMES.get(comparator, comparator)
    results = evaluate_models_searchlight(rdms, fixed, eval_fixed, method=name, n_jobs=1)
    expected = np.array([result.evaluations.ravel() for result in results])[kept]
    return np.abs(scores - expected).max()


@pytest.mark.parametrize("comparator", searchlight.COMPARATORS)
@pytest.mark.parametrize("method", ["correlation", "euclidean"])
def test_scores_are_those_of_rsatoolbox(mask, trials, models, method, comparator):
    assert largest_difference(mask, trials, models, method, comparator) < 1e-9


def _outside(self, centres):
    """Mutation: a neighbour outside of the mask is taken for the first voxel."""
    return np.maximum(self.lookup[self.places[centres][:, None] + self.steps], 0)


def _off_by_one(self, centres):
    """Mutation: the sphere of the next voxel."""
    return np.roll(Spheres.__dict__["_true_around"](self, centres), 1, axis=0)


@pytest.mark.parametrize("mutation", ["outside the mask", "order off by one", "mean not removed"])
def test_the_comparison_with_rsatoolbox_notices(mask, trials, models, monkeypatch, mutation):
    if mutation == "outside the mask":
        monkeypatch.setattr(Spheres, "sizes", lambda self, c: np.full(len(c), len(self.steps)))
        monkeypatch.setattr(Spheres, "_around", _outside)
    elif mutation == "order off by one":
        monkeypatch.setattr(Spheres, "_true_around", Spheres._around, raising=False)
        monkeypatch.setattr(Spheres, "_around", _off_by_one)
    else:
        monkeypatch.setattr(searchlight, "_gathered", _not_centred)
    with np.errstate(all="ignore"):
        try:
            difference = largest_difference(mask, trials, models)
        except AssertionError:
            difference = np.inf
    assert difference > 1e-3


def _not_centred(values, neighbours, method):
    stack = values[neighbours][:, :, 0]
    return stack / np.linalg.norm(stack, axis=1, keepdims=True), np.ones(len(stack), dtype=bool)


def crossnobis_difference(mask, trials):
    """Return how far our crossnobis lies from rsatoolbox with the precision of each voxel on the diagonal."""
    found = ours(mask)
    patterns = prepare_patterns(trials, "crossnobis", NAMES, "subject 01")
    cells = np.array([f"{c} {r}" for c, r in zip(trials.conditions, trials.runs, strict=True)])
    data = trials.patterns.astype(float)
    residuals = np.array([row - data[cells == cell].mean(axis=0) for row, cell in zip(data, cells, strict=True)])
    variance = (residuals**2).sum(axis=0) / (len(data) - len(set(cells)))
    worst = 0.0
    for rows, neighbours in found.batches(found.centres[::7], 200):
        rdms = sphere_rdms(patterns, neighbours)
        for row, voxels in zip(range(len(rows)), neighbours, strict=True):
            descriptors = {"c": [NAMES.index(c) for c in trials.conditions], "r": trials.runs}
            dataset = Dataset(data[:, voxels], obs_descriptors=descriptors)
            noise = np.diag(1 / variance[voxels])
            expected = calc_rdm(dataset, method="crossnobis", descriptor="c", cv_descriptor="r", noise=noise)
            worst = max(worst, np.abs(rdms[row] - expected.dissimilarities[0]).max())
    return worst


def test_crossnobis_is_that_of_rsatoolbox_with_each_voxels_noise(mask, trials):
    assert crossnobis_difference(mask, trials) < 1e-9
    # Runs of other lengths: the mean of the other runs is over their trials.
    keep = [i for i in range(len(trials.runs)) if i not in (3, 40)]
    patterns, conditions, runs = trials.patterns[keep], trials.conditions, trials.runs
    fewer = Trials(patterns, [conditions[i] for i in keep], [runs[i] for i in keep])
    assert crossnobis_difference(mask, fewer) < 1e-9


@pytest.mark.parametrize("mutation", ["noise left out", "run compared with itself"])
def test_the_comparison_of_crossnobis_notices(mask, trials, monkeypatch, mutation):
    if mutation == "noise left out":
        monkeypatch.setattr(searchlight, "_noise", lambda values, *_: np.ones(values.shape[1]))
    else:
        true = searchlight.sphere_rdms
        same = lambda p, n: true(searchlight.Patterns(p.method, p.first, p.first), n)  # noqa: E731
        monkeypatch.setitem(globals(), "sphere_rdms", same)
    assert crossnobis_difference(mask, trials) > 1e-3


def test_crossnobis_of_noise_is_zero_on_average(mask, trials):
    rng = np.random.default_rng(3)
    noise = Trials(rng.standard_normal(trials.patterns.shape), trials.conditions, trials.runs)
    found = ours(mask)
    patterns = prepare_patterns(noise, "crossnobis", NAMES, "x")
    rdms = np.concatenate([sphere_rdms(patterns, near) for _, near in found.batches(found.centres, 1000)])
    assert abs(rdms.mean()) < 0.05
    assert rdms.min() < 0 < rdms.max()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.65])
def test_centres_and_spheres_are_those_of_rsatoolbox(mask, share):
    found = ours(mask, share)
    number = np.cumsum(mask.ravel()) - 1
    # Without cutting at the mask, the share of the sphere is taken; with it, its voxels.
    all_centres, cut = theirs(mask)
    voxels = {int(number[c]): number[v] for c, v in zip(all_centres, cut, strict=True)}
    expected = [int(number[c]) for c in theirs(mask, share, False)[0] if len(voxels[int(number[c])]) >= 3]
    assert found.centres.tolist() == expected
    assert found.n_left_out == mask.sum() - len(expected)
    seen = {}
    for rows, near in found.batches(found.centres, 100):
        seen |= {int(found.centres[row]): voxels_ for row, voxels_ in zip(rows, near, strict=True)}
    assert sorted(seen) == expected
    assert all(np.array_equal(np.sort(voxels[c]), seen[c]) for c in expected)


def test_spheres_are_in_millimetres_on_any_grid():
    # Voxels of 1 x 2 x 4 mm, turned: counted voxel by voxel in a large block.
    angle = 0.4
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.0, 2.0, 4.0])
    steps = sphere_offsets(affine, 5.0)
    block = np.stack(np.meshgrid(*[np.arange(-8, 9)] * 3, indexing="ij"), -1).reshape(-1, 3)
    expected = block[np.linalg.norm(block * [1, 2, 4], axis=1) <= 5 + 1e-9]
    np.testing.assert_array_equal(steps, expected)


def test_a_radius_below_the_voxel_and_masks_without_centres_are_refused(mask):
    with pytest.raises(InputError, match=r"reaches the next voxel, found 1\.9 mm with voxels of 2 x 2 x 2 mm"):
        find_spheres(mask, AFFINE, 1.9, 0.5)
    with pytest.raises(InputError, match="enough of their sphere in the mask, found none among"):
        find_spheres(mask, AFFINE, 6.0, 1.0)
    lonely = np.zeros((9, 9, 9), dtype=bool)
    lonely[0, 0, 0] = lonely[8, 8, 8] = True
    with pytest.raises(InputError, match="largest in the mask: 1"):
        find_spheres(lonely, AFFINE, 4.0, 0.0)


def test_a_constant_pattern_and_values_that_are_not_finite_give_no_score(mask, trials, models):
    values = trials.patterns.copy()
    found = ours(mask)
    dead, broken = found.centres[len(found.centres) // 2], found.centres[0]
    near = next(n for rows, n in found.batches(np.array([dead]), 1000))[0]
    values[np.ix_([i for i, name in enumerate(trials.conditions) if name == "c3"], near)] = 0.1
    values[5, broken] = np.inf
    changed = Trials(values, trials.conditions, trials.runs)
    with np.errstate(invalid="ignore"):
        patterns = prepare_patterns(changed, "correlation", NAMES, "x")
        scores = searchlight_scores(patterns, found, found.centres, models, "spearman")
    holes = np.isnan(scores).any(axis=1)
    assert holes[found.centres == dead].all()
    assert holes[0]
    clean = searchlight_scores(
        prepare_patterns(trials, "correlation", NAMES, "x"), found, found.centres, models, "spearman"
    )
    assert np.isfinite(clean).all()
    # Only spheres that hold what was changed differ.
    touched = {*near.tolist(), int(broken)}
    for rows, voxels in found.batches(found.centres, 100):
        for row, some in zip(rows, voxels, strict=True):
            assert touched & set(some.tolist()) or np.array_equal(scores[row], clean[row])


def test_batches_do_not_change_a_score(mask, trials, models, monkeypatch):
    found, patterns = ours(mask), prepare_patterns(trials, "correlation", NAMES, "x")
    whole = searchlight_scores(patterns, found, found.centres, models, "spearman")
    monkeypatch.setattr(searchlight, "_BATCH_BYTES", 1)
    parts = [searchlight_scores(patterns, found, c, models, "spearman") for c in np.array_split(found.centres, 3)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-12)


def test_other_comparators_and_missing_conditions_are_refused(mask, trials, models):
    found, patterns = ours(mask), prepare_patterns(trials, "correlation", NAMES, "x")
    with pytest.raises(InputError, match="a comparator of spearman, rho_a, pearson, cosine, found 'tau_a'"):
        searchlight_scores(patterns, found, found.centres, models, "tau_a")
    with pytest.raises(InputError, match="trials of all 9 conditions, found none of other"):
        prepare_patterns(trials, "euclidean", [*NAMES, "other"], "x")
    with pytest.raises(InputError, match="a dissimilarity of correlation, euclidean, crossnobis, found 'mahalanobis'"):
        prepare_patterns(trials, "mahalanobis", NAMES, "x")
    one = Trials(trials.patterns[: 2 * N], trials.conditions[: 2 * N], trials.runs[: 2 * N])
    with pytest.raises(InputError, match="two or more runs for crossnobis, found 1"):
        prepare_patterns(one, "crossnobis", NAMES, "x")


def test_midranks_are_those_of_scipy():
    rng = np.random.default_rng(4)
    rdms = rng.random((6, 50))
    rdms[1], rdms[2], rdms[3, 7], rdms[4, 0] = np.round(rdms[1], 1), 1.0, np.nan, -np.inf
    np.testing.assert_array_equal(midranks(rdms), rankdata(rdms, axis=1))
