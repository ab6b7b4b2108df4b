import json
import tracemalloc
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from nilearn.signal import clean

from decoders.config import PreprocessSettings
from decoders.errors import InputError
from decoders.signal.fmri import prepare_run
from decoders.signal.steps import parameter_of, warnings_of

VOLUME = PreprocessSettings()


def prepare(study, settings=VOLUME, **options):
    return prepare_run(study.run, [study.run], settings, **options)


def said(call, *parts):
    with pytest.raises(InputError) as error:
        call()
    for part in parts:
        assert part in str(error.value), str(error.value)


def test_a_plain_run(study):
    recording = prepare(study)
    truth = clean(
        study.data[study.mask].T.astype(np.float64), detrend=False, standardize=False, filter="cosine",
        high_pass=1 / 128, t_r=2.0,
    )  # fmt: skip
    truth = (truth - truth.mean(axis=0)) / (truth - truth.mean(axis=0)).std(axis=0)
    assert np.abs(recording.data - truth).max() < 1e-3
    assert (recording.kind, recording.axis, recording.unit, recording.tr) == ("volume", "time", "z", 2.0)
    assert (recording.mask == study.mask).all()
    assert recording.time.tolist() == (2.0 * np.arange(60)).tolist()
    assert (recording.subject, recording.task, recording.run) == ("01", "x", "1")
    names = [entry["step"] for entry in recording.steps]
    assert names == ["space", "mask", "read", "timing", "project out", "standardize", "features"]
    assert "native space" in recording.steps[0]["why"]
    assert "fMRIPrep-style" in recording.steps[0]["why"]
    assert all(entry["why"] for entry in recording.steps)
    assert json.dumps(recording.steps)


def test_the_same_run_gives_the_same_bits(study):
    assert prepare(study).data.tobytes() == prepare(study).data.tobytes()


def test_dropped_volumes_move_time_events_and_confounds(study, rng):
    motion = np.cumsum(rng.standard_normal((60, 6)), axis=0) * 0.01
    np.savetxt(study.root / "rp_bold.txt", motion)
    study.events([(8.0, 4.0, "a"), (100.0, 10.0, "b")])
    study.change(confounds="rp_bold.txt", start_time=-3.0)
    recording = prepare(study, PreprocessSettings(drop_volumes=5, confounds=("motion6",)))
    assert recording.data.shape[0] == 55
    assert recording.time[0] == 7.0
    assert np.flatnonzero(recording.conditions == "b").tolist() == [45, 46, 47, 48, 49]
    assert np.flatnonzero(recording.conditions == "a").tolist() == [0]
    assert recording.quality["framewise_displacement"].shape == (55,)
    assert np.allclose(
        recording.quality["framewise_displacement"][0],
        np.abs(np.diff(motion, axis=0))[4] @ [1, 1, 1, 50, 50, 50],
    )
    basis = recording.quality["nuisance"]
    kept = motion[5:] - motion[5:].mean(axis=0)
    assert np.abs(kept - basis @ (basis.T @ kept)).max() < 1e-9


def test_rows_of_volumes_that_were_dropped_before(study, rng):
    np.savetxt(study.root / "rp_bold.txt", rng.standard_normal((70, 6)) * 0.01)
    study.change(confounds="rp_bold.txt", start_time=20.0)
    recording = prepare(study)
    assert parameter_of(recording.steps, "confound rows left out", "n") == 10
    assert recording.time[0] == 20.0
    study.change(start_time=float("nan"))
    said(lambda: prepare(study), "60 rows", "70", "rp_bold.txt")


def test_without_standardize_units_stay(study):
    recording = prepare(study, PreprocessSettings(standardize=False))
    assert recording.unit == "a.u."
    assert 5 < recording.data.std() < 20
    assert np.abs(recording.data.mean(axis=0)).max() < 1e-3


def test_tsnr_is_taken_before_the_filter(study):
    recording = prepare(study)
    assert 70 < np.median(recording.quality["tsnr"]) < 140  # 1000 over 10


def test_a_mask_is_computed_once_per_subject(tmp_path, rng, save, study):
    x, y, z = np.meshgrid(*[np.arange(20) - 9.5] * 3, indexing="ij")
    ball = x**2 + y**2 + z**2 < 50
    runs = []
    for number in (1, 2):
        data = rng.normal(30, 5, (*ball.shape, 12))
        data[ball] += 1000 + 40 * number * rng.standard_normal((ball.sum(), 1))
        save(tmp_path / f"run{number}.nii.gz", data.astype(np.float32))
        runs.append(replace(study.run, run_id=f"r{number}", run=str(number), image=f"run{number}.nii.gz", mask=""))
    masks = [prepare_run(run, runs, VOLUME).mask for run in runs]
    assert (masks[0] == masks[1]).all()
    assert masks[0].sum() == pytest.approx(ball.sum(), rel=0.2)
    alone = prepare_run(runs[1], [], VOLUME)
    assert parameter_of(alone.steps, "mask", "run") == "run2.nii.gz"


