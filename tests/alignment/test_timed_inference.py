"""Inference over time: against mne and scipy, on planted courses, and with what is wrong on purpose."""

from itertools import product

import mne
import numpy as np
import pytest
from made_up_sensors import coloured, helmet, rise_and_fall
from scipy.sparse import block_diag, diags
from scipy.stats import rankdata, t, ttest_1samp

from decoders.alignment.ceilings import noise_ceiling
from decoders.alignment.comparators import compare
from decoders.alignment.contrasts import Model
from decoders.alignment.models import ModelRow, Models, Stimuli
from decoders.alignment.partial import partition
from decoders.alignment.timed import families, flips
from decoders.alignment.timed.clusters import enhance, find_runs, largest_mass
from decoders.alignment.timed.families import TimePlan, infer_times, mean_over_seeds
from decoders.alignment.timed.flips import flip_test, flipped_t, permutation_test, sign_patterns
from decoders.alignment.timed.generalise import across_subjects, pair_signs, rdm_similarities, within_subjects
from decoders.alignment.timed.labels import label_test, relabelled_scores
from decoders.alignment.timed.latencies import amplitude, latency, onset_times, peak_times
from decoders.alignment.timed.scores import RecordedTimes, partial_scores, time_ceilings, time_scores
from decoders.alignment.timed.sensors import find_neighbours, sensor_test
from decoders.alignment.timed.weights import regression_weights
from decoders.errors import InputError
from decoders.stats.permutation import label_permutations, permute_pairs
from decoders.stats.resampling import draw_counts

N_SUBJECTS, N_COURSES, N_TIMES = 7, 3, 30
mne.set_log_level("ERROR")


def rng(seed=0):
    return np.random.default_rng(seed)


def courses(seed=0):
    values = coloured(rng(seed), (N_SUBJECTS, N_COURSES, N_TIMES), 0.7)
    values[:, 1, 10:18] += 1.2
    return values


def by_mne(values, threshold, tail):
    chain = diags([np.ones(N_TIMES - 1)] * 2, [-1, 1])
    return mne.stats.permutation_cluster_1samp_test(
        values.reshape(N_SUBJECTS, -1), threshold=threshold, n_permutations=2**N_SUBJECTS, tail=tail,
        adjacency=block_diag([chain] * N_COURSES).tocoo(), out_type="indices", seed=0,
    )  # fmt: skip


# ---- clusters and flips ---------------------------------------------------------------------------------------------


def test_two_sided_clusters_are_those_of_mne():
    values = courses()
    signs, exact = sign_patterns(N_SUBJECTS, 1000, rng())
    assert (len(signs), exact) == (128, True)
    found = flip_test(values, signs, 0.05, "tfce", "two-sided", exact)
    statistic, clusters, p, _ = by_mne(values, t.isf(0.025, N_SUBJECTS - 1), 0)
    np.testing.assert_allclose(found.statistic.ravel(), statistic, rtol=1e-9)
    expected = {(int(c[0][0]), int(c[0][-1]) + 1): (statistic[c[0]].sum(), q) for c, q in zip(clusters, p, strict=True)}
    ours = {(c.row * N_TIMES + c.start, c.row * N_TIMES + c.stop): (c.mass, c.p) for c in found.clusters}
    assert ours.keys() == expected.keys()
    for key, value in expected.items():
        assert ours[key] == pytest.approx(value, abs=1e-9)
    enhanced = by_mne(values, {"start": 0, "step": 0.2}, 0)[2]
    np.testing.assert_allclose(found.p_corrected.ravel(), np.maximum(enhanced, found.p.ravel()), atol=1e-12)


def test_one_sided_clusters_are_those_of_mne_but_for_its_count_of_the_data():
    # With one tail mne counts the data as they are twice, and all subjects flipped not at all.
    values = courses()
    signs, exact = sign_patterns(N_SUBJECTS, 128, rng())
    found = flip_test(values, signs, 0.05, "tfce", "greater", exact)
    _, clusters, p, _ = by_mne(values, t.isf(0.05, N_SUBJECTS - 1), 1)
    expected = {int(c[0][0]): q for c, q in zip(clusters, p, strict=True)}
    for cluster in found.clusters:
        assert expected[cluster.row * N_TIMES + cluster.start] - cluster.p in (pytest.approx(0), pytest.approx(1 / 128))


