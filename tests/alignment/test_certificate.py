"""The certificate: exact intervals, populations of known truth, and inference that is made wrong on purpose."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from decoders import cli
from decoders.alignment.certificate import cells, layout, recorded, verb
from decoders.alignment.certificate.cells import CELLS, Cell, certify_cell
from decoders.alignment.certificate.certificate import n_studies, noticed, plan_of, require, sentence, summary, table
from decoders.alignment.certificate.findings import Finding, exact_interval, judged, pooled, rate
from decoders.alignment.certificate.layout import DESIGNS, LAYOUT, RECORDED, Size, cell_names
from decoders.alignment.certificate.populations import Population
from decoders.alignment.certificate.recorded import certify_recorded
from decoders.alignment.comparators import compare
from decoders.alignment.inference import Plan
from decoders.alignment.stage import infer
from decoders.config import AlignmentSettings, CertificateSettings, StudySettings
from decoders.errors import CorticodeError
from decoders.stage import Job, SettingsSlice, run_stage

PLAN = Plan("spearman", "max", 100)
SMALL = Size(12, 5)


def rng(seed=0):
    return np.random.default_rng(seed)


# ---- intervals and verdicts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "n"), [(0, 20), (3, 20), (20, 20), (120, 2000)])
def test_intervals_are_those_of_scipy(k, n):
    exact = binomtest(k, n).proportion_ci(0.95, "exact")
    assert exact_interval(k, n) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_a_count_that_is_none_is_refused():
    for k, n in ((1, 0), (-1, 5), (6, 5)):
        with pytest.raises(ValueError, match="is no count"):
            exact_interval(k, n)


def finding(k, bound="at most", limit=0.05, n=2000):
    return rate("x", "nothing", "small", [True] * k + [False] * (n - k), bound, limit)


@pytest.mark.parametrize(
    ("k", "bound", "limit", "verdict"),
    [
        (100, "at most", 0.05, "passed"),
        (200, "at most", 0.05, "FAILED"),
        (40, "at most", 0.05, "conservative"),
        (1900, "at least", 0.95, "passed"),
        (1700, "at least", 0.95, "FAILED"),
        (1990, "at least", 0.95, "conservative"),
        (2000, "none", 0.0, "shown"),
    ],
)
def test_a_bound_is_broken_where_the_interval_lies_beyond_it(k, bound, limit, verdict):
    (found,) = judged([finding(k, bound, limit)])
    assert found.verdict == verdict
    assert found.passed == (verdict != "FAILED")


def test_many_checks_are_judged_together():
    # Beyond the limit by itself (p = .015), which happens among a hundred valid checks.
    edge = finding(123)
    assert edge.low > 0.05
    assert not judged([edge])[0].passed
    assert all(found.passed for found in judged([edge, *[finding(100)] * 99]))


def test_sizes_of_a_design_are_pooled():
    sizes = [
        rate("wrong", "nothing", f"size {i}", [True] * k + [False] * (2000 - k), "at most", 0.05)
        for i, k in enumerate((118, 120, 119, 121))
    ]
    other = [
        rate("power", "nothing", "size 0", [True, False], "none", 0.05),
        rate("wrong", "equal", "size 0", [False] * 9, "at most", 0.05),
    ]
    (together,) = pooled([*sizes, *other])
    assert (together.k, together.n, together.size) == (478, 8000, "all 4 sizes")
    assert (together.low, together.high) == exact_interval(478, 8000)
    # What no size shows by itself is seen in all of them.
    checks = judged([*sizes, *other, together])
    assert [check.verdict for check in checks if check.design == "nothing" and check.bound != "none"] == [
        "passed"
    ] * 4 + ["FAILED"]


def test_small_p_of_a_uniformity_test_fails():
    p = Finding("ks", "nothing", "small", 1e-6, 1e-6, 1e-6, "p", 0.05, 100, 0)
    assert judged([p])[0].verdict == "FAILED"
    assert judged([replace(p, value=0.2)])[0].verdict == "passed"


def test_the_sentence_names_what_is_broken():
    good = summary([finding(100), replace(finding(40), design="equal")], "full", PLAN)
    assert good["passed"]
    assert good["sentence"].startswith("All 2 bounds hold; 1 of them")
    require(good)
    bad = summary([replace(finding(100), design="equal"), finding(300)], "full", PLAN)
    assert not bad["passed"]
    with pytest.raises(CorticodeError, match=r"1 of 2 bounds are broken: x \(nothing; small\): 0.150"):
        require(bad)
    assert "and 2 more" in sentence(judged([finding(300)] * 5))


def job(**alignment):
    block = AlignmentSettings(**alignment) if alignment else None
    study = StudySettings(
        study="x",
        data={"source": "phantom", "phantom": {}},
        preprocess={"estimates": "lsa"},
        alignment=block,
        certificate=CertificateSettings(n_resamples=150),
    )
    return Job(SettingsSlice.of("certificate", study), {}, {})


def test_the_plan_is_the_studys_own():
    assert plan_of(job()) == Plan("spearman", "max", 150)
    assert plan_of(job(comparators=("cosine",), correction="fdr")) == Plan("cosine", "fdr", 150)
    assert (n_studies(CertificateSettings()), n_studies(CertificateSettings(mode="full"))) == (60, 2000)
    assert n_studies(CertificateSettings(n_studies=20)) == 20


def test_full_is_full_whatever_the_study_says(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("study: x\ndata: {source: none}\ncertificate: {n_studies: 20}\n")
    assert n_studies(verb._settings(path, full=False).certificate) == 20
    assert n_studies(verb._settings(path, full=True).certificate) == 2000


def test_the_sentence_says_what_could_have_been_seen():
    few, many = noticed(60, 60), noticed(2000, 60)
    assert 0.15 < few < 0.25
    assert 0.06 < many < 0.075
    assert "a rate of wrong findings of" in summary([finding(1, n=60)], "quick", PLAN)["sentence"]


# ---- populations ----------------------------------------------------------------------------------------------------


def test_a_population_holds_what_its_weights_say():
    cell = Cell("planted", Size(20, 6))
    truth = cell.expected_scores("spearman", 60, rng())
    assert truth[0] > truth[1] + 0.1 > 0.2
    assert abs(truth[2]) < 0.03
    equal = Cell("equal", Size(20, 6)).expected_scores("spearman", 200, rng())
    assert np.ptp(equal) < 0.04
    assert np.abs(Cell("nothing", Size(20, 6)).expected_scores("spearman", 60, rng())).max() < 0.03


def test_a_study_has_the_rows_that_its_size_says():
    models, (region,) = Population((0.5, 0.0), (0.2,)).draw(Size(10, 4, 3), rng())
    assert [row.seed for row in models.rows if row.rule == "rule1"] == ["0", "1", "2"]
    assert [row.kind for row in models.rows].count("control") == 1
    assert region.rdms.shape == (4, 45)
    # Seeds share their features: their RDMs are alike, and not the same.
    alike = compare(models.vectors[:2], models.vectors[:2], "spearman")[0, 1]
    assert 0.3 < alike < 0.999


def test_one_subject_is_inferred_about_alone():
    assert CELLS["equal-24x1x1"].population.subject_sd == 0
    assert CELLS["equal-12x5x1"].population.subject_sd > 0
    assert {design for design, _ in LAYOUT.values()} <= set(DESIGNS)
    assert cell_names(True) == [*cell_names(False), RECORDED]


# ---- inference that is right, and made wrong ------------------------------------------------------------------------


def passed(findings):
    return all(found.passed for found in judged(findings))


@pytest.mark.parametrize(
    "name", ["nothing-12x5x1", "equal-12x5x1", "planted-12x5x1", "nothing-8x10x1", "nothing-24x1x1"]
)
def test_the_pipelines_own_inference_passes(name):
    assert passed(certify_cell(CELLS[name], 40, PLAN, rng(1)))


def halved(models, regions, n_stimuli, plan, generator):
    """Mutation: p-values of two tests in one are printed."""
    return infer(models, regions, n_stimuli, plan, generator).assign(p=lambda rows: rows["p"] / 4)


def narrow(models, regions, n_stimuli, plan, generator):
    """Mutation: intervals of a standard error, not of two."""
    rows = infer(models, regions, n_stimuli, plan, generator)
    middle, half = rows["estimate"], (rows["ci_high"] - rows["ci_low"]) / 8
    return rows.assign(ci_low=middle - half, ci_high=middle + half)


def uncorrected(models, regions, n_stimuli, plan, generator):
    """Mutation: the column of corrected p-values holds the others, of a liberal test."""
    rows = infer(models, regions, n_stimuli, plan, generator)
    return rows.assign(p_corrected=rows["p"] / 3)


@pytest.mark.parametrize(
    ("name", "wrong", "broken"),
    [
        ("nothing-12x5x1", halved, "p against chance"),
        ("nothing-12x5x1", halved, "p of the test"),
        ("nothing-12x5x1", uncorrected, "any corrected p against chance"),
        ("equal-12x5x1", narrow, "95 % interval of a difference"),
        ("planted-12x5x1", narrow, "95 % interval of a score"),
    ],
)
def test_wrong_inference_is_found(monkeypatch, name, wrong, broken):
    monkeypatch.setattr(cells, "infer", wrong)
    failed = [found.name for found in judged(certify_cell(CELLS[name], 100, PLAN, rng(1))) if not found.passed]
    assert any(item.startswith(broken) for item in failed)


def test_a_ceiling_that_is_too_low_is_found(monkeypatch):
    monkeypatch.setattr(cells, "noise_ceiling", lambda rdms, comparator: (0.05, 0.04))
    failed = [
        found.name for found in judged(certify_cell(CELLS["planted-12x5x1"], 20, PLAN, rng(1))) if not found.passed
    ]
    assert failed == ["a model beyond the upper noise ceiling", "a lower noise ceiling above the upper one"]


def test_the_bootstrap_over_pairs_is_shown_with_its_real_rate():
    (shown,) = [f for f in certify_cell(Cell("equal", Size(24, 8)), 60, PLAN, rng(1)) if f.name.startswith("not used")]
    assert shown.bound == "none"
    assert shown.low > 0.05


# ---- real recordings ------------------------------------------------------------------------------------------------


def test_permuted_recordings_hold_nothing_and_unpermuted_ones_do(monkeypatch):
    models, regions = Population((), (1.0, 0.0, 0.4)).draw(Size(14, 5), rng(3))
    assert passed(certify_recorded(regions, models.rows, 14, 30, PLAN, rng(4)))
    # Mutation: the labels stay, and so does what is in the recordings.
    monkeypatch.setattr(recorded, "_relabelled", lambda found, order: found)
    assert not passed(certify_recorded(regions, models.rows, 14, 30, PLAN, rng(4)))


def test_what_is_not_tested_does_not_count_as_right():
    models, regions = Population((), (1.0, 0.0)).draw(Size(14, 5), rng(3))
    assert certify_recorded(regions, [], 14, 5, PLAN, rng()) == []
    alone = certify_recorded(regions, models.rows[:1], 14, 5, PLAN, rng())
    assert [item.name[:16] for item in alone] == ["p against chance", "any corrected p "]
    one = [replace(regions[0], subjects=["01"], rdms=regions[0].rdms[:1, :28])]
    small = [replace(row, rdm=row.rdm[:28]) for row in models.rows]
    assert len(certify_recorded(one, small, 8, 5, PLAN, rng())) == 2


# ---- stages and the verb --------------------------------------------------------------------------------------------


@pytest.fixture
def two_cells(monkeypatch):
    few = {name: LAYOUT[name] for name in ("nothing-8x10x1", "nothing-12x5x1")}
    monkeypatch.setattr(layout, "LAYOUT", few)
    monkeypatch.setattr(verb, "cell_names", lambda has_recordings, over_time, kinds: list(few))


def test_the_verb_writes_a_certificate(two_cells, tmp_path, capsys, monkeypatch):
    study = tmp_path / "study.yaml"
    study.write_text("study: x\ndata: {source: none}\ncertificate: {n_studies: 20, n_resamples: 100}\n")
    path = tmp_path / "certificate.json"
    assert cli.main(["certify", str(study), "--output", str(path)]) == 0
    written = json.loads(path.read_text())
    assert written["passed"]
    assert written["mode"] == "quick"
    assert {"name", "value", "low", "high", "passed"} <= set(written["checks"][0])
    assert "bounds hold" in capsys.readouterr().out
    rows = pd.read_csv(path.with_suffix(".tsv"), sep="\t")
    assert list(rows["value"]) == pytest.approx([check["value"] for check in written["checks"]])
    monkeypatch.setattr(cells, "infer", lambda *args: infer(*args).assign(p=0.001, p_corrected=0.001))
    assert cli.main(["certify", str(study), "--output", str(path)]) == 2
    assert not json.loads(path.read_text())["passed"]


def test_the_verb_wants_both_files_of_a_study(capsys, tmp_path):
    assert cli.main(["certify", "--rdms", str(tmp_path / "rdms.h5")]) == 2
    assert "belong together" in capsys.readouterr().err


def test_an_unknown_cell_is_named(tmp_path):
    settings = SettingsSlice("certify-cell", job().settings.values)
    with pytest.raises(CorticodeError, match="has no cell 'nil'; its cells are nothing-24x8x3"):
        run_stage(settings, {}, {"findings": tmp_path / "x.tsv"}, {"cell": "nil"})


def test_a_seed_gives_the_same_findings():
    first, second = (table(certify_cell(CELLS["nothing-8x10x1"], 20, PLAN, rng(5))) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
