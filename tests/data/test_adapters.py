"""The four registered sets of recordings, against the facts known of them."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from decoders.config import DataSettings
from decoders.data.adapters import alice, cichy92, haxby, localizer
from decoders.data.adapters.common import choose_variant, read_numbers
from decoders.data.manifest import Run, select_runs
from decoders.data.registry import fetch
from decoders.data.stage import ADAPTERS, list_runs
from decoders.errors import InputError

pytestmark = pytest.mark.mirror


def runs_of(name: str, **keys: object) -> list[Run]:
    return list_runs(DataSettings(source="registry", name=name, **keys))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_every_file_of_every_run_is_there(name: str, mirror: Path) -> None:
    for run in runs_of(name):
        assert run.status == "ok"
        assert len(run.sha256) == 64
        for column in ("image", "mask", "sidecar", "events", "confounds", "text"):
            path = run.path(column)  # type: ignore[arg-type]
            assert path is None or path.is_file()


def test_objects92_noise_ceiling(mirror: Path) -> None:
    """Spearman ceilings of the reference numbers: the RDMs, their subjects and their order are right."""
    expected = {"EVC": (0.2419, 0.3917), "IT": (0.4525, 0.5422)}
    runs = runs_of("rsa92_fmri_cichy2014")
    assert [run.subject for run in runs if run.region == "IT"] == [f"{number:02d}" for number in range(1, 16)]
    for region, (low, high) in expected.items():
        ranks = np.array([rankdata(cichy92.load_rdms(run)[0]) for run in runs if run.region == region])
        assert ranks.shape == (15, 4186)
        mean = ranks.mean(0)
        upper = np.mean([np.corrcoef(rank, rankdata(mean))[0, 1] for rank in ranks])
        lower = np.mean([np.corrcoef(rank, rankdata(mean - rank / 15))[0, 1] for rank in ranks])
        assert (lower, upper) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


def test_objects92_rdms_are_condensed_as_scipy_does(mirror: Path) -> None:
    run = runs_of("rsa92_fmri_cichy2014", subjects=("03",))[0]
    assert (run.region, run.stimulus, run.modality) == ("EVC", "objects92", "rdm")
    rdm, names = cichy92.load_rdms(run)
    path = run.path("image")
    assert path is not None
    matrices = np.reshape(json.loads(gzip.decompress(path.read_bytes()))["data"], (15, 92, 92))
    np.testing.assert_allclose(squareform(rdm), matrices[2], atol=1e-8)
    assert (names[0], names[-1], len(names)) == ("92images_00001", "92images_00092", 92)


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip",
        gzip.compress(b"no json", mtime=0),
        gzip.compress(b'{"shape": [1, 92, 92], "data": [1, 2]}', mtime=0),
        gzip.compress(json.dumps({"shape": [1, 2, 2], "data": [0, 1, 1, 0]}).encode(), mtime=0),
        gzip.compress(json.dumps({"shape": [1, 92, 92], "data": list(range(92 * 92))}).encode(), mtime=0),
        gzip.compress(json.dumps({"shape": [1, 92, 92], "data": [float("nan")] * 92**2}).encode(), mtime=0),
    ],
    # Names of their own: two workers must collect the same tests, and gzip writes the time of day.
    ids=["no gzip", "no json", "too few", "other shape", "not symmetric", "not finite"],
)
def test_damaged_rdms_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.gzip").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.gzip"):
        cichy92.load_rdms(Run("a", "01", root=str(tmp_path), image="x.gzip"))


def test_haxby_one_slice(mirror: Path) -> None:
    runs = runs_of("bold_haxby2001_pymvpa")
    assert len(runs) == 12
    assert all((run.tr, run.n_volumes) == (2.5, 121) for run in runs)
    mask, image = runs[0].path("mask"), runs[0].path("image")
    assert mask
    assert image
    voxels = nibabel.load(mask)
    assert int((voxels.get_fdata() > 0).sum()) == 530
    bold = nibabel.load(image)
    assert bold.shape[:3] == voxels.shape == (40, 20, 1)
    np.testing.assert_allclose(bold.affine, voxels.affine)
    assert float(bold.header.get_zooms()[3]) == 2.5


def test_haxby_whole_brain(mirror: Path) -> None:
    run = runs_of("bold_haxby2001_pymvpa", variant="25mm")[0]
    assert run.image.endswith("bold_25mm.nii.gz")
    mask = run.path("mask")
    assert mask
    assert nibabel.load(mask).shape == (6, 10, 10)


def test_haxby_events_are_the_published_labels(mirror: Path, tmp_path: Path) -> None:
    """They agree volume by volume; a shift by one volume in one run is noticed."""
    source = fetch("bold_haxby2001_pymvpa")
    folder = shutil.copytree(source, tmp_path / "haxby", copy_function=shutil.copyfile)
    runs = haxby.read_runs(folder)
    events = folder / runs[4].events
    events.chmod(0o644)
    rows = [line.split("\t") for line in events.read_text().splitlines()]
    shifted = [rows[0]] + [[str(float(row[0]) + 2.5), *row[1:]] for row in rows[1:]]
    events.write_text("\n".join("\t".join(row) for row in shifted) + "\n")
    with pytest.raises(InputError, match="16 other volumes"):
        haxby.check_labels(folder, runs)


def test_localizer(mirror: Path) -> None:
    (run,) = runs_of("bold_studyforrest_localizer")
    assert (run.tr, run.n_volumes, run.subject, run.task) == (2.0, 156, "02", "oneback")
    assert run.sidecar == "sub-02_task-oneback_run-1_bold.json"
    image = run.path("image")
    assert image
    assert float(nibabel.load(image).header.get_zooms()[3]) == run.tr
    with pytest.raises(InputError, match="variant among raw"):
        localizer.read_runs(Path(run.root), "half")


def test_alice(mirror: Path) -> None:
    runs = runs_of("alice_fmri_brennan2016")
    assert len(runs) == 21
    assert all((run.tr, run.n_volumes, run.start_time) == (2.0, 362, 20.0) for run in runs)
    constant = [run.subject for run in runs if np.ptp(alice.read_timecourses(run), axis=0).max() == 0]
    assert constant == ["33"]
    wide = runs_of("alice_fmri_brennan2016", variant="10mm")
    assert wide[0].image == runs[0].image.replace("6mm", "10mm")
    with pytest.raises(InputError, match="6mm, 10mm, found '8mm'"):
        runs_of("alice_fmri_brennan2016", variant="8mm")


def test_alice_tables_have_one_row_per_volume(mirror: Path) -> None:
    run = select_runs(runs_of("alice_fmri_brennan2016"), subject="18")[0]
    assert alice.read_motion(run).shape == (362, 6)
    assert alice.read_sound_power(run).shape == alice.read_word_rate(run).shape == (362,)


def test_alice_predictors_are_aligned_by_dropping_ten_rows(mirror: Path) -> None:
    runs = runs_of("alice_fmri_brennan2016")
    predictors = alice.read_predictors(runs[0].root, 362)
    assert list(predictors.columns) == list(alice.PREDICTORS)
    rate = alice.read_word_rate(runs[0])
    assert np.corrcoef(predictors["rate"], rate)[0, 1] > 0.95


@pytest.mark.parametrize("drop", [0, 1, 5, 9])
def test_alice_predictors_at_another_offset_are_refused(mirror: Path, drop: int) -> None:
    with pytest.raises(InputError, match="Drop 10 rows, where it fits best"):
        alice.read_predictors(fetch("alice_fmri_brennan2016"), 362, drop=drop)


@pytest.mark.parametrize("drop", [-1, 11])
def test_alice_predictors_that_are_too_few(mirror: Path, drop: int) -> None:
    with pytest.raises(InputError, match="Drop the first 10 rows"):
        alice.read_predictors(fetch("alice_fmri_brennan2016"), 362, drop=drop)


def test_alice_motion_of_another_length(mirror: Path) -> None:
    with pytest.raises(InputError, match="360 rows, or 370 with the dropped volumes, found 365"):
        alice.drop_first(np.zeros((365, 6)), 360, Path("rp.txt"))


def test_subjects_that_are_not_there(mirror: Path) -> None:
    assert [run.subject for run in runs_of("alice_fmri_brennan2016", subjects=("18", "23"))] == ["18", "23"]
    with pytest.raises(InputError, match=r"the subject '99'.*Correct data\.subjects"):
        runs_of("alice_fmri_brennan2016", subjects=("18", "99"))


def test_a_set_without_recordings() -> None:
    with pytest.raises(InputError, match="Those with recordings are"):
        runs_of("img_mnist")


def test_tables_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("1 2\n3 4\n")
    assert read_numbers(path, 2).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(InputError, match="3 columns, found 2"):
        read_numbers(path, 3)
    path.write_text("1 two\n")
    with pytest.raises(InputError, match="a table of numbers"):
        read_numbers(path)
    assert choose_variant(None, ("a", "b"), "x") == "a"


def test_a_scan_key_that_is_none(tmp_path: Path) -> None:
    read: Callable[[Path], float] = haxby.repetition_time
    (tmp_path / "k").write_text("TR 2.5\n")
    assert read(tmp_path / "k") == 2.5
    (tmp_path / "k").write_text("TE 0.03\n")
    with pytest.raises(InputError, match="TR <seconds>"):
        read(tmp_path / "k")