def test_enhancement_is_that_of_mne_and_maps_do_not_touch():
    maps = rng(1).standard_normal((4, N_TIMES)) * 2
    from mne.stats.cluster_level import _find_clusters

    for row, found in zip(maps, enhance(maps), strict=True):
        expected = _find_clusters(row, {"start": 0, "step": 0.2}, 1)[1]
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    ends = np.zeros((2, 5))
    ends[0, 3:], ends[1, :2] = 3.0, 3.0
    runs = find_runs(ends, 1.0)
    assert list(zip(runs.row, runs.start, runs.stop, runs.mass, strict=True)) == [(0, 3, 5, 6.0), (1, 0, 2, 6.0)]
    assert largest_mass(ends[None], 1.0).tolist() == [6.0]
    # Mutation: maps in one line.
    assert find_runs(ends.reshape(1, -1), 1.0).mass.tolist() == [12.0]


def test_flipped_t_is_that_of_scipy():
    values = courses()
    signs, _ = sign_patterns(N_SUBJECTS, 20, rng())
    found = flipped_t(values, signs)
    for pattern, one in zip(signs, found, strict=True):
        np.testing.assert_allclose(one, ttest_1samp(values * pattern[:, None, None], 0).statistic, rtol=1e-9)
    assert (signs[0] == 1).all()


def test_slices_of_courses_give_the_same(monkeypatch):
    values, (signs, exact) = courses(), sign_patterns(N_SUBJECTS, 128, rng())
    whole = flip_test(values, signs, 0.05, "tfce", "two-sided", exact)
    monkeypatch.setattr(flips, "_NUMBERS_AT_ONCE", 1)
    parts = flip_test(values, signs, 0.05, "tfce", "two-sided", exact)
    np.testing.assert_array_equal(parts.p_corrected, whole.p_corrected)
    assert parts.clusters == whole.clusters


@pytest.mark.parametrize("statistic", ["tfce", "max"])
def test_family_wise_errors_in_noise_that_is_correlated_in_time(statistic):
    draw, wrong, uncorrected = rng(2), 0, 0
    signs, exact = sign_patterns(N_SUBJECTS, 128, draw)
    for _ in range(200):
        found = flip_test(coloured(draw, (N_SUBJECTS, 4, 25), 0.9), signs, 0.05, statistic, "greater", exact)
        wrong += (found.p_corrected <= 0.05).any() or any(item.p <= 0.05 for item in found.clusters)
        uncorrected += (found.p <= 0.05).any()
    # Two statistics, each at .05: at most .10 together. Mutation: p of the moments by themselves.
    assert wrong <= 30
    assert uncorrected > 100


# ---- scores and ceilings --------------------------------------------------------------------------------------------


def study(n_subjects=6, n_stimuli=12, strength=2.0, seed=0, n_times=20):
    draw = rng(seed)
    times = np.arange(n_times) / 100
    features = draw.standard_normal((4, n_stimuli, 6))
    n_pairs = n_stimuli * (n_stimuli - 1) // 2
    rows, columns = np.triu_indices(n_stimuli, 1)
    rdms = [((item[rows] - item[columns]) ** 2).sum(axis=1) for item in features]
    models = Models([
        ModelRow("control", "control:one", rdms[1]),
        ModelRow("control", "control:two", rdms[2]),
        *(ModelRow("network", rule, rdms[k] + 0.3 * draw.standard_normal(n_pairs), "net", s, "fc1")
          for rule, k in (("good", 0), ("bad", 3)) for s in ("0", "1")),
        ModelRow("network", "broken", None, "net", "0", "fc1", refused="dead"),
    ])  # fmt: skip
    course = rise_and_fall(times, 0.05, 0.1, 0.18)
    noise = coloured(draw, (n_subjects, n_pairs, n_times), 0.7).transpose(0, 2, 1)
    signal = strength * course[:, None] * (rdms[0] - rdms[0].mean()) / rdms[0].std()
    names = [f"p{number}" for number in range(n_stimuli)]
    subjects = [f"{number:02d}" for number in range(n_subjects)]
    return models, RecordedTimes(subjects, times, signal + noise, Stimuli(names), "crossnobis, made up")


@pytest.mark.parametrize("comparator", ["spearman", "rho_a", "pearson", "cosine", "corr_cov", "tau_a"])
def test_scores_and_ceilings_are_those_of_each_moment(comparator):
    models, recorded = study(4, 6, n_times=3)
    scores = time_scores(models, recorded, comparator)
    low, high = time_ceilings(recorded.rdms, comparator)
    for moment in range(3):
        expected = compare(models.vectors, recorded.rdms[:, moment], comparator).T
        np.testing.assert_allclose(scores[:, :, moment], expected, atol=1e-12)
        assert (low[moment], high[moment]) == pytest.approx(noise_ceiling(recorded.rdms[:, moment], comparator))
    assert np.isnan(time_ceilings(recorded.rdms[:1], comparator)).all()


