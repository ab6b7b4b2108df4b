"""Fusion and commonality against regression by numpy, planted courses, and data without any relation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import binom, kstest, rankdata

from decoders.alignment.contrasts import Scores, contrast
from decoders.alignment.fusion import null as null_module
from decoders.alignment.fusion.clusters import fusion_clusters
from decoders.alignment.fusion.null import (
    fusion_p,
    observed_statistics,
    over_window,
    relabelled_statistics,
    shared_p,
)
from decoders.alignment.fusion.pairing import Paired, SensorRDMs
from decoders.alignment.fusion.prepared import Resampler, Study, choose_models
from decoders.alignment.fusion.resampled import resample
from decoders.alignment.fusion.shared import commonality
from decoders.alignment.fusion.stage import Options, fuse
from decoders.alignment.inference import Plan
from decoders.alignment.models import ModelRow, Models
from decoders.errors import SettingsError
from decoders.stats.permutation import label_permutations, permute_pairs
from decoders.stats.resampling import draw_counts, t_interval

N = 14
ROWS, COLUMNS = np.triu_indices(N, 1)


def geometry(rng, n=N, spread=0.0):
    """Return distances of random patterns, in standard scores; with a spread some stimuli lie far from all others."""
    values = pdist(rng.standard_normal((n, 5)) * np.exp(spread * rng.standard_normal((n, 1))), "sqeuclidean")
    return (values - values.mean()) / values.std()


def made_up(rng, meg, regions, rows, comparator="spearman"):
    n = int((1 + np.sqrt(1 + 8 * meg.shape[2])) / 2)
    sensor = SensorRDMs([f"{i:02d}" for i in range(len(meg))], np.arange(meg.shape[1]) / 100, [f"s{i}" for i in range(n)], meg)  # fmt: skip
    pairs = [Paired(name, np.arange(len(meg)), rdms) for name, rdms in regions.items()]
    return Study(sensor, pairs, Models(rows), comparator)


def network(rdm, rule, seed="0"):
    return ModelRow("network", rule, rdm, "cnn3", seed, "fc1", "32")


@pytest.fixture
def related():
    """Three people, two times, two regions; a control, a network of three seeds, a user's model; all related."""
    rng = np.random.default_rng(0)
    base = rng.random((3, len(ROWS)))
    near = lambda *shape: base.mean(0) + 0.3 * rng.random((*shape, len(ROWS)))  # noqa: E731
    rows = [ModelRow("control", "control:pixel", base[0]), ModelRow("control", "control:hog", near())]
    rows += [network(near(), "backprop", str(seed)) for seed in range(3)] + [ModelRow("user", "user:own", near())]
    return lambda comparator="spearman": made_up(rng, near(3, 2), {"early": near(3), "late": near(3)}, rows, comparator)


def r2(target, *predictors):
    stacked = np.vstack(predictors)
    fitted = stacked.T @ np.linalg.lstsq(stacked.T, target, rcond=None)[0]
    return 1 - ((target - fitted) ** 2).sum() / (target**2).sum()


def by_regression(study, count, bug=""):
    """Return commonality and commonality beyond the controls, (region, person, time, row), by least squares."""
    times = (np.minimum(count, 1) if bug == "copies count once" else count).astype(int)
    times = times[ROWS] * times[COLUMNS]

    def vectors(rdm):
        values = np.repeat(rdm, times)
        if study.comparator == "spearman" and bug != "no ranks":
            values = rankdata(values)
        return values if study.comparator == "cosine" else values - values.mean()

    models = [vectors(rdm) for rdm in study.rows.vectors]
    held = models[: study.n_controls]
    shape = (len(study.pairs), *study.sensor.rdms.shape[:2], len(models))
    plain, beyond = np.empty(shape), np.full(shape, np.nan)
    for r, person, time, row in np.ndindex(shape):
        y, f, m = vectors(study.sensor.rdms[person, time]), vectors(study.pairs[r].reference[person]), models[row]
        if bug == "the model is taken out of MEG":
            y, f = f, y
        plain[r, person, time, row] = r2(y, f) + r2(y, m) - r2(y, f, m)
        if row >= study.n_controls:
            both = r2(y, f, *held) + r2(y, m, *held) - r2(y, *held) - r2(y, f, m, *held)
            beyond[r, person, time, row] = both
    return plain, beyond


