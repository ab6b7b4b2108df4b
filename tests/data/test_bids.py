import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decoders.config import DataSettings
from decoders.data.bids import read_bids
from decoders.data.manifest import Run, read_manifest, write_manifest
from decoders.errors import InputError
from decoders.store.atomic import sha256_of

TR = {"RepetitionTime": 2.0}
EVENTS = "onset\tduration\ttrial_type\n0\t1\tface\n"
Bids = Callable[..., Path]


def read(root: Path, **keys: object) -> list[Run]:
    return read_bids(DataSettings(source="bids", root=str(root), **keys))  # type: ignore[arg-type]


def one_run(root: Path, **keys: object) -> Run:
    (run,) = read(root, **keys)
    return run


def test_a_raw_run(bids: Bids) -> None:
    root = bids(
        {
            "sub-01/func/sub-01_task-faces_run-01_bold.nii.gz": 6,
            "sub-01/func/sub-01_task-faces_run-01_bold.json": TR,
            "sub-01/func/sub-01_task-faces_run-01_events.tsv": EVENTS,
            "sub-01/anat/sub-01_T1w.nii.gz": 1,
            "README": "hello",
            ".hidden/sub-09_bad name_bold.nii.gz": "",
        }
    )
    run = one_run(root)
    assert (run.run_id, run.subject, run.session, run.task, run.run) == (
        "sub-01_task-faces_run-01",
        "01",
        "",
        "faces",
        "01",
    )
    assert (run.modality, run.tr, run.n_volumes, run.start_time) == ("bold", 2.0, 6, 0.0)
    image, events, sidecar = run.path("image"), run.path("events"), run.path("sidecar")
    assert image
    assert events
    assert sidecar
    assert image == root / "sub-01/func/sub-01_task-faces_run-01_bold.nii.gz"
    assert events.name.endswith("_events.tsv")
    assert sidecar.exists()
    assert run.sha256 == sha256_of(image)
    assert run.confounds == run.mask == run.truth == run.text == ""


def test_sidecars_and_events_are_inherited_and_the_closest_wins(bids: Bids) -> None:
    root = bids(
        {
            "task-a_bold.json": {"RepetitionTime": 3.0, "EchoTime": 0.03},
            "task-a_events.tsv": EVENTS,
            "task-b_bold.json": {"RepetitionTime": 9.0},
            "sub-01/ses-1/sub-01_ses-1_bold.json": {"RepetitionTime": 2.5},
            "sub-01/ses-1/func/sub-01_ses-1_task-a_bold.nii.gz": 4,
            "sub-01/ses-1/func/sub-01_ses-1_task-a_bold.json": {"EchoTime": 0.02},
            "sub-02/ses-1/func/sub-02_ses-1_task-a_bold.nii": 4,
            "sub-02/ses-1/func/sub-02_ses-1_task-a_events.tsv": EVENTS,
        }
    )
    first, second = read(root)
    assert (first.tr, first.sidecar, first.events) == (2.5, "sub-01/ses-1/sub-01_ses-1_bold.json", "task-a_events.tsv")
    assert (second.tr, second.sidecar) == (3.0, "task-a_bold.json")
    assert second.events == "sub-02/ses-1/func/sub-02_ses-1_task-a_events.tsv"


def test_filters(bids: Bids) -> None:
    files = {
        f"sub-{subject}/ses-{session}/func/sub-{subject}_ses-{session}_task-{task}_bold.nii.gz": 3
        for subject in ("01", "02")
        for session in ("a", "b")
        for task in ("x", "y")
    }
    root = bids({"sub-01/sub-01_bold.json": TR, "sub-02/sub-02_bold.json": TR, **files})
    assert len(read(root)) == 8
    assert [run.run_id for run in read(root, subjects=("02",), sessions=("b",), tasks=("x",))] == [
        "sub-02_ses-b_task-x"
    ]
    with pytest.raises(InputError, match=r"the label '03', found 01, 02. Correct data.subjects"):
        read(root, subjects=("03",))
    with pytest.raises(InputError, match=r"data.tasks"):
        read(root, tasks=("z",))
    with pytest.raises(InputError, match=r"data.sessions"):
        read(root, sessions=("c",))


def test_a_repetition_time_that_is_stated_nowhere(bids: Bids) -> None:
    root = bids({"sub-01/func/sub-01_task-a_bold.nii.gz": 3, "task-b_bold.json": TR})
    with pytest.raises(InputError, match=r"sub-01_task-a_bold.nii.gz: expected a sidecar that states RepetitionTime"):
        read(root)