def test_partial_scores_are_those_of_each_moment():
    models, recorded = study(3, 8, n_times=4)
    found = partial_scores(models, recorded, models.vectors[:2], "spearman")
    ranks = rankdata(models.vectors, axis=1)
    expected = partition(ranks, ranks[:2], rankdata(recorded.rdms[1, 2])[None], np.ones((1, 8), dtype=int), "pearson")
    np.testing.assert_allclose(found[1, 2:, 2], expected.partial[0, 2:, 0], atol=1e-9)


def test_relabelling_moves_the_stimuli_of_the_model():
    models, recorded = study(3, 6, n_times=4)
    joined = models.joined("control", "network")
    orders = label_permutations(6, 5, rng())
    for comparator in ("spearman", "corr_cov"):
        found = relabelled_scores(joined, models.vectors, recorded, comparator, orders)
        for place, order in enumerate([np.arange(6), *orders]):
            moved = Models(
                [
                    ModelRow(r.kind, r.rule, permute_pairs(r.rdm, order), r.architecture, r.seed, r.layer)
                    for r in models.usable
                ]
            )
            expected = mean_over_seeds(time_scores(moved, recorded, comparator), joined).mean(axis=0)
            np.testing.assert_allclose(found[place], expected, atol=1e-12)


def test_one_subject_is_tested_by_relabelling_alone():
    models, recorded = study(1, strength=3.0)
    scores = time_scores(models, recorded, "spearman")
    found = infer_times(models, recorded, scores, TimePlan("spearman", n_permutations=200), rng())
    rows = {table["family"].iloc[0]: table for table in found.rows}
    chance = rows["models against chance, over time"]
    assert chance["p"].isna().all()
    assert "1 subject: no inference over subjects below 5" in chance["method"].iloc[0]
    relabelled = rows["models against relabelled stimuli, over time"]
    good = relabelled[relabelled["model"].str.startswith("good")]
    assert good.loc[good["p_corrected"] <= 0.05, "time"].between(0.05, 0.18).all()
    assert (good["p_corrected"] <= 0.05).sum() >= 3
    assert "no inference beyond this subject" in good["method"].iloc[0]
    assert rows["rules against rules, over time"]["p"].isna().all()
    np.testing.assert_array_equal(found.chance.p, relabelled["p"].to_numpy().reshape(found.chance.p.shape))


def test_families_find_what_is_planted_and_nothing_else():
    models, recorded = study(8)
    scores = time_scores(models, recorded, "spearman")
    found = infer_times(models, recorded, scores, TimePlan("spearman", n_permutations=256), rng())
    clusters = {table["family"].iloc[0]: table[table["p"] <= 0.05] for table in found.clusters if len(table)}
    chance = clusters["models against chance, over time"]
    largest = chance.sort_values("mass").iloc[-1]
    assert (largest["model"], largest["p"]) == ("good net fc1 native", 1 / 256)
    assert largest["peak_s"] == pytest.approx(0.1, abs=0.021)
    rules = clusters["rules against rules, over time"]
    assert (rules["model"].iloc[0], rules["reference"].iloc[0]) == ("good net fc1 native", "bad net fc1 native")
    assert rules["mass"].iloc[0] > 0
    above = clusters["models against controls, over time"]
    assert set(above["model"].str.split(" ").str[0]) == {"good"}
    assert (above["reference"] == "all controls").all()
    tables = {table["family"].iloc[0]: table for table in found.rows if len(table)}
    assert len(tables["models against chance, over time"]) == 4 * 20
    against = tables["models against controls, over time"]
    assert len(against) == 2 * 20
    assert set(against["reference"]) <= {"control:one", "control:two"}


def test_a_model_is_above_controls_only_where_it_is_above_each():
    models, recorded = study(8)
    # A control that is the model itself is not beaten, whatever the other one is.
    copy = models.vectors[2:4].mean(axis=0)
    models = Models([ModelRow("control", "control:same", copy), *models.rows])
    scores = time_scores(models, recorded, "spearman")
    found = infer_times(models, recorded, scores, TimePlan("spearman", n_permutations=256), rng())
    rows = next(table for table in found.rows if table["family"].iloc[0].startswith("models against controls"))
    good = rows[rows["model"].str.startswith("good")]
    assert (good["p_corrected"] > 0.05).all()
    assert (good.loc[good["time"].between(0.08, 0.12), "reference"] == "control:same").all()


def test_a_cosine_of_plain_distances_is_not_tested_against_zero():
    assert "above zero by chance" in families.no_flips(9, "cosine", False)
    assert families.no_flips(9, "cosine", True) == families.no_flips(9, "spearman", False) == ""