# Bad input: each a sentence with file, expectation, finding and remedy.


def test_mask_with_another_affine(study, save, affine):
    affine[1, 3] += 3.5
    save(study.root / "mask.nii.gz", study.mask.astype(np.uint8), affine=affine)
    said(lambda: prepare(study), "mask.nii.gz", "on the grid of", "bold.nii.gz", "affine [", "Resample")


def test_tr_that_disagrees_between_header_and_sidecar(study):
    (study.root / "bold.json").write_text('{"RepetitionTime": 1.79}')
    said(lambda: prepare(study), "bold.nii.gz", "2 s in the header, 1.79 s in the sidecar", "data.tr")
    recording = prepare(study, tr=1.79)
    assert recording.tr == 1.79
    assert "data.tr chose 1.79 s" in warnings_of(recording.steps)[0]
    said(lambda: prepare(study, tr=1.5), "1.5 s (data.tr)")
    study.change(tr=2.5)
    (study.root / "bold.json").write_text('{"RepetitionTime": 2.0}')
    said(lambda: prepare(study), "2.5 s in the manifest")


def test_events_beyond_the_run(study):
    study.events([(10, 2, "face"), (150, 2, "house")])
    said(lambda: prepare(study), "events.tsv", "'house'", "150 to 152 s", "120 s", "60 volumes of 2 s")


@pytest.mark.parametrize("part", [0.5, 0.98])
def test_truncated_image(study, part):
    path = study.root / "bold.nii.gz"
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    assert nib.load(path).shape == (7, 6, 5, 60)  # the header alone looks well
    said(lambda: prepare(study), "bold.nii.gz", "60 whole volumes", "download the file again")


def test_missing_sidecar(study):
    study.change(sidecar="")
    said(lambda: prepare(study, needs_sidecar=True), "bold.json", "JSON sidecar", "data.tr")
    assert prepare(study, needs_sidecar=True, tr=2.0).tr == 2.0
    assert prepare(study).tr == 2.0
    study.change(sidecar="gone.json")
    said(lambda: prepare(study), "gone.json", "no such file")


def test_non_finite_and_constant_voxels(study):
    study.data[0, 0, 0] = np.nan  # outside
    study.data[2, 2, 2, 7] = np.inf
    study.data[3, 3, 3] = 1000
    study.write()
    recording = prepare(study)
    assert recording.mask.sum() == study.mask.sum() - 2
    assert recording.data.shape[1] == recording.mask.sum()
    assert "1 of 60 voxels in the mask are not finite, 1 are constant" in warnings_of(recording.steps)[0]
    assert np.isfinite(recording.data).all()
    assert parameter_of(recording.steps, "features", "n_bad") == 2
    study.data[1:3] = 0
    study.write()
    said(lambda: prepare(study), "bold.nii.gz", "at most 5.0%", "max_bad_share")


@pytest.mark.parametrize("mask", ["mask.nii.gz", ""])
def test_a_constant_run_is_excluded_and_the_study_goes_on(study, mask):
    study.data[:] = 0
    study.write()
    study.change(mask=mask)
    recording = prepare(study)
    assert "constant" in recording.excluded
    assert recording.data.size == 0
    assert "the study goes on without it" in warnings_of(recording.steps)[0]


def test_a_pure_drift_is_excluded_too(study):
    study.data[study.mask] = 1000 + np.cos(np.pi * (np.arange(60) + 0.5) / 60)
    study.write()
    assert "drift" in prepare(study).excluded


def test_a_run_that_the_manifest_excludes(study):
    study.change(status="excluded", reason="asleep", image="")
    assert prepare(study).excluded == "asleep"


def test_too_many_confounds(study, rng):
    lines = ["\t".join(f"c{i}" for i in range(80))] + ["\t".join(map(str, row)) for row in rng.random((60, 80))]
    (study.root / "confounds.tsv").write_text("\n".join(lines))
    study.change(confounds="confounds.tsv")
    wanted = tuple(f"c{i}" for i in range(80))
    said(lambda: prepare(study, PreprocessSettings(confounds=wanted)), "60 independent columns for 60 volumes")
    some = prepare(study, PreprocessSettings(confounds=wanted[:40]))
    assert "42 of 60 degrees of freedom" in warnings_of(some.steps)[0]


def test_what_the_settings_ask_and_the_data_lack(study):
    said(lambda: prepare(study, PreprocessSettings(confounds=("motion6",))), "motion6", "no table", "bold.nii.gz")
    surface = PreprocessSettings(representation="surface")
    said(lambda: prepare(study, surface), "representation volume or region for bold data", "'surface'")
    said(lambda: prepare(study, PreprocessSettings(representation="region")), "preprocess.rois")
    study.change(n_volumes=61)
    said(lambda: prepare(study), "61 volumes (manifest)", "60")
    study.change(n_volumes=60, image="")
    said(lambda: prepare(study), "a file of the run", study.run.run_id)