@pytest.mark.parametrize("value", [2000, 0, -1, "2.0", None, True, float("nan")])
def test_a_repetition_time_that_is_none(bids: Bids, value: object) -> None:
    root = bids({"sub-01/func/sub-01_task-a_bold.nii.gz": 3, "task-a_bold.json": {"RepetitionTime": value}})
    with pytest.raises(InputError, match="in seconds"):
        read(root)


def test_a_sidecar_that_is_no_json(bids: Bids) -> None:
    root = bids({"sub-01/func/sub-01_task-a_bold.nii.gz": 3, "task-a_bold.json": "{RepetitionTime: 2"})
    with pytest.raises(InputError, match=r"task-a_bold.json: expected a JSON object"):
        read(root)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sub-01_task-a_bold.nii.gz", "sub-01_task-a_bold.nii"),
        ("sub-01_task-a_run-1_bold.nii.gz", "sub-01_task-a_run-01_bold.nii.gz"),
    ],
)
def test_two_files_that_claim_one_run_are_both_named(bids: Bids, first: str, second: str) -> None:
    root = bids({f"sub-01/func/{first}": 3, f"sub-01/func/{second}": 3, "task-a_bold.json": TR})
    with pytest.raises(InputError) as raised:
        read(root)
    assert first in str(raised.value)
    assert second in str(raised.value)


def test_two_events_tables_that_apply_equally(bids: Bids) -> None:
    root = bids(
        {
            "sub-01/func/sub-01_task-a_run-1_bold.nii.gz": 3,
            "task-a_bold.json": TR,
            "task-a_events.tsv": EVENTS,
            "run-1_events.tsv": EVENTS,
        }
    )
    with pytest.raises(
        InputError, match=r"run-1_events.tsv and task-a_events.tsv|task-a_events.tsv and run-1_events.tsv"
    ):
        read(root)


@pytest.mark.parametrize(
    "name",
    [
        "sub-01/func/sub-01_task-a..b_bold.nii.gz",
        "sub-01/func/sub-01_task-a b_bold.nii.gz",
        "sub-01/func/sub-01_task-a;rm_bold.nii.gz",
        "sub-0 1/func/sub-01_task-a_bold.nii.gz",
        "sub-..1/func/sub-..1_task-a_bold.nii.gz",
        "sub-01/ses-a b/func/sub-01_task-a_bold.nii.gz",
    ],
)
def test_labels_that_are_not_bids_are_refused(bids: Bids, name: str) -> None:
    root = bids({name: "", "task-a_bold.json": TR})
    with pytest.raises(InputError, match="BIDS"):
        read(root)


def test_a_file_in_the_folder_of_another_subject(bids: Bids) -> None:
    root = bids({"sub-01/func/sub-02_task-a_bold.nii.gz": 3, "task-a_bold.json": TR})
    with pytest.raises(InputError, match="files of sub-01, found one of sub-02"):
        read(root)


def test_folders_that_hold_no_study(bids: Bids, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"sub-<label>"):
        read(bids({"README": ""}, "empty"))
    with pytest.raises(InputError, match=r"_bold.nii.gz, found none"):
        read(bids({"sub-01/func/sub-01_task-a_events.tsv": EVENTS}, "no_images"))


def test_images_that_are_none(bids: Bids, tmp_path: Path) -> None:
    damaged = bids({"sub-01/func/sub-01_task-a_bold.nii.gz": "no image", "task-a_bold.json": TR}, "damaged")
    with pytest.raises(InputError, match="a readable image"):
        read(damaged)
    flat = bids({"sub-01/func/sub-01_task-a_bold.nii.gz": 1, "task-a_bold.json": TR}, "flat")
    with pytest.raises(InputError, match="4 axes, found 3 axes, 3 x 4 x 2"):
        read(flat)
    link = bids({"sub-01/func/sub-01_task-b_bold.nii.gz": 3, "task-a_bold.json": TR}, "link")
    (link / "sub-01/func/sub-01_task-b_bold.nii.gz").unlink()
    (link / "sub-01/func/sub-01_task-a_bold.nii.gz").symlink_to(tmp_path / "not_downloaded")
    with pytest.raises(InputError, match="datalad get"):
        read(link)


def test_several_echoes_are_refused(bids: Bids) -> None:
    files = {f"sub-01/func/sub-01_task-a_echo-{echo}_bold.nii.gz": 3 for echo in (1, 2)}
    with pytest.raises(InputError, match="Combine the echoes"):
        read(bids({**files, "task-a_bold.json": TR}))