# ---- weights and latencies ------------------------------------------------------------------------------------------


def test_weights_are_those_of_a_regression():
    draw = rng()
    vectors, held, rdms = draw.random((2, 40)), draw.random((3, 40)), draw.random((5, 40))
    scaled = (vectors - vectors.mean(axis=1, keepdims=True)) / vectors.std(axis=1, keepdims=True)
    for place in range(2):
        design = np.column_stack([scaled[place], held.T, np.ones(40)])
        expected = np.linalg.lstsq(design, rdms.T, rcond=None)[0][0]
        np.testing.assert_allclose(regression_weights(vectors, held, rdms)[place], expected, atol=1e-10)
    assert np.isnan(regression_weights(held[:1], held, rdms)).all()


def test_a_correlation_peaks_late_where_a_weight_does_not():
    # Two geometries, the first fades while the second one stands: its correlation grows until the first is gone.
    times, draw = np.arange(60) / 200, rng()
    first, second = draw.standard_normal((2, 300))
    power = [rise_and_fall(times, a, b, c) ** 2 for a, b, c in ((0.02, 0.06, 0.2), (0.05, 0.1, 0.29))]
    rdms = power[0][:, None] * first + power[1][:, None] * second
    weight = regression_weights(second[None], first[None], rdms)
    assert times[np.argmax(weight)] == pytest.approx(0.1)
    assert times[np.nanargmax(compare(second[None], rdms, "pearson"))] > 0.15


@pytest.mark.parametrize("onset", [0.06, 0.123])
def test_latencies_of_a_line_and_of_a_parabola_are_exact(onset):
    times = np.arange(100) / 250
    ramp = np.clip((times - onset) / 0.08, 0, 1) - np.clip((times - onset - 0.08) / 0.3, 0, 1)
    assert onset_times(ramp[None], times, 0, 100)[0] == pytest.approx(onset, abs=1e-9)
    parabola = 1 - ((times - onset) / 0.2) ** 2
    assert peak_times(parabola[None], times, 0, 100)[0] == pytest.approx(onset, abs=1e-9)
    three = np.array([0.0, 0.2, 0.8, 1.0, 0.7, 0.1])
    assert peak_times(three[None], np.arange(6.0), 0, 6)[0] == pytest.approx(2.9)
    # Mutation: without the square root the line through the squares meets zero late.
    assert onset_times((ramp**2)[None], times, 0, 100)[0] > onset + 0.01


def test_the_peak_of_a_skewed_course_is_not_late():
    times, peak = np.arange(100) / 250, 0.1234
    u = (times - peak) / 0.2
    cubic = 1 - u**2 + 0.9 * u**3
    courses = np.stack([cubic, np.where(times > 0.3, 0, cubic)])
    assert peak_times(courses, times, 0, 60) == pytest.approx(peak, abs=1e-9)
    # Mutation: the vertex of a parabola through the same points is late.
    top = cubic[:60] >= 0.9
    _, slope, bend = np.polynomial.polynomial.polyfit(times[:60][top] - peak, cubic[:60][top], 2)
    assert -slope / (2 * bend) > 0.002


def test_intervals_hold_the_spread_over_subjects():
    times, draw = np.arange(120) / 250 - 0.1, rng()
    shift = draw.normal(0, 0.01, 10)
    weights = np.array([rise_and_fall(times, 0.08 + d, 0.13 + d, 0.25 + d) ** 2 for d in shift])
    counts = draw_counts(10, 500, draw)
    found = latency("peak", weights, times, (0, 120), counts)
    assert found.low < found.seconds < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.01 / np.sqrt(10), rel=0.6)
    alone = latency("onset", weights[:1], times, (0, 120), None)
    assert np.isfinite(alone.seconds)
    assert np.isnan([alone.low, alone.high]).all()
    flat = latency("onset", np.ones((3, 120)), times, (0, 120), counts[:, :3])
    assert np.isnan(flat.seconds)
    assert amplitude(np.array([-4.0, 9.0])).tolist() == [-2.0, 3.0]


# ---- generalisation -------------------------------------------------------------------------------------------------


def test_generalisation_of_rdms_is_their_mean_similarity_to_the_others():
    _, recorded = study(5, 8, n_times=6)
    similar = rdm_similarities(recorded.rdms, "spearman")
    signs = pair_signs(5, 100, rng())
    found = across_subjects(similar, signs, 1.6)
    for subject, one, two in product((0, 3), (1, 4), (2, 5)):
        others = [
            compare(recorded.rdms[subject, one][None], recorded.rdms[s, two][None], "spearman")[0, 0]
            for s in range(5)
            if s != subject
        ]
        assert found.scores[subject, one, two] == pytest.approx(np.mean(others))