def check_regression(study, bug=""):
    for count in (np.ones(N, dtype=int), *draw_counts(N, 2, np.random.default_rng(1))):
        prepared = Resampler(study).prepare(count)
        found = prepared.relations()
        beyond = prepared.beyond(found)
        plain, left = by_regression(study, count, bug)
        for r in range(len(study.pairs)):
            np.testing.assert_allclose(prepared.shared(found, r), plain[r], atol=1e-10)
            free = slice(study.n_controls, None)
            np.testing.assert_allclose(prepared.shared(beyond, r)[..., free], left[r][..., free], atol=1e-9)
            # No share exceeds what fMRI or the model explain at all.
            assert (prepared.shared(found, r) <= found.fusion[r][:, :, None] ** 2 + 1e-12).all()
            assert (prepared.shared(found, r) <= found.sensors**2 + 1e-12).all()


@pytest.mark.parametrize("comparator", ["spearman", "pearson", "cosine"])
def test_commonality_equals_regression_in_every_resample(related, comparator):
    check_regression(related(comparator))


@pytest.mark.parametrize("bug", ["copies count once", "no ranks", "the model is taken out of MEG"])
def test_mutations_of_the_regression_fail(related, bug):
    with pytest.raises(AssertionError):
        check_regression(related(), bug)


def test_a_copy_of_fmri_explains_all_of_the_fusion():
    assert commonality(np.array(0.4), np.array(0.4), np.array(1.0)) == pytest.approx(0.16)
    assert commonality(np.array(0.4), np.array(0.5), np.array(0.0)) == 0
    assert commonality(np.array(0.4), np.array(0.0), np.array(0.5)) < 0


def relabelled_by_hand(study, order, bug=""):
    """Return the statistics under one relabelling, from RDMs that are relabelled themselves."""
    order = np.argsort(order) if bug == "inverse order" else order
    moved = Models([replace(row, rdm=permute_pairs(row.rdm, order)) for row in study.rows.rows])
    models = observed_statistics(Resampler(replace(study, rows=moved)).prepare(), study.averaging)
    pairs = [replace(p, reference=np.array([permute_pairs(x, order) for x in p.reference])) for p in study.pairs]
    return models, observed_statistics(Resampler(replace(study, pairs=pairs)).prepare(), study.averaging)


@pytest.mark.parametrize("bug", ["", "inverse order"])
def test_relabelling_equals_relabelled_rdms(related, bug):
    study = related()
    orders = label_permutations(N, 3, np.random.default_rng(2))
    found = relabelled_statistics(Resampler(study).prepare(), study.averaging, orders)

    def check():
        for number, order in enumerate(orders):
            models, fmri = relabelled_by_hand(study, order, bug)
            np.testing.assert_allclose(found.fusion[number], fmri.fusion, atol=1e-12)
            np.testing.assert_allclose(found.sensors[number], models.sensors, atol=1e-12)
            np.testing.assert_allclose(found.regions[number], models.regions, atol=1e-12)
            np.testing.assert_allclose(found.shared[number], models.shared, atol=1e-7)

    if not bug:
        check()
    else:
        with pytest.raises(AssertionError):
            check()


def limits_by_contrasts(study, counts, seeds, bug=""):
    """Return the limits of each model's commonality in the first region, by the contrasts that alignment uses."""
    full = Resampler(study).prepare()
    once = full.shared(full.relations(), 0)
    drawn = []
    for count in counts:
        prepared = Resampler(study).prepare(count)
        drawn.append(prepared.shared(prepared.relations(), 0))
    subjects, seed_counts = seeds
    low = np.empty((once.shape[1], len(study.models)))
    for time in range(once.shape[1]):
        table = np.array(drawn)[:, :, time].transpose(0, 2, 1)
        subject_counts = None if bug == "people are fixed" else subjects
        scores = Scores(once[:, time].T, table, N, subject_counts, seed_counts)
        for number, model in enumerate(study.models):
            item = contrast(scores, model)
            low[time, number] = t_interval(np.array([item.estimate]), np.array([item.variance]), item.df)[0][0]
    return low