def test_participants_without_files_are_named(bids: Bids, caplog: pytest.LogCaptureFixture) -> None:
    files = {"sub-01/func/sub-01_task-a_bold.nii.gz": 3, "task-a_bold.json": TR}
    root = bids({**files, "participants.tsv": "participant_id\tage\nsub-01\t20\nsub-02\t30\n"})
    with caplog.at_level(logging.WARNING, logger="corticode"):
        read(root)
    assert "lists 02, who have no files" in caplog.text
    (root / "participants.tsv").write_text("id\n1\n")
    with pytest.raises(InputError, match="participant_id"):
        read(root)


FMRIPREP = {
    "sub-01/func/sub-01_task-a_run-01_space-MNI152NLin6Asym_res-2_desc-preproc_bold.nii.gz": 4,
    "sub-01/func/sub-01_task-a_run-01_space-MNI152NLin6Asym_res-2_desc-preproc_bold.json": {"RepetitionTime": 2.0},
    "sub-01/func/sub-01_task-a_run-01_space-MNI152NLin6Asym_res-2_desc-brain_mask.nii.gz": 1,
    "sub-01/func/sub-01_task-a_run-01_desc-confounds_timeseries.tsv": "trans_x\n0\n0\n0\n0\n",
    "sub-01/func/sub-01_task-a_run-01_hemi-R_space-fsaverage5_bold.func.gii": 4,
    "sub-01/func/sub-01_task-a_run-01_hemi-L_space-fsaverage5_bold.func.gii": 4,
    "sub-01/func/sub-01_task-a_run-01_space-fsLR_den-91k_bold.dtseries.nii": 4,
    "sub-01/func/sub-01_task-a_run-01_desc-coreg_boldref.nii.gz": 1,
    "sub-01/figures/sub-01_task-a_run-01_desc-carpetplot_bold.svg": "",
    "sub-01.html": "",
}
RAW = {
    "sub-01/func/sub-01_task-a_run-01_bold.nii.gz": 4,
    "sub-01/func/sub-01_task-a_run-01_events.tsv": EVENTS,
    "task-a_bold.json": {"RepetitionTime": 2.0},
}


def fmriprep(bids: Bids, inside: bool, without: tuple[str, ...] = ()) -> tuple[Path, Path]:
    folder = "raw/derivatives/fmriprep" if inside else "elsewhere/fmriprep"
    kept = {name: content for name, content in FMRIPREP.items() if not any(part in name for part in without)}
    return bids(RAW), bids(kept, folder)


@pytest.mark.parametrize("inside", [True, False])
def test_derivatives_in_place_of_raw_images(bids: Bids, inside: bool, caplog: pytest.LogCaptureFixture) -> None:
    root, derivatives = fmriprep(bids, inside)
    with caplog.at_level(logging.INFO, logger="corticode"):
        run = one_run(root, derivatives=str(derivatives), space="MNI152NLin6Asym")
    assert "in place of the raw images" in caplog.text
    assert (run.run_id, run.modality, run.space) == ("sub-01_task-a_run-01", "bold", "MNI152NLin6Asym")
    for column, name in (
        ("image", "res-2_desc-preproc_bold.nii.gz"),
        ("mask", "res-2_desc-brain_mask.nii.gz"),
        ("sidecar", "res-2_desc-preproc_bold.json"),
        ("confounds", "desc-confounds_timeseries.tsv"),
        ("events", "sub-01_task-a_run-01_events.tsv"),
    ):
        path = run.path(column)  # type: ignore[arg-type]
        assert path is not None
        assert path.is_file()
        assert path.name.endswith(name)


def test_derivatives_are_named_relative_to_the_bids_folder(bids: Bids) -> None:
    root, _ = fmriprep(bids, inside=True)
    run = one_run(root, derivatives="derivatives/fmriprep", space="MNI152NLin6Asym")
    assert run.image.startswith("derivatives/fmriprep/sub-01/")


def test_surfaces(bids: Bids) -> None:
    root, derivatives = fmriprep(bids, inside=True)
    run = one_run(root, derivatives=str(derivatives), space="fsaverage5")
    assert [path.name.split("_hemi-")[1][0] for path in run.paths("image")] == ["L", "R"]
    assert (run.modality, run.n_volumes, run.mask) == ("surface", 4, "")
    # The derivative has no sidecar of its own: the raw one states the time.
    assert (run.tr, run.sidecar) == (2.0, "task-a_bold.json")
    gray = one_run(root, derivatives=str(derivatives), space="fsLR")
    assert (gray.modality, gray.n_volumes) == ("surface", 4)


def test_one_hemisphere_is_not_enough(bids: Bids) -> None:
    root, derivatives = fmriprep(bids, inside=True, without=("hemi-R",))
    with pytest.raises(InputError, match=r"both hemispheres \(hemi-L and hemi-R\), found L"):
        read(root, derivatives=str(derivatives), space="fsaverage5")