def test_subjects_that_share_nothing_do_not_generalise_and_naive_flips_would_say_so():
    draw, wrong, naive = rng(4), 0, 0
    signs = pair_signs(8, 128, draw)
    flips_of_all, _ = sign_patterns(8, 256, draw)
    for _ in range(400):
        rdms = draw.standard_normal((8, 1, 60))
        similar = rdm_similarities(rdms, "pearson")
        found = across_subjects(similar, signs, 1.6)
        wrong += (found.p_corrected <= 0.05).any()
        naive += (within_subjects(found.scores, flips_of_all, 0.05).p_corrected <= 0.05).any()
    # 20 are expected at .05, and 48 where the mean has twice the variance that flips of the scores take it to have.
    assert wrong <= 32
    assert naive > 32


def test_a_geometry_that_stays_generalises():
    draw = rng(5)
    shared = np.zeros((8, 80))
    shared[3:6] = draw.standard_normal(80)
    rdms = shared + draw.standard_normal((8, 8, 80))
    signs = pair_signs(8, 256, draw)
    found = across_subjects(rdm_similarities(rdms, "spearman"), signs, 1.6)
    inside = np.zeros((8, 8), dtype=bool)
    inside[3:6, 3:6] = True
    assert (found.p_corrected[inside] <= 0.05).all()
    largest = int(np.argmin(found.cluster_p)) + 1
    assert (found.labels[inside] == largest).all()
    assert found.cluster_p.min() <= 0.05


# ---- sensors --------------------------------------------------------------------------------------------------------


def test_neighbours_touch_and_are_of_one_type():
    positions, types = helmet()
    found = find_neighbours(positions, types, None, "x")
    kinds = np.array(types)
    assert all(len(set(kinds[members])) == 1 for members in found.members)
    assert all(channel in members for channel, members in enumerate(found.members))
    np.testing.assert_array_equal(found.touching, found.touching.T)
    centre = 12 * 3
    assert set(found.members[centre]) == set(found.members[centre + 1])
    assert 4 <= len(found.members[centre + 2]) - 1 <= 8
    near = find_neighbours(positions, types, 60.0, "x")
    apart = np.linalg.norm(positions - positions[centre], axis=1)
    assert set(near.members[centre]) == set(np.flatnonzero((apart <= 0.06) & (kinds == "grad")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, k: (p * np.nan, k, None), "a place for every sensor, found none of 75"),
        (lambda p, k: (p[:9], k[:9], None), "4 or more sites of one type of sensor, found 3"),
        (lambda p, k: (p, k, 1.0), "3 or more sensors in every neighbourhood, found 1"),
    ],
)
def test_sensors_that_have_no_neighbourhood_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        find_neighbours(*change(*helmet()), "x")


@pytest.mark.parametrize("statistic", ["cluster", "max"])
def test_planted_sensors_are_found(statistic):
    positions, types = helmet()
    near = find_neighbours(positions, types, None, "x")
    scores = rng(6).standard_normal((8, 75, 6))
    planted = near.members[36]
    scores[:, planted, 2:5] += 4.0
    found = sensor_test(scores, near.touching, statistic, 0.01, 256, rng())
    mask = np.zeros((75, 6), dtype=bool)
    mask[planted, 2:5] = True
    assert (found.p_corrected[mask] <= 0.05).mean() > 0.8
    assert (found.p_corrected[~mask] <= 0.05).mean() < 0.05
    np.testing.assert_allclose(found.statistic, ttest_1samp(scores, 0).statistic)


def test_models_without_seeds_in_common_are_not_paired():
    assert families.paired_rows(Model("a", {"0": 1}), Model("b", {"1": 2})) is None
    assert families.paired_rows(Model("a", {"0": 1, "1": 3}), Model("b", {"1": 2})) == ([3], [2])
    assert families.paired_rows(Model("a", {"0": 1, "1": 3}), Model("b", {"": 2})) == ([1, 3], [2])


def test_standard_scores_have_the_same_p_for_every_scale():
    null = rng().standard_normal((100, 1, 10))
    null[0] += 3
    found = label_test(np.concatenate([null, 1000 * null + 7], axis=1), 0.05, "tfce")
    np.testing.assert_allclose(found.p_corrected[0], found.p_corrected[1])
    tested = permutation_test((1, 10), lambda part: null[:, part], 1.6, "max", "greater")
    assert (tested.p_corrected >= tested.p).all()