@pytest.mark.parametrize("bug", ["", "people are fixed"])
def test_running_intervals_equal_those_of_contrasts(related, bug):
    from decoders.alignment.contrasts import draw_all

    study, counts = related(), draw_counts(N, 40, np.random.default_rng(3))
    found = resample(study, Resampler(study), counts, {}, np.random.default_rng(4))
    expected = limits_by_contrasts(study, counts, draw_all(3, range(2, 4), 40, np.random.default_rng(4)), bug)
    same = np.allclose(found.low[0], expected, atol=1e-10)
    assert same == (not bug)
    assert set(found.fusion) == {"early", "late"}
    assert found.window == {}


# What is planted: early holds A, which MEG holds at 100 ms; late holds B, at 170 ms.
TIMES = np.arange(-0.1, 0.35, 0.01)


def planted(rng, n=24, n_people=8, noise=0.8, shift=0.0):
    a, b, c = (geometry(rng, n) for _ in range(3))
    # Alike by chance, the two would pull each other's peaks.
    b = b - (a @ b) / (a @ a) * a
    bump = lambda peak: np.exp(-0.5 * ((TIMES - peak - shift) / 0.03) ** 2)  # noqa: E731
    clean = np.outer(bump(0.10), a) + np.outer(bump(0.17), b)
    meg = clean + noise * rng.standard_normal((n_people, len(TIMES), a.size))
    regions = {name: code + rng.standard_normal((n_people, a.size)) for name, code in (("early", a), ("late", b))}
    rows = [ModelRow("control", "control:pixel", 0.8 * a + 0.6 * c)]
    rows += [network(b + 0.7 * geometry(rng, n), "backprop", str(seed)) for seed in range(3)]
    rows += [network(0.25 * b + geometry(rng, n), "untrained", str(seed)) for seed in range(3)]
    rows += [ModelRow("user", "user:other", c)]
    study = made_up(rng, meg, regions, rows)
    return replace(study, sensor=replace(study.sensor, times=TIMES))


@pytest.fixture(scope="module")
def fused():
    study = planted(np.random.default_rng(5))
    return fuse(study, Options(Plan("spearman", "max", 200), 400, 0.05), np.random.default_rng(6))


def test_each_region_is_found_at_its_time(fused):
    table = fused.table[fused.table["analysis"] == "fusion"]
    for region, peak in (("early", 0.10), ("late", 0.17)):
        here = table[table["region"] == region]
        assert here.loc[here["estimate"].idxmax(), "time"] == pytest.approx(peak, abs=0.0101)
        surviving = here[here["p_corrected"] <= 0.05]["time"]
        assert abs(surviving - peak).max() < 0.08
        assert (here["ci_low"] < here["estimate"]).all()
        cluster = fused.clusters[(fused.clusters["region"] == region) & (fused.clusters["p"] <= 0.05)]
        assert len(cluster) == 1
        assert cluster["start_s"].iloc[0] < peak < cluster["stop_s"].iloc[0]


def test_latencies_and_their_order_are_recovered(fused):
    table = fused.latencies
    single = table[table["reference"].isna()].set_index(["measure", "region"])
    for region, peak in (("early", 0.10), ("late", 0.17)):
        row = single.loc["peak", region]
        assert row["latency_s"] == pytest.approx(peak, abs=0.01)
        assert row["ci_low"] <= peak <= row["ci_high"]
    difference = table[table["reference"].notna()].set_index("measure")
    assert (difference["latency_s"] < -0.04).all()
    # Onsets are less sure: in some samples of the stimuli the two geometries are alike, and late begins with early.
    assert difference.loc["peak", "p_corrected"] < 0.01
    assert set(difference["reference"]) == {"late"}


