"""The shipped studies on real recordings, from the registry's mirror to their page, held against their figures."""

import os
import subprocess
import sys

import pytest
import yaml

from decoders.store.tables import read_table

pytestmark = [pytest.mark.workflow, pytest.mark.mirror, pytest.mark.timeout(1200)]


@pytest.fixture
def run_study(new_project, project_root):
    """Return a function that runs a shipped study in a fresh copy of the project and gives its results."""

    def run(name):
        study = yaml.safe_load((project_root / f"config/studies/{name}.yaml").read_text())
        project = new_project(study)
        project.snakemake()
        return project.root / "results" / name

    return run


def test_alice_reaches_its_figures_without_the_corrupt_subject(run_study):
    results = run_study("alice")
    quality = read_table(results / "preprocessed/quality.tsv", ("subject",)).set_index("subject")
    assert "constant" in quality.excluded["33"]
    assert quality.excluded.drop("33").isna().all()
    assert "33" in (results / "report/index.html").read_text()
    scores = read_table(results / "decoding/scores.tsv", ("subject", "seed"))
    group = scores[(scores.level == "group") & (scores.model == "ridge")].set_index(["task", "split"]).score
    assert group["encoding", "unseen_time"] >= 0.29
    assert group["encoding", "unseen_subject"] >= 0.10
    assert group["window_40s", "unseen_subject"] >= 0.57
    assert group["window_40s", "unseen_subjects_averaged"] >= 0.68
    verdicts = read_table(results / "verdicts.tsv", ("subject",))
    assert not (verdicts[verdicts.level == "group"].verdict == "above all controls").any()


def test_the_localizer_names_half_of_its_blocks(run_study):
    results = run_study("studyforrest_localizer")
    scores = read_table(results / "decoding/scores.tsv", ("subject", "seed"))
    row = scores[(scores.model == "nearest_pattern") & (scores.metric == "accuracy")].iloc[0]
    assert row.n == 12
    assert row.score * 12 >= 6


def test_haxby_without_the_speller_reaches_the_baselines(new_project, project_root):
    study = yaml.safe_load((project_root / "config/studies/haxby2001.yaml").read_text())
    # The speller takes four minutes: the study itself runs it, and its figures are in benchmarks/results.
    study["decoding"]["names"] |= {"models": ["lda", "ridge"], "n_permutations": 20}
    project = new_project(study)
    project.snakemake()
    scores = read_table(project.root / "results/haxby2001/decoding/scores.tsv", ("subject", "seed"))
    lda = scores[(scores.model == "lda") & (scores.metric == "accuracy")].set_index("task").score
    assert lda["block"] >= 0.85
    assert lda["volume"] >= 0.60


def test_the_noise_ceilings_of_the_92_pictures(project_root, tmp_path):
    path = project_root / "config/studies/objects92.yaml"
    command = [sys.executable, "-m", "decoders.cli"]
    settings = ["--settings", str(path)]
    run = {"cwd": tmp_path, "check": True, "env": {**os.environ, "PYTHONPATH": str(project_root)}}
    subprocess.run([*command, "manifest", *settings, "--output", "manifest=m.tsv"], **run)
    subprocess.run([*command, "rdms", *settings, "--input", "manifest=m.tsv", "--output", "rdms=r.h5"], **run)
    pictures = ["--output", "pictures=p.h5", "--output", "labels=p.tsv", "--output", "controls=c.h5"]
    subprocess.run([*command, "pictures", *settings, "--input", "manifest=m.tsv", *pictures], **run)
    inputs = ["rdms=r.h5", "pictures=p.h5", "labels=p.tsv", "controls=c.h5"]
    outputs = ["scores=s.tsv", "ceilings=ceilings.tsv", "inference=i.tsv", "models=models.h5"]
    flags = [f for name in inputs for f in ("--input", name)] + [f for name in outputs for f in ("--output", name)]
    subprocess.run([*command, "align", *settings, *flags], **run)
    ceilings = read_table(tmp_path / "ceilings.tsv", ("time",)).set_index(["region", "comparator"])
    for region, low, high in (("EVC", 0.2419, 0.3917), ("IT", 0.4525, 0.5422)):
        assert ceilings.ceiling_low[region, "spearman"] == pytest.approx(low, abs=1e-3)
        assert ceilings.ceiling_high[region, "spearman"] == pytest.approx(high, abs=1e-3)