def test_hemispheres_of_different_lengths(bids: Bids) -> None:
    root, derivatives = fmriprep(bids, inside=True, without=("hemi-R",))
    bids({"sub-01/func/sub-01_task-a_run-01_hemi-R_space-fsaverage5_bold.func.gii": 3}, "raw/derivatives/fmriprep")
    with pytest.raises(InputError, match="as many volumes in both hemispheres, found 4 and 3"):
        read(root, derivatives=str(derivatives), space="fsaverage5")


def test_the_space_must_be_chosen_and_be_there(bids: Bids) -> None:
    root, derivatives = fmriprep(bids, inside=True)
    with pytest.raises(InputError, match=r"found MNI152NLin6Asym, fsLR, fsaverage5. Choose one with data.space"):
        read(root, derivatives=str(derivatives))
    with pytest.raises(InputError, match="in the space 'T1w'"):
        read(root, derivatives=str(derivatives), space="T1w")


def test_two_resolutions_of_one_space(bids: Bids) -> None:
    root, derivatives = fmriprep(bids, inside=True)
    extra = {"sub-01/func/sub-01_task-a_run-01_space-MNI152NLin6Asym_res-1_desc-preproc_bold.nii.gz": 4}
    bids(extra, "raw/derivatives/fmriprep")
    with pytest.raises(InputError, match="one file per run"):
        read(root, derivatives=str(derivatives), space="MNI152NLin6Asym")


def test_planted_truth_and_masks(bids: Bids) -> None:
    root = bids(
        {
            **RAW,
            "sub-01/func/sub-01_task-b_bold.nii.gz": 4,
            "task-b_bold.json": TR,
            "derivatives/truth/sub-01/func/sub-01_task-a_desc-planted_mask.nii.gz": 1,
            "derivatives/truth/sub-01/func/sub-01_task-a_desc-r_statmap.nii.gz": 1,
            "derivatives/truth/sub-01/anat/sub-01_label-EVC_mask.nii.gz": 1,
            "derivatives/truth/dataset_description.json": {"Name": "truth"},
            "derivatives/masks/sub-01/sub-01_desc-brain_mask.nii.gz": 1,
        }
    )
    planted, plain = read(root)
    assert planted.truth == "derivatives/truth/sub-01/func/sub-01_task-a_desc-planted_mask.nii.gz"
    assert planted.mask == plain.mask == "derivatives/masks/sub-01/sub-01_desc-brain_mask.nii.gz"
    assert plain.truth == ""


label = st.from_regex(r"[A-Za-z0-9]{1,4}", fullmatch=True)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_tree_of_runs_is_read_whole(
    bids: Bids, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever subjects, sessions, tasks and runs there are: each image is one row, with its own files."""
    subjects = data.draw(st.lists(label, min_size=1, max_size=3, unique=True))
    sessions = data.draw(st.lists(label, max_size=2, unique=True))
    tasks = data.draw(st.lists(label, min_size=1, max_size=2, unique=True))
    n_runs = data.draw(st.integers(0, 2))
    with_events = data.draw(st.booleans())
    folder = tmp_path_factory.mktemp("tree").as_posix()
    files: dict[str, object] = {"acq-none_bold.json": TR, **{f"task-{task}_bold.json": TR for task in tasks}}
    expected = []
    for subject in subjects:
        for session in sessions or [""]:
            for task in tasks:
                for run in [f"{number:02d}" for number in range(1, n_runs + 1)] or [""]:
                    pairs = (("sub", subject), ("ses", session), ("task", task), ("run", run))
                    stem = "_".join(f"{key}-{value}" for key, value in pairs if value)
                    place = "/".join([f"sub-{subject}", *([f"ses-{session}"] if session else []), "func", stem])
                    files |= {f"{place}_bold.nii": 2} | ({f"{place}_events.tsv": EVENTS} if with_events else {})
                    expected.append((stem, subject, session, task, run, f"{place}_bold.nii"))
    root = bids(files, folder)
    runs = read(root)
    found = [(run.run_id, run.subject, run.session, run.task, run.run, run.image) for run in runs]
    assert sorted(found) == sorted(expected)
    assert all(
        bool(run.events) == with_events and Path(run.events).stem[: len(run.run_id)] in ("", run.run_id) for run in runs
    )
    write_manifest(root / "manifest.tsv", runs)
    assert [repr(run) for run in read_manifest(root / "manifest.tsv")] == [
        repr(run) for run in sorted(runs, key=lambda run: run.run_id)
    ]