def test_volume_timing_is_refused(study):
    (study.root / "bold.json").write_text('{"RepetitionTime": 2.0, "VolumeTiming": [0, 2, 5]}')
    said(lambda: prepare(study), "VolumeTiming")


# Other representations.


def test_fmriprep_like_derivatives(study, rng):
    """MNI space, a brain mask, a confounds table, StartTime: as fMRIPrep writes them."""
    (study.root / "bold.json").write_text('{"RepetitionTime": 2.0, "StartTime": 0.95}')
    header = "\t".join(["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z", "std_dvars", "a_comp_cor_00"])
    rows = rng.standard_normal((60, 8)) * 0.01
    lines = [
        "\t".join("n/a" if (i, j) == (0, 6) else f"{v:.6f}" for j, v in enumerate(row)) for i, row in enumerate(rows)
    ]
    (study.root / "c.tsv").write_text("\n".join([header, *lines]))
    study.change(confounds="c.tsv", space="MNI152NLin2009cAsym")
    recording = prepare(study, PreprocessSettings(confounds=("motion24", "compcor", "scrub")), needs_sidecar=True)
    assert parameter_of(recording.steps, "timing", "slice_time") == 0.95
    assert parameter_of(recording.steps, "project out", "rank") == 1 + 1 + 24 + 1
    assert recording.steps[0]["space"] == "MNI152NLin2009cAsym"


def test_regions_of_a_run(study, save):
    part = study.mask.copy()
    part[4:] = False
    save(study.root / "roi-01.nii.gz", part.astype(np.uint8))
    settings = PreprocessSettings(representation="region", rois={"A": str(study.root / "roi-{subject}.nii.gz")})
    recording = prepare(study, settings)
    assert recording.kind == "region"
    assert recording.names.tolist() == ["A"]
    assert recording.mask is None
    assert recording.data.shape == (60, 1)
    assert recording.data.std() == pytest.approx(1, abs=1e-5)
    smooth = settings.model_copy(update={"smoothing_fwhm_mm": 5.0})
    said(lambda: prepare(study, smooth), "smoothing_fwhm_mm")


def test_region_tables_name_what_is_constant(study, rng):
    values = rng.standard_normal((60, 3))
    values[:, 1] = 4
    np.savetxt(study.root / "table.txt", values)
    study.change(modality="region", image="table.txt", region="LATL,RATL,LIFG", tr=2.0, sidecar="")
    recording = prepare(study, PreprocessSettings(representation="region"), needs_sidecar=False)
    assert recording.names.tolist() == ["LATL", "LIFG"]
    assert "RATL" in warnings_of(recording.steps)[0]
    said(lambda: prepare(study), "Set preprocess.representation: region")
    study.change(tr=float("nan"))
    said(lambda: prepare(study, PreprocessSettings(representation="region")), "a TR in the header or the sidecar")
    np.savetxt(study.root / "table.txt", values * 0)
    excluded = prepare(study, PreprocessSettings(representation="region"))
    assert "all regions" in excluded.excluded
    assert excluded.kind == "region"


def test_surface_runs(study, rng):
    for side in "LR":
        image = nib.GiftiImage()
        for _ in range(60):
            image.add_gifti_data_array(nib.gifti.GiftiDataArray(rng.standard_normal(30).astype(np.float32)))
        nib.save(image, study.root / f"a_hemi-{side}_bold.func.gii")
    study.change(modality="surface", image="a_hemi-L_bold.func.gii;a_hemi-R_bold.func.gii", mask="")
    recording = prepare(study, PreprocessSettings(representation="surface"))
    assert recording.kind == "surface"
    assert recording.data.shape == (60, 60)
    assert recording.names[30] == "R:0"


def test_peak_memory_is_that_of_the_masked_matrix(tmp_path, rng, save, study):
    """Reading, cleaning and z-scoring hold one matrix and a few volumes, not the 4-D image twice."""
    shape, n = (40, 40, 20), 150
    mask = np.zeros(shape, bool)
    mask[4:-4, 4:-4] = True
    save(tmp_path / "big.nii.gz", rng.integers(500, 900, (*shape, n)), dtype=np.int16)
    save(tmp_path / "big_mask.nii.gz", mask.astype(np.uint8))
    study.change(image="big.nii.gz", mask="big_mask.nii.gz")
    prepare(study)
    tracemalloc.start()
    recording = prepare(study)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    volume = int(np.prod(shape)) * 8
    scratch = 4 * (4 << 20)  # stretches of columns in double precision
    assert peak < 1.3 * recording.data.nbytes + 4 * volume + scratch
    assert peak < 2 * int(np.prod(shape)) * n * 4
