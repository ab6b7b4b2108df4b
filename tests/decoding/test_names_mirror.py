"""The reference figures on real recordings: the Haxby slice and the localizer."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn.masking import apply_mask, compute_epi_mask
from nilearn.signal import clean

from decoders.decoding import names_scores as scores
from decoders.decoding.closed_form import DECIDERS
from decoders.decoding.names import closed_form_decisions, collect_samples, permuted_labels
from decoders.decoding.names_halves import block_pattern, paired_blocks
from decoders.decoding.names_speller import leave_one_run_out
from decoders.decoding.nearest_pattern import nearest_pattern
from decoders.decoding.speller_fit import SpellerOptions
from decoders.signal.events import label_volumes, merge_blocks, read_events
from decoders.store.recording import Recording

pytestmark = pytest.mark.mirror
ROOT = Path(os.environ.get("CORTICODE_MIRROR", "/nonexistent"))
N_RUNS, RUN_LENGTH, TR = 12, 121, 2.5
# Each category is shown once per run of 302.5 s, so a shorter period would take the design away.
HIGH_PASS_S = 600.0


def cleaned(series, high_pass_s, tr):
    x = clean(series, t_r=tr, filter="cosine", high_pass=1 / high_pass_s, detrend=False, standardize="zscore_sample")
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def haxby():
    folder = ROOT / "bold_haxby2001_pymvpa"
    image, mask = nib.load(folder / "bold.nii.gz"), nib.load(folder / "mask.nii.gz").get_fdata() > 0
    mask = mask.reshape(40, 20, 1)
    series = np.asarray(image.dataobj, dtype=np.float32).reshape(40, 20, 1, -1)[mask].T
    rows = [line.split() for line in (folder / "attributes_literal.txt").read_text().splitlines()]
    labels = np.array([row[0] for row in rows if row[0] != "labels"], dtype=object)
    runs = []
    for run in range(N_RUNS):
        part = slice(run * RUN_LENGTH, (run + 1) * RUN_LENGTH)
        starts = np.r_[True, labels[part][1:] != labels[part][:-1]]
        groups = np.where(labels[part] == "rest", -1, np.cumsum(starts))
        runs.append(
            Recording(
                cleaned(series[part], HIGH_PASS_S, TR),
                "volume",
                "1",
                task="objects",
                run=f"{run + 1:02d}",
                time=np.arange(RUN_LENGTH) * TR,
                tr=TR,
                conditions=labels[part],
                groups=groups,
                mask=mask,
                affine=image.affine,
            )
        )
    return collect_samples(runs), mask


def accuracies(decisions, samples):
    found = {}
    for unit in ("volume", "block"):
        items = scores.items_of(samples, unit)
        decoded = scores.chosen(decisions, samples, unit)
        found[unit] = float(scores.ratio(scores.tally(items.label, decoded, items, "accuracy")))
        found[f"{unit} cer"] = float(scores.ratio(scores.tally(items.label, decoded, items, "cer")))
    return found


def test_the_slice_is_the_one_described(haxby):
    samples, _ = haxby
    assert samples.x.shape == (864, 530)
    assert len(samples.first) == 96
    assert len(samples.names) == 8


@pytest.mark.parametrize(("model", "volume", "block"), [("lda", 0.60, 0.85), ("ridge", 0.60, 0.79)])
def test_closed_form_figures(haxby, model, volume, block):
    samples, _ = haxby
    found = accuracies(closed_form_decisions(samples, samples.label[None], DECIDERS[model])[0], samples)
    assert found["volume"] >= volume
    assert found["block"] >= block


@pytest.mark.parametrize("model", ["lda", "ridge"])
def test_shuffled_labels_are_at_chance(haxby, model):
    samples, _ = haxby
    labels = permuted_labels(samples, 5, range(len(samples.runs)))
    decisions = closed_form_decisions(samples, labels, DECIDERS[model])
    truths = labels[:, samples.first]
    decoded = scores.chosen(decisions, samples, "block")
    null = scores.null_scores(scores.items_of(samples, "block"), truths, decoded, "accuracy")
    assert null.mean() <= 0.198
    assert null.max() <= 0.23


def test_two_folds_of_the_speller(haxby):
    """Two of twelve folds for time's sake; the study haxby2001 runs all of them."""
    samples, mask = haxby
    import dataclasses

    half = np.isin(samples.run, np.arange(8))
    fields = {key: getattr(samples, key)[half] for key in ("x", "label", "run", "block", "time")}
    # Two runs to test, each with all the others to train on: the rest of the training runs are one "run".
    fields["run"] = np.minimum(fields["run"], 2)
    few = dataclasses.replace(samples, **fields)
    result = leave_one_run_out(few, few.label, mask, SpellerOptions(epochs=20), 0)
    tested = few.run < 2
    assert np.mean(result.decisions.argmax(1)[tested] == few.label[tested]) >= 0.45


def test_localizer_by_the_fixed_method():
    folder = ROOT / "bold_studyforrest_localizer"
    image = nib.load(folder / "sub-02_task-oneback_run-1_bold.nii.gz")
    mask = compute_epi_mask(image)
    x = cleaned(apply_mask(image, mask), 128.0, 2.0)
    blocks = merge_blocks(read_events(folder / "sub-02_task-oneback_run-1_events.tsv"), 2.0)
    times = np.arange(len(x)) * 2.0
    conditions, groups = label_volumes(blocks, times)
    recording = Recording(x, "volume", "02", run="1", time=times, tr=2.0, conditions=conditions, groups=groups)
    samples = collect_samples([recording], lag_s=5.0)
    patterns = np.stack([[block_pattern(samples, block) for block in half] for half in paired_blocks(samples)])
    found = nearest_pattern(patterns[0], patterns[1], 500, np.random.default_rng(0))
    assert found.accuracy >= 6 / 12
    assert found.exact
    assert found.p <= 0.05