def test_models_explain_what_they_hold_and_where(fused):
    timed = fused.table[(fused.table["analysis"] == "commonality") & fused.table["time"].notna()]
    surviving = timed[timed["p_corrected"] <= 0.05]
    assert set(surviving[surviving["region"] == "early"]["model"]) == {"control:pixel"}
    assert set(surviving[surviving["region"] == "late"]["model"]) >= {"backprop cnn3 fc1 32px"}
    assert "control:pixel" not in set(surviving[surviving["region"] == "late"]["model"])
    assert (timed["estimate"] <= timed["maximum"] + 1e-9).all()
    assert "user:other" not in set(surviving["model"])
    late = surviving[(surviving["region"] == "late") & (surviving["model"] == "backprop cnn3 fc1 32px")]
    assert late.loc[late["estimate"].idxmax(), "time"] == pytest.approx(0.17, abs=0.0201)
    chance = fused.table[fused.table["family"] == "commonality: models against chance, late"].set_index("model")
    assert chance.loc["backprop cnn3 fc1 32px", "p_corrected"] <= 0.05
    pair = fused.table[fused.table["family"] == "commonality: rules against rules, late"].iloc[0]
    assert pair["contrast"] == "backprop cnn3 fc1 32px - untrained cnn3 fc1 32px"
    assert pair["estimate"] > 0


def test_a_shifted_course_is_not_taken_for_the_planted_one():
    study = planted(np.random.default_rng(5), shift=0.03)
    found = fuse(study, Options(Plan("spearman", "max", 40), 100, 0.05), np.random.default_rng(6))
    early = found.latencies.set_index(["measure", "region"]).loc["peak", "early"]
    with pytest.raises(AssertionError):
        assert early["latency_s"].iloc[0] == pytest.approx(0.10, abs=0.01)


def test_what_controls_hold_vanishes_beyond_them(fused):
    beyond = fused.table[fused.table["analysis"] == "partial_fusion"]
    late = beyond[beyond["region"] == "late"]
    assert (late["p_corrected"] <= 0.05).any()
    rng = np.random.default_rng(7)
    study = planted(rng)
    a = np.mean([pair.reference for pair in study.pairs if pair.region == "early"], axis=(0, 1))
    copied = replace(study, rows=Models([ModelRow("control", "control:all", study.sensor.rdms[:, 20].mean(0) + a)]))
    found = fuse(copied, Options(Plan("spearman", "max", 200), 200, 0.05), np.random.default_rng(8)).table
    peak = found[(found["region"] == "early") & (abs(found["time"] - 0.10) < 1e-6)].set_index("analysis")["estimate"]
    assert peak["partial_fusion"] < 0.5 * peak["fusion"]


def related_to_meg_alone(rng, n=16, n_people=3, n_times=3):
    """MEG holds A and B, fMRI holds A, the model holds B: it has no part in what MEG and fMRI share."""
    a, b = geometry(rng, n), geometry(rng, n)
    noise = 0.4
    meg = a + b + noise * rng.standard_normal((n_people, n_times, a.size))
    fmri = a + noise * rng.standard_normal((n_people, a.size))
    rows = [ModelRow("user", "user:b", b)]
    return made_up(rng, meg, {"all": fmri}, rows)


def unrelated(rng, n=16, n_people=3, n_times=4):
    """MEG, fMRI and model of three geometries that have nothing in common; noise that drifts in time."""
    a, b, c = (geometry(rng, n, 0.6) for _ in range(3))
    drift = np.cumsum(rng.standard_normal((n_people, n_times, a.size)), axis=1)
    meg = a + 0.5 * drift
    regions = {name: b + 0.5 * rng.standard_normal((n_people, a.size)) for name in ("one", "two")}
    return made_up(rng, meg, regions, [ModelRow("user", "user:c", c)])


def simulate(make, n_studies, orders_of, read):
    found = []
    for number in range(n_studies):
        rng = np.random.default_rng([9, number])
        study = make(rng)
        prepared = Resampler(study).prepare()
        observed = observed_statistics(prepared, study.averaging)
        null = orders_of(prepared, study, rng)
        found.append(read(observed, null))
    return np.array(found)


def stimuli_relabelled(prepared, study, rng):
    return relabelled_statistics(prepared, study.averaging, label_permutations(study.n_stimuli, 99, rng))


