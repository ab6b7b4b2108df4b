"""The real sets, read from the mirror of the public data."""

import subprocess
import sys

import numpy as np
import pytest

from decoders.config import PreprocessSettings
from decoders.data.manifest import Run
from decoders.signal.events import merge_blocks, read_events
from decoders.signal.fmri import prepare_run
from decoders.signal.glm import trial_events, trial_regressors
from decoders.signal.stage_estimate import estimate_trials
from decoders.signal.steps import Steps, warnings_of

pytestmark = pytest.mark.mirror


@pytest.fixture(scope="module")
def haxby(mirror):
    root = mirror / "bold_haxby2001_pymvpa"
    runs = []
    for number in range(1, 13):
        folder = f"haxby2001/sub001/BOLD/task001_run{number:03d}"
        runs.append(
            Run(
                f"run-{number:02d}", "1", run=str(number), root=str(root), image=f"{folder}/bold_1slice.nii.gz",
                mask="mask.nii.gz", events=f"{folder}/bold_events.tsv", confounds=f"{folder}/bold_moest.txt", tr=2.5,
                n_volumes=121,
            )
        )  # fmt: skip
    return runs


def test_haxby_labels_are_those_of_the_published_table(haxby, mirror):
    published = np.loadtxt(mirror / "bold_haxby2001_pymvpa" / "attributes_literal.txt", dtype=str)
    found = []
    for run in haxby:
        recording = prepare_run(run, haxby, PreprocessSettings())
        assert recording.data.shape == (121, 530)
        assert not warnings_of(recording.steps)
        assert recording.groups.max() == 7
        found += [name or "rest" for name in recording.conditions]
        assert 30 < np.median(recording.quality["tsnr"]) < 300
        assert 0 < recording.quality["framewise_displacement"].mean() < 1
    assert found == published[:, 0].tolist()


def test_haxby_without_a_mask_would_hold_constant_voxels(haxby, save, tmp_path):
    """270 voxels of the slice are constant, all outside the mask: with a full mask they are too many."""
    from decoders.errors import InputError
    from decoders.signal.streaming import open_image

    image = open_image(haxby[0].path("image"))
    full = save(tmp_path / "full.nii.gz", np.ones(image.shape, np.uint8), affine=image.affine)
    with pytest.raises(InputError, match=r"at most 5\.0% bad voxels"):
        prepare_run(haxby[0], haxby, PreprocessSettings(mask=str(full)))
    lax = prepare_run(haxby[0], haxby, PreprocessSettings(mask=str(full), max_bad_share=0.4))
    assert lax.data.shape[1] == 800 - 270


def test_haxby_mask_of_another_grid_is_refused(haxby):
    from decoders.errors import InputError

    wrong = haxby[0].path("mask").parent / "haxby2001/sub001/masks/25mm/brain.nii.gz"
    with pytest.raises(InputError, match=r"brain.nii.gz.*\(40, 20, 1\).*\(6, 10, 10\)"):
        prepare_run(haxby[0], haxby, PreprocessSettings(mask=str(wrong)))


@pytest.fixture(scope="module")
def localizer(mirror):
    name = "sub-02_task-oneback_run-1"
    return Run(
        "sub-02_run-1", "02", task="oneback", root=str(mirror / "bold_studyforrest_localizer"),
        image=f"{name}_bold.nii.gz", sidecar=f"{name}_bold.json", events=f"{name}_events.tsv", tr=2.0, n_volumes=156,
    )  # fmt: skip


