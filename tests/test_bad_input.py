"""Bad input, through the command line: one sentence, a code that is not 0, and nothing half-written."""

import gzip
import hashlib
import http.server
import json
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from decoders.cli import main
from decoders.data import registry as registry_module
from decoders.data.registry import Entry, RegisteredFile, Registry
from decoders.signal.steps import warnings_of
from decoders.store.arrays import read_arrays
from decoders.store.recording import read_recording
from decoders.store.tables import read_table

TR, N, SHAPE = 2.0, 40, (6, 6, 5)
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
IMAGE = "sub-{}/func/sub-{}_task-x_run-{}_bold.nii.gz"
EVENTS = "onset\tduration\ttrial_type\n4\t8\tface\n20\t8\thouse\n44\t8\tface\n60\t8\thouse\n"


def image_of(subject, run):
    return IMAGE.format(subject, subject, run)


class Set:
    """A small BIDS set with two subjects of three runs, its study file, and the stages by the console command."""

    def __init__(self, folder):
        self.folder, self.root, self.out = folder, folder / "bids", folder / "out"
        rng = np.random.default_rng(0)
        inside = np.zeros(SHAPE, dtype=bool)
        inside[1:-1, 1:-1, 1:-1] = True
        self.mask = inside
        self.write("dataset_description.json", json.dumps({"Name": "x", "BIDSVersion": "1.10.0"}))
        self.write("task-x_bold.json", json.dumps({"RepetitionTime": TR}))
        for subject in ("01", "02"):
            for run in (1, 2, 3):
                data = np.zeros((*SHAPE, N), dtype=np.float32)
                data[inside] = 1000 + 10 * rng.standard_normal((inside.sum(), N))
                self.image(image_of(subject, run), data)
                self.write(image_of(subject, run).replace("bold.nii.gz", "events.tsv"), EVENTS)
        self.image("mask.nii.gz", inside.astype(np.uint8), self.folder)
        self.settings = {
            "study": "bad",
            "data": {"source": "bids", "root": str(self.root)},
            "preprocess": {"mask": str(folder / "mask.nii.gz"), "high_pass_s": None},
        }

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def image(self, name, data, folder=None, tr=TR, affine=AFFINE):
        path = (folder or self.root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(data, affine)
        image.header.set_xyzt_units("mm", "sec")
        if data.ndim == 4:
            image.header.set_zooms((3, 3, 3, tr))
        nib.save(image, path)

    def change(self, subject, run, change):
        """Change the voxels of a run in place."""
        path = self.root / image_of(subject, run)
        data = np.asarray(nib.load(path).dataobj).copy()
        change(data)
        self.image(image_of(subject, run), data)

    def call(self, verb, inputs=(), outputs=None, **labels):
        study = self.folder / "study.yaml"
        study.write_text(yaml.safe_dump(self.settings))
        words = [verb, "--settings", str(study)]
        words += [word for name, path in inputs for word in ("--input", f"{name}={path}")]
        words += [word for name, path in (outputs or {}).items() for word in ("--output", f"{name}={path}")]
        words += [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
        return main(words)

    @property
    def manifest(self):
        return self.out / "manifest.tsv"

    def recording(self, subject, run):
        return self.out / f"sub-{subject}_task-x_run-{run}_recording.h5"

    def read(self):
        return self.call("manifest", outputs={"manifest": self.manifest})

    def preprocess(self, subject="01", run=1):
        outputs = {"recording": self.recording(subject, run)}
        return self.call("preprocess", [("manifest", self.manifest)], outputs, run=f"sub-{subject}_task-x_run-{run}")

    def all_runs(self):
        assert self.read() == 0
        for subject in ("01", "02"):
            for run in (1, 2, 3):
                assert self.preprocess(subject, run) == 0
        return [("recording", self.recording(subject, run)) for subject in ("01", "02") for run in (1, 2, 3)]

    def quality(self, recordings):
        outputs = {"quality": self.out / "quality.tsv", "series": self.out / "quality.h5"}
        return self.call("quality", [("manifest", self.manifest), *recordings], outputs)


@pytest.fixture
def bids(tmp_path):
    return Set(tmp_path)


def refused(capsys, code, folder, parts, absent=()):
    """Check the sentence, the code, and that nothing half-written is left."""
    told = capsys.readouterr().err
    assert code == 2, told
    assert "Traceback" not in told
    for part in parts:
        assert part in told, told
    assert [path for path in Path(folder).rglob("*") if ".partial-" in path.name] == []
    for path in absent:
        assert not path.exists()
        assert not path.with_name(path.name + ".prov.json").exists()
    return told


def other_mask(bids):
    moved = AFFINE.copy()
    moved[0, 3] = 3
    bids.image("mask.nii.gz", bids.mask.astype(np.uint8), bids.folder, affine=moved)


def no_mask(bids):
    bids.settings["preprocess"]["mask"] = str(bids.folder / "../nowhere/mask.nii.gz")


def other_region(bids):
    other_mask(bids)
    bids.settings["preprocess"] = {"representation": "region", "rois": {"V1": str(bids.folder / "mask.nii.gz")}}


def other_tr(bids):
    bids.write("task-x_bold.json", json.dumps({"RepetitionTime": 3.0}))


def late_events(bids):
    bids.write(image_of("01", 1).replace("bold.nii.gz", "events.tsv"), EVENTS + "78\t8\tface\n")


def truncated(bids):
    path = bids.root / image_of("01", 1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def truncated_plain(bids):
    path = bids.root / image_of("01", 1)
    plain = path.with_suffix("")
    plain.write_bytes(gzip.decompress(path.read_bytes())[:-100])
    path.unlink()


def corrupt(bids):
    """The image that unpacks whole, but not to what was packed."""
    path = bids.root / image_of("01", 1)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(bytes(content))


def many_bad(bids):
    bids.change("01", 1, lambda data: data[1:3].fill(np.nan))


def copied(bids):
    (bids.root / image_of("02", 2)).write_bytes((bids.root / image_of("01", 1)).read_bytes())


BOLD, EVENT_FILE = "sub-01_task-x_run-1_bold.nii", "sub-01_task-x_run-1_events.tsv"
OF_A_RUN = {
    "mask with another affine": (
        other_mask, ["mask.nii.gz", "expected a mask on the grid of", BOLD, "3 0 0 0", "3 0 0 3", "Resample the mask"],
    ),
    "mask that is not there": (no_mask, ["nowhere/mask.nii.gz", "no such file", "Correct the path"]),
    "region with another affine": (other_region, ["mask.nii.gz", "expected a mask of the region V1 on the grid of"]),
    "TR of header and sidecar": (other_tr, [BOLD, "one TR", "2 s in the header", "3 s in the sidecar", "set data.tr"]),
    "events beyond the run": (
        late_events, [EVENT_FILE, "end of the run at 80 s", "'face' from 78 to 86 s", "belong to this run"],
    ),
    "truncated nii.gz": (truncated, [BOLD, "40 whole volumes", "at volume", "Copy or download the file again"]),
    "truncated nii": (truncated_plain, [BOLD, "40 whole volumes", "at volume 40", "Copy or download the file again"]),
    "damaged nii.gz": (corrupt, [BOLD, "40 whole volumes", "CRC", "Copy or download the file again"]),
    "bad voxels beyond the share": (
        many_bad, [BOLD, "at most 5.0% bad voxels in the mask", "50.0% (24 of 48", "preprocess.max_bad_share"],
    ),
    "one image for two runs": (copied, [BOLD, "data of its own", "the same bytes in sub-02_task-x_run-2", "is a copy"]),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "parts"), OF_A_RUN.values(), ids=OF_A_RUN)
def test_a_run_that_cannot_be_used_as_it_is(bids, capsys, damage, parts):
    damage(bids)
    assert bids.read() == 0
    refused(capsys, bids.preprocess(), bids.folder, parts, [bids.recording("01", 1)])


def no_sidecar(bids):
    (bids.root / "task-x_bold.json").unlink()


def two_files(bids):
    bids.image(image_of("01", "01"), np.zeros((*SHAPE, N), np.float32))


def label(name):
    return lambda bids: bids.write(f"sub-01/func/{name}_bold.nii.gz", "")


def subject(label):
    return lambda bids: bids.settings["data"].update(subjects=[label])


def story(name, also=""):
    def damage(bids):
        if also:
            bids.write(also, "onset\tduration\tword\n0\t1\thello\n")
        bids.write("task-x_events.tsv", f"onset\tduration\tstim_file\n0\t10\t{name}\n")
        for path in bids.root.glob("sub-*/func/*_events.tsv"):
            path.unlink()

    return damage


def cut_in_the_header(bids):
    path = bids.root / image_of("01", 1)
    path.write_bytes(path.read_bytes()[:60])


def nowhere(bids):
    bids.settings["data"]["root"] = str(bids.root / "../nowhere")


def unknown_setting(bids):
    bids.settings["preprocess"]["smothing_fwhm_mm"] = 6.0


def study_elsewhere(bids):
    bids.settings["study"] = "../elsewhere"


NOT_BIDS = "expected a BIDS"
OF_THE_SET = {
    "missing sidecar": (no_sidecar, [BOLD, "a sidecar that states RepetitionTime, found none", "Add the sidecar"]),
    "two files of one run": (two_files, ["one file per run", image_of("01", 1), image_of("01", "01"), "Remove or rename"]),
    "truncated in its header": (cut_in_the_header, [BOLD, "a readable image", "Copy or convert it again"]),
    "label with dots": (label("sub-01_task-a..b"), ["task-a..b", NOT_BIDS, "Rename the file"]),
    "label that climbs": (label("sub-..01_task-a"), ["sub-..01", NOT_BIDS, "Rename the file"]),
    "label with a space": (label("sub-01_task-a b"), ["task-a b", NOT_BIDS, "Rename the file"]),
    "setting that climbs": (subject("../01"), ["data.subjects", "a BIDS label", "'../01'", "Rename it"]),
    "setting with a space": (subject("0 1"), ["data.subjects", "a BIDS label", "'0 1'", "Rename it"]),
    "subject who is not there": (subject("07"), ["the label '07', found 01, 02", "Correct data.subjects"]),
    "stimulus without its text": (
        story("a_words.tsv"), ["task-x_events.tsv", "the text a_words.tsv of the stimulus", "no such file", "Add the file"],
    ),
    "stimulus outside the set": (
        story("../../a_words.tsv"), ["task-x_events.tsv", "a path inside the data set", "'../../a_words.tsv'", "Move the file"],
    ),
    "absolute stimulus": (story("/etc/passwd_words.tsv"), ["task-x_events.tsv", "a path inside the data set", "Move"]),
    "folder that is not there": (nowhere, ["nowhere", "a BIDS folder, found no such folder", "Correct data.root"]),
    "unknown setting": (unknown_setting, ["study.yaml", "not a setting", "Did you mean 'smoothing_fwhm_mm'?"]),
    "study outside the results": (study_elsewhere, ["study.yaml", "'study'", "pattern", "../elsewhere"]),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "parts"), OF_THE_SET.values(), ids=OF_THE_SET)
def test_a_data_set_that_cannot_be_read(bids, capsys, damage, parts):
    damage(bids)
    refused(capsys, bids.read(), bids.folder, parts, [bids.manifest])


def test_a_sound_without_its_words_is_refused_where_words_are_needed(bids, capsys):
    story("a.wav")(bids)
    bids.write("stimuli/a.wav", "")
    assert bids.read() == 0
    outputs = {"words": bids.out / "words.tsv", "characters": bids.out / "characters.tsv"}
    code = bids.call("text", [("manifest", bids.manifest)], outputs)
    refused(
        capsys, code, bids.folder, ["manifest.tsv", "runs with a text", "found none", "stim_file"], outputs.values()
    )


def test_a_text_that_is_no_table_is_refused(bids, capsys):
    story("a_words.tsv", also="stimuli/a_words.tsv")(bids)
    bids.write("stimuli/a_words.tsv", "onset\tduration\tword\nlater\t1\thello\n")
    assert bids.read() == 0
    outputs = {"words": bids.out / "words.tsv", "characters": bids.out / "characters.tsv"}
    code = bids.call("text", [("manifest", bids.manifest)], outputs)
    refused(capsys, code, bids.folder, ["a_words.tsv", "onset", "'later'"], outputs.values())


def test_bad_voxels_outside_the_mask_are_ignored(bids, capsys):
    assert bids.read() == 0
    bids.change("01", 1, lambda data: data[0].fill(np.nan))
    assert bids.read() == 0
    assert bids.preprocess() == 0
    recording = read_recording(bids.recording("01", 1))
    assert recording.data.shape == (N, 48)
    assert warnings_of(recording.steps) == []


def test_a_few_bad_voxels_are_left_out_with_a_warning(bids, capsys):
    def damage(data):
        data[1, 1, 1, 5] = np.inf
        data[2, 2, 2] = 3

    bids.change("01", 1, damage)
    assert bids.read() == 0
    assert bids.preprocess() == 0
    assert "1 of 48 voxels in the mask are not finite, 1 are constant: they are left out" in capsys.readouterr().err
    recording = read_recording(bids.recording("01", 1))
    assert recording.data.shape == (N, 46)
    assert not recording.mask[1, 1, 1]
    assert not recording.mask[2, 2, 2]


def constant(bids, subject, runs=(1, 2, 3)):
    for run in runs:
        bids.change(subject, run, lambda data: data.fill(5))


def test_a_constant_subject_is_excluded_by_name_and_the_study_goes_on(bids, capsys):
    constant(bids, "02")
    assert bids.quality(bids.all_runs()) == 0
    assert (
        "sub-02_task-x_run-3: the run is excluded, and the study goes on without it: all 48" in capsys.readouterr().err
    )
    table = read_table(bids.out / "quality.tsv", ("subject", "excluded")).set_index("run_id")
    assert table.loc[table["subject"] == "01", "excluded"].isna().all()
    assert table.loc[table["subject"] == "02", "excluded"].str.contains("all 48 voxels in the mask are constant").all()


def test_a_constant_region_is_left_out_by_name(bids, capsys):
    half = bids.mask.copy()
    half[3:] = False
    for name, mask in (("front", half), ("back", bids.mask & ~half)):
        bids.image(f"{name}.nii.gz", mask.astype(np.uint8), bids.folder)
    rois = {name: str(bids.folder / f"{name}.nii.gz") for name in ("front", "back")}
    bids.settings["preprocess"] = {"representation": "region", "rois": rois}
    bids.change("01", 1, lambda data: data[half].fill(5) or data.__setitem__(half, 5))
    assert bids.read() == 0
    assert bids.preprocess() == 0
    assert "the region front is left out" in capsys.readouterr().err
    assert read_recording(bids.recording("01", 1)).names.tolist() == ["back"]


def test_nothing_left_is_an_error(bids, capsys):
    for subject in ("01", "02"):
        constant(bids, subject)
    recordings = bids.all_runs()
    capsys.readouterr()
    parts = ["manifest.tsv", "at least one run that can be used", "6 runs, all excluded", "sub-01_task-x_run-1: all 48"]
    refused(capsys, bids.quality(recordings), bids.folder, parts, [bids.out / "quality.tsv", bids.out / "quality.h5"])


def names(bids, recordings, subject="01"):
    bids.settings["decoding"] = {"names": {"models": ["lda"], "n_permutations": 5}}
    outputs = {name: bids.out / f"names-{name}" for name in ("scores", "text", "arrays", "nulls")}
    manifest, splits = ("manifest", bids.manifest), ("splits", bids.out / "splits.json")
    leaks = ("leaks", bids.out / "leaks.tsv")
    if bids.quality(recordings) == 0:
        assert bids.call("splits-names", [manifest, ("quality", bids.out / "quality.tsv")], dict([splits])) == 0
        assert bids.call("leaks", [manifest, splits], dict([leaks])) == 0
    inputs = [manifest, splits, leaks, *recordings]
    return bids.call("names", inputs, outputs, subject=subject), outputs.values()


def test_runs_that_lack_different_voxels_are_decoded_in_those_they_share(bids, capsys):
    bids.change("01", 1, lambda data: data[1, 1, 1].fill(5))
    bids.change("01", 3, lambda data: data[2, 2, 2].fill(5))
    recordings = bids.all_runs()
    capsys.readouterr()
    assert names(bids, recordings)[0] == 0
    assert "subject 01: 46 of 48 features are in all runs" in capsys.readouterr().err
    assert read_arrays(bids.out / "names-arrays")["mask"].sum() == 46


def test_a_subject_without_a_usable_run_cannot_be_decoded(bids, capsys):
    constant(bids, "01")
    recordings = bids.all_runs()
    capsys.readouterr()
    code, absent = names(bids, recordings)
    refused(capsys, code, bids.folder, ["subject 01", "a run that can be used", "run 1 excluded: all 48"], absent)


def test_an_artefact_that_was_changed_is_refused(bids, capsys):
    recordings = bids.all_runs()
    content = bytearray(recordings[0][1].read_bytes())
    content[len(content) // 2] ^= 0xFF
    recordings[0][1].write_bytes(bytes(content))
    capsys.readouterr()
    code, absent = names(bids, recordings)
    refused(capsys, code, bids.folder, ["sub-01_task-x_run-1_recording.h5", "run"], absent)
    bids.manifest.write_text(bids.manifest.read_text().replace("ok", "excluded"))
    refused(capsys, bids.preprocess("02", 1), bids.folder, ["manifest.tsv", "SHA-256"])


def test_a_region_outside_the_data_set_is_refused(bids, capsys):
    bids.settings["preprocess"]["estimates"] = "lsa"
    bids.settings["alignment"] = {"regions": {"V1": "../../mask.nii.gz"}}
    assert bids.read() == 0
    assert bids.preprocess() == 0
    estimates, run = bids.out / "estimates.h5", "sub-01_task-x_run-1"
    inputs = [("manifest", bids.manifest), ("recording", bids.recording("01", 1))]
    assert bids.call("estimate", inputs, {"estimates": estimates}, run=run) == 0
    capsys.readouterr()
    rdms = bids.out / "rdms.h5"
    code = bids.call("rdms", [("manifest", bids.manifest), ("estimates", estimates)], {"rdms": rdms})
    parts = ["alignment.regions.V1", "a path inside the data set", "'../../mask.nii.gz'"]
    refused(capsys, code, bids.folder, parts, [rdms])


CONTENT = b"x" * 50_000


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A registry of one file on a local server that sends what the test says."""

    class Handler(http.server.BaseHTTPRequestHandler):
        sent, length = CONTENT, len(CONTENT)

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(self.length))
            self.end_headers()
            self.wfile.write(self.sent)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    base = "https://example.org/"
    file = RegisteredFile("a.bin", "raw", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), base + "a.bin")
    bases = {base: f"http://127.0.0.1:{server.server_address[1]}/"}
    made = Registry({"set": Entry("set", "A set", "CC0", "Nobody (2001)", "", (file,))}, bases)
    monkeypatch.setattr(registry_module, "registry", lambda: made)
    monkeypatch.setattr(registry_module, "default_cache", lambda: tmp_path / "cache")
    monkeypatch.delenv("CORTICODE_MIRROR", raising=False)
    yield Handler
    server.shutdown()
    server.server_close()


def test_fetch_is_whole_or_nothing(site, tmp_path, capsys):
    file = tmp_path / "cache/set/a.bin"
    site.sent = CONTENT[:20_000]
    parts = ["a.bin", "the file from http://", "Nothing was kept of it", "run again"]
    refused(capsys, main(["fetch", "set"]), tmp_path, parts, [file])
    site.sent = b"y" * len(CONTENT)
    refused(capsys, main(["fetch", "set"]), tmp_path, ["a.bin", "SHA-256", "Nothing was kept of it"], [file])
    site.sent = CONTENT
    assert main(["fetch", "set"]) == 0
    assert file.read_bytes() == CONTENT
    assert "Licence: CC0" in capsys.readouterr().out


def test_a_mirror_with_a_changed_file_is_refused(site, tmp_path, capsys):
    (tmp_path / "mirror/set").mkdir(parents=True)
    (tmp_path / "mirror/set/a.bin").write_bytes(CONTENT[:-1] + b"z")
    code = main(["fetch", "set", "--mirror", str(tmp_path / "mirror")])
    refused(capsys, code, tmp_path, ["mirror/set/a.bin", "expected the SHA-256", "delete it and fetch it again"])
    code = main(["fetch", "set", "--mirror", str(tmp_path / "nowhere")])
    refused(capsys, code, tmp_path, ["nowhere/set", "the data set 'set' in the mirror", "unset both to download"])