def pairs_shuffled(prepared, study, rng):
    """Return what chance gives if pairs, not stimuli, were exchangeable."""
    draws = []
    for _ in range(99):
        order = rng.permutation(prepared.sensor.shape[2])
        mixed = replace(prepared, sensor=prepared.sensor[:, :, order])
        draws.append(observed_statistics(mixed, study.averaging))
    names = ("fusion", "sensors", "regions", "shared")
    return null_module.Statistics(*(np.array([getattr(draw, name) for draw in draws]) for name in names))


def too_often(rejected):
    """Return whether an exact binomial test at .001 says that the rate lies above .05."""
    return binom.sf(rejected.sum() - 1, len(rejected), 0.05) < 0.001


def test_fusion_without_relation_is_calibrated():
    def read(observed, null):
        tested = fusion_p(observed, null, "max")
        return [tested.p[0, 0], tested.corrected.min()]

    found = simulate(unrelated, 200, stimuli_relabelled, read)
    assert kstest(found[:, 0], "uniform").pvalue > 0.001
    assert not too_often(found[:, 1] <= 0.05)
    # The bug: pairs of one stimulus are not independent of each other.
    wrong = simulate(unrelated, 60, pairs_shuffled, read)
    assert too_often(wrong[:, 1] <= 0.05)


@pytest.mark.parametrize("make", [related_to_meg_alone, unrelated])
def test_a_model_without_a_share_is_seldom_given_one(make):
    def read(observed, null):
        tested = shared_p(observed, null, fusion_p(observed, null, "max"), "max")
        own = null_module._family(observed.shared, null.shared, "max")
        return [tested.p[0, 0, 0], tested.corrected.min(), own.p[0, 0, 0]]

    found = simulate(make, 150, stimuli_relabelled, read)
    assert not too_often(found[:, 0] <= 0.05)
    assert not too_often(found[:, 1] <= 0.05)
    if make is related_to_meg_alone:
        # The bug: relabelling the model alone also breaks its relation to MEG, and calls chance a share.
        assert too_often(found[:, 2] <= 0.05)


def test_the_window_keeps_all_that_is_asked_of_one_time(related):
    study = related()
    observed = observed_statistics(Resampler(study).prepare(), study.averaging)
    one = over_window(observed, 1, np.array([False, True]))
    np.testing.assert_array_equal(one.shared[0, 0], observed.shared[1, 1])
    both = over_window(observed, 0, np.array([True, True]))
    np.testing.assert_allclose(both.sensors[0], observed.sensors.mean(axis=0))
    assert both.regions.shape == (1, len(study.models))


def test_clusters_are_those_of_mne_in_one_region_and_never_cross_regions():
    from mne.stats import permutation_cluster_1samp_test
    from scipy.stats import t

    rng = np.random.default_rng(10)
    curves = 0.2 * rng.standard_normal((7, 2, 30))
    curves[:, 0, 25:] += 1
    curves[:, 1, :5] += 1
    found = [cluster for cluster in fusion_clusters(curves, 500, rng) if cluster.p <= 0.05]
    assert [(c.region, c.start, c.stop) for c in found if c.mass > 20] == [(0, 25, 29), (1, 0, 4)]
    values, where, _, _ = permutation_cluster_1samp_test(curves[:, 0], t.isf(0.05, 6), 500, tail=1, seed=0)
    masses = [values[place].sum() for place in where]
    assert found[0].mass == pytest.approx(max(masses))
    assert found[0].p >= 1 / 2**7


def test_equal_seeds_give_equal_tables(related):
    options = Options(Plan("spearman", "fdr", 30), 100, 1.0)
    first, second = (fuse(related(), options, np.random.default_rng(11)) for _ in range(2))
    assert len(first.table)
    study = related()
    one, two = (fuse(study, options, np.random.default_rng(11)).table for _ in range(2))
    assert one.equals(two)
    assert list(second.table.columns) == list(first.table.columns)


def test_chosen_models_keep_the_controls(related):
    rows = related().rows
    kept = choose_models(rows, ["user:own"])
    assert [row.name for row in kept.usable] == ["control:pixel", "control:hog", "user:own"]
    with pytest.raises(SettingsError, match="'user:none' is no model here; they are control:pixel"):
        choose_models(rows, ["user:none"])