def test_localizer_has_twelve_blocks_and_strong_responses(localizer):
    """The published figure: an all-stimuli GLM after 5 mm smoothing has a largest z of 13.4."""
    recording = prepare_run(localizer, [localizer], PreprocessSettings(smoothing_fwhm_mm=5.0))
    events = read_events(localizer.path("events"))
    blocks = merge_blocks(events, 2.0)
    assert len(blocks) == 12
    assert recording.groups.max() == 11
    assert sorted(set(recording.conditions)) == ["", "body", "face", "house", "object", "scene", "scramble"]
    assert 20_000 < recording.data.shape[1] < 70_000
    response = trial_regressors(trial_events(events), recording.time).sum(axis=1)
    basis = recording.quality["nuisance"]
    response -= basis @ (basis.T @ response)
    r = response @ recording.data / np.linalg.norm(response) / np.sqrt(156)
    t = r * np.sqrt((156 - basis.shape[1] - 1) / (1 - r**2))
    assert 10 < t.max() < 25
    estimates = estimate_trials(recording, events, PreprocessSettings(estimates="lss"), localizer, Steps("r"))
    assert estimates.data.shape == (192, recording.data.shape[1])
    assert np.isfinite(estimates.data).all()
    wanted = PreprocessSettings(estimates="blocks", estimate_lag_s=5.0)
    means = estimate_trials(recording, events, wanted, localizer, Steps("r"))
    assert means.data.shape[0] == 12
    assert means.conditions.tolist() == [block.condition for block in blocks]


def test_localizer_memory_is_far_below_twice_the_image(localizer):
    """Whole process: peak minus what the imports take, against 2 x 140 MB of the 4-D image as float32."""
    code = (
        "import resource, sys\n"
        "from decoders.config import PreprocessSettings\nfrom decoders.data.manifest import Run\n"
        "from decoders.signal.fmri import prepare_run\nimport nilearn.masking\n"
        f"run = {localizer!r}\n".replace("nan", "float('nan')")
        + "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "recording = prepare_run(run, [run], PreprocessSettings())\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print((after - before) * 1024, recording.data.nbytes)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown, matrix = (int(word) for word in done.stdout.split())
    image = 80 * 80 * 35 * 156 * 4
    assert grown < matrix + 60e6 < image


@pytest.fixture(scope="module")
def alice(mirror):
    root = mirror / "alice_fmri_brennan2016" / "alice_data_shared"
    subjects = sorted(path.name.split("-")[0] for path in (root / "6mm").iterdir())
    return [
        Run(
            f"sub-{name[1:]}", name[1:], task="alice", modality="region", root=str(root),
            image=f"6mm/{name}-timecourses.txt", confounds=next(root.glob(f"{name}-rp_*")).name,
            region="LATL,RATL,LPTL,LIPL,LPreM,LIFG", tr=2.0, n_volumes=362, start_time=20.0,
        )
        for name in subjects
    ]  # fmt: skip


def test_alice_excludes_s33_and_goes_on(alice):
    settings = PreprocessSettings(representation="region")
    recordings = {run.subject: prepare_run(run, alice, settings) for run in alice}
    excluded = [subject for subject, recording in recordings.items() if recording.excluded]
    assert excluded == ["33"]
    assert "all regions are constant" in recordings["33"].excluded
    usable = [recording for recording in recordings.values() if not recording.excluded]
    assert len(usable) == 20
    for recording in usable:
        assert recording.data.shape == (362, 6)
        assert recording.time[0] == 20.0
        assert recording.time[-1] == 742.0
        assert recording.names.tolist() == ["LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG"]
        assert recording.quality["framewise_displacement"].shape == (362,)


def test_alice_listeners_agree_as_published(alice):
    """Leave-one-out inter-subject correlation: .24-.25 without high-pass, highest in LPTL; the filter raises it."""
    found = {}
    for period in (None, 128.0):
        settings = PreprocessSettings(representation="region", high_pass_s=period)
        usable = [recording for run in alice if not (recording := prepare_run(run, alice, settings)).excluded]
        stack = np.stack([recording.data for recording in usable])
        others = stack.sum(axis=0) - stack
        r = [[np.corrcoef(stack[s, :, v], others[s, :, v])[0, 1] for v in range(6)] for s in range(20)]
        found[period] = np.mean(r, axis=0)
        assert found[period].argmax() == 2
    assert found[None].mean() == pytest.approx(0.242, abs=0.001)
    assert found[128.0].mean() == pytest.approx(0.2725, abs=0.001)
