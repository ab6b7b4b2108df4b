# What the rules share: the study, its paths, its runs, and the command of a stage.
import json
import shlex
import sys
from functools import lru_cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, workflow.basedir)
# The workflow runs the library that stands beside it, with the Python that runs Snakemake where that is there
# (not inside a container), so no environment need be activated on a node.
PYTHON = shlex.quote(sys.executable)
shell.prefix(
    f"export PYTHONPATH={shlex.quote(str(workflow.basedir))}; "
    # Snakemake formats the prefix, so braces are doubled (and doubled again here).
    f"corticode() {{{{ if [ -x {PYTHON} ]; then {PYTHON} -m decoders.cli \"$@\"; "
    f'else python3 -m decoders.cli "$@"; fi; }}}}; '
)

from decoders.alignment.certificate.layout import RECORDED, cell_names
from decoders.config import parse_settings, read_study
from decoders.errors import CorticodeError
from decoders.stage import SettingsSlice
from decoders.stages import stage_digest

try:
    for file in workflow.configfiles:
        read_study(file)  # Snakemake lets the last of two equal keys win
    STUDY = parse_settings(dict(config), workflow.configfiles[-1] if workflow.configfiles else "--config")
except CorticodeError as error:
    raise WorkflowError(str(error)) from None

cached_digest = lru_cache(stage_digest)
RESULTS = f"results/{STUDY.study}"
NETWORKS = (
    [
        f"{rule}_{architecture}_seed-{seed}"
        for rule, architecture in STUDY.learning.pairs()
        for seed in STUDY.learning.seeds
    ]
    if STUDY.learning
    else []
)

NETWORK_FILES = {
    "card": "card.json",
    "weights": "weights.safetensors",
    "features": "features.h5",
    "curves": "curves.tsv",
    "predictions": "predictions.h5",
}
NAMES = STUDY.decoding.names if STUDY.decoding else None
ENCODING = STUDY.decoding.encoding if STUDY.decoding else None
VOXELS = STUDY.decoding.voxels if STUDY.decoding else None
FREE_TEXT = STUDY.decoding.free_text if STUDY.decoding else None
ACROSS = STUDY.decoding.across if STUDY.decoding else None
SENSED = STUDY.decoding.meg if STUDY.decoding else None
TIMED = STUDY.alignment.time if STUDY.alignment else None
FUSED = STUDY.alignment.fusion if STUDY.alignment else None
# Alignment with fMRI; a study may align MEG or EEG alone.
IMAGED = STUDY.alignment is not None and STUDY.alignment.recordings != "none"
DECODED = [
    name
    for name, block in (
        ("names", NAMES),
        ("encode", ENCODING),
        ("voxels", VOXELS),
        ("free_text", FREE_TEXT),
        ("across", ACROSS),
        ("meg", SENSED),
    )
    if block
]
MAPS = ("gate", "encoding", "combined")
# Regions and vertices have no place in an image: their maps are a table.
ON_GRID = not STUDY.preprocess or STUDY.preprocess.representation == "volume"
PICTURE_FILES = {"pictures": "pictures.h5", "labels": "pictures.tsv", "controls": "control_rdms.h5"}
# Alignment with text: windows of stories are the stimuli.
TOLD = STUDY.alignment.windows if STUDY.alignment else None
WINDOW_FILES = {"windows": "windows.tsv", "controls": "window_control_rdms.h5"}
ALIGNMENT_FILES = {
    "rdms": "rdms.h5",
    "alignment_scores": "scores.tsv",
    "ceilings": "ceilings.tsv",
    "inference": "inference.tsv",
    "models": "model_rdms.h5",
    "geometry": "geometry.tsv",
}
TIME_FILES = {
    "time_rdms": "time_rdms.h5",
    "time_scores": "time_scores.tsv",
    "time_ceilings": "time_ceilings.tsv",
    "time_inference": "time_inference.tsv",
    "time_clusters": "time_clusters.tsv",
    "latencies": "latencies.tsv",
    "time_generalisation": "time_generalisation.h5",
}


wildcard_constraints:
    run="[A-Za-z0-9_-]+",
    subject="[A-Za-z0-9]+",
    rule="[a-z][a-z0-9_]*?",
    architecture="[a-z0-9]+",
    seed="[0-9]+",
    analysis="names|encode|voxels|free_text|across|meg",
    cell=f"{RECORDED}|[a-z_]+-[0-9x]+",
    pairing="[0-9]+",
    chunk="[0-9]+",


def S(path):
    """A path below the study's results."""
    return f"{RESULTS}/{path}"


@lru_cache
def slice_of(stage, member):
    return json.dumps(SettingsSlice.of(stage, STUDY, member).dump(), sort_keys=True)


def networks(part):
    """A file of every network."""
    return [S(f"networks/{name}/{NETWORK_FILES[part]}") for name in NETWORKS]


def trained():
    """The files that one training job writes: of one seed, or of all seeds of a rule and architecture."""
    base = "networks/{rule}_{architecture}_seed-"
    if STUDY.learning and STUDY.learning.jobs == "rule":
        return {f"{part}_{seed}": S(f"{base}{seed}/{file}") for seed in STUDY.learning.seeds for part, file in NETWORK_FILES.items()}
    return {part: S(f"{base}{{seed}}/{file}") for part, file in NETWORK_FILES.items()}


def has_text():
    """Whether the study's recordings come with a text in time."""
    phantom = STUDY.data.phantom if STUDY.data.source == "phantom" else None
    heard = phantom and (phantom.story_subjects or (phantom.meg and phantom.meg.story_subjects))
    return bool(ENCODING or VOXELS or SENSED or TOLD or heard)


def shown():
    """What of the study's stimuli the networks are shown after their training: pictures, or words where they read text."""
    if STUDY.learning and STUDY.learning.training.dataset == "text":
        return {"words": S("stimuli/words.tsv")} if has_text() else {}
    return {"pictures": S("stimuli/pictures.h5")} if STUDY.alignment and not TOLD else {}


def text_files(text):
    """The user's own text files of a setting, so that another text gives another training."""
    path = Path(text).expanduser()
    return [str(file) for file in ([path] if path.is_file() else sorted(path.glob("*.txt")))]


def training_texts():
    """The user's own training text of the networks."""
    training = STUDY.learning.training if STUDY.learning else None
    files = text_files(training.text) if training and training.dataset == "text" else []
    return {"texts": files} if files else {}


def atlas_file():
    """The user's own label image that names clusters, where it is one for all subjects."""
    path = Path(VOXELS.atlas) if VOXELS and VOXELS.atlas else None
    return {"atlas": [str(path)]} if path and path.is_file() else {}


def corpus_files(*names):
    """The user's own texts that decoding reads: the corpus of the language model, and the text that nobody heard."""
    found = []
    if FREE_TEXT and "free_text" in names:
        found += [file for text in FREE_TEXT.corpus for file in text_files(text)]
    if SENSED and SENSED.text and "meg" in names:
        found += [file for text in SENSED.text.corpus for file in text_files(text)]
    if ENCODING and "encode" in names and ENCODING.other_text:
        found += text_files(ENCODING.other_text)
    return {"texts": found} if found else {}


def training_log():
    return S("logs/train_{rule}_{architecture}" + ("" if "card_" in " ".join(trained()) else "_seed-{seed}") + ".log")


def settings(stage):
    """Exactly the settings that a stage declares, so that a change of others does not rerun it."""
    # A function, because Snakemake would take '{subject}' in a setting for a wildcard.
    return lambda wildcards: slice_of(stage, wildcards.get("rule", None))


def source(stage):
    """The digest of the code that a stage runs: Snakemake does not see imported modules."""
    return lambda wildcards: cached_digest(stage, wildcards.get("rule", ""))


def io(wildcards, input, output):
    """The options that name inputs, outputs and labels of a job."""
    words = []
    for flag, files in (("--input", input), ("--output", output)):
        for name, value in files.items():
            paths = [value] if isinstance(value, str) else list(value)
            words += [word for path in paths for word in (flag, f"{name}={path}")]
    for name, value in wildcards.items():
        words += ["--label", f"{name}={value}"]
    return shlex.join(words)


@lru_cache
def read_runs(path, written):
    from decoders.data.manifest import read_manifest

    return read_manifest(path)


def runs(task=None, subject=None):
    """The runs of the manifest, once it is there."""
    from decoders.data.manifest import select_runs

    checkpoints.manifest.get()
    path = S("manifest.tsv")
    return select_runs(read_runs(path, Path(path).stat().st_mtime_ns), subject=subject, task=task)


def row(wildcards):
    """A run's own row of the manifest: another subject's new run must not rerun this one."""
    from dataclasses import astuple

    chosen = [run for run in runs() if run.run_id == wildcards.run]
    return repr([astuple(run) for run in chosen])


def tree():
    """Names, sizes and times of a user's BIDS folder, so that a changed file renews the manifest."""
    import hashlib

    digest = hashlib.sha256()
    for folder in filter(None, (STUDY.data.root, STUDY.data.derivatives)):
        for path in sorted(Path(folder).rglob("*")):
            # Results may lie in the data set's folder; they must not renew the manifest that they come from.
            if path.is_file() and path.relative_to(folder).parts[0] not in ("results", ".snakemake"):
                status = path.stat()
                digest.update(f"{path}:{status.st_size}:{status.st_mtime_ns}".encode())
    return digest.hexdigest()


def recorded(task=None, subject=None, sensors=False):
    """The runs that hold time series: of fMRI, of MEG and EEG (sensors), or all (None)."""
    from decoders.data.manifest import SENSORS

    chosen = [run for run in runs(task, subject) if run.modality != "rdm" and run.status == "ok"]
    return [run for run in chosen if sensors is None or (run.modality in SENSORS) == sensors]


def recordings(task=None, subject=None, kind="recording", sensors=False):
    """The preprocessed files of those runs."""
    return [S(f"preprocessed/{run.run_id}_{kind}.h5") for run in recorded(task, subject, sensors)]


def subjects(task, least, sensors=False):
    """The subjects whose runs preprocessing left; those whom exclusions cost too many runs drop out."""
    from decoders.signal.quality import decodable_subjects

    checkpoints.quality.get()
    return decodable_subjects(S("preprocessed/quality.tsv"), task, least, sensors)


def sensed_subjects():
    return subjects(SENSED.task, SENSED.test_runs + 1, sensors=True)


def named_subjects():
    return subjects(NAMES.task, 3 if NAMES.split == "leave_one_run_out" else 1)


def mapped_subjects():
    # Two runs at least train: one fold each.
    return subjects(VOXELS.task, VOXELS.test_runs + 2)


def gates(subject):
    """The maps of the text as it was heard, and of the null pairings."""
    return [S(f"decoding/sub-{subject}_pairing-{pairing}_gate.h5") for pairing in range(1 + VOXELS.n_null_gates)]


def read_subjects():
    """The subjects whose text is decoded: noise is measured on three training runs."""
    return subjects(VOXELS.task, VOXELS.test_runs + 3)


def with_neighbour(task, subject, sensors=False):
    """The recordings of a subject and of the next one, whose brain is a control; of the subject alone where it is one."""
    labels = sorted({run.subject for run in recorded(task, sensors=sensors)})
    other = labels[(labels.index(subject) + 1) % len(labels)]
    people = (subject, other) if other != subject else (subject,)
    return [path for person in people for path in recordings(task, person, sensors=sensors)]


LEARNT = bool(VOXELS and VOXELS.features in ("cooccurrence", "language_model"))


def vectors():
    """Word vectors that are learnt from the corpus of the language model."""
    return {"vectors": S("decoding/word_vectors.tsv")} if LEARNT else {}


def map_files():
    """The maps of a subject: images, or one table of regions or vertices."""
    if not ON_GRID:
        return {"features": S("decoding/sub-{subject}_voxel_features.tsv")}
    return {
        name: report(S(f"decoding/sub-{{subject}}_map-{name}_statmap.nii.gz"), category="Voxels", caption="../report/maps.rst")
        for name in MAPS
    }


def estimates(wildcards):
    if STUDY.alignment.recordings != "estimates":
        return []
    return recordings(STUDY.alignment.task, kind="estimates")


def trials(wildcards):
    """The trials of MEG and EEG that alignment in time compares."""
    return recordings(TIMED.task, kind="estimates", sensors=True)


def told():
    """The windows of the stories, and the series in time that they are cut from."""
    if not TOLD:
        return {}
    return {"windows": S("stimuli/windows.tsv"), "recordings": lambda wildcards: recordings(STUDY.alignment.task)}


def stimulus_files():
    """The stimuli of alignment and the RDMs of their controls: pictures, or windows of stories."""
    return {part: S(f"stimuli/{file}") for part, file in (WINDOW_FILES if TOLD else PICTURE_FILES).items()}


def compared():
    """What recorded RDMs are compared with: stimuli and their controls, networks, the user's own models."""
    return {
        **stimulus_files(),
        "features": networks("features"),
        "card": networks("card"),
        "user": [model.path for model in STUDY.alignment.models] if STUDY.alignment else [],
    }


def searchlight_chunks(wildcards):
    """The parts of the searchlight: each subject with recordings, chunk by chunk."""
    alignment = STUDY.alignment
    shown = sorted({run.subject for run in recorded(alignment.task)})
    numbers = range(alignment.searchlight.n_chunks)
    return [S(f"alignment/searchlight/sub-{subject}_chunk-{chunk}.h5") for subject in shown for chunk in numbers]


def audited(analysis):
    """The splits of an analysis, and their audit: a leak stops the study before anything is decoded."""
    # The audit must be there; when it is made anew for another analysis, this one need not run again.
    return {"splits": S(f"decoding/{analysis}-splits.json"), "leaks": ancient(S("decoding/leaks.tsv"))}


def decoding_parts(part):
    """The tables of one kind that the parts of decoding write."""

    def paths(wildcards):
        found = parts_of_people(part, "tsv")(wildcards) if part in ("scores", "text") else []
        if part == "scores" and found:
            found += [S("decoding/group-scores.tsv")]
        if ENCODING and part == "scores":
            found += [S("decoding/encode-scores.tsv")]
        if ACROSS and part == "scores":
            found += [*parts_across("scores")(wildcards), S("decoding/across-scores.tsv")]
        if ACROSS and part == "recovery":
            found += parts_across("recovery")(wildcards)
        if VOXELS and part == "recovery":
            found += [S(f"decoding/sub-{subject}_recovery.tsv") for subject in mapped_subjects()]
        return found

    return paths


def parts_of_people(part, suffix):
    """The files of one kind of every analysis that decodes within people; voxel maps write no text."""
    analyses = (
        ("names", NAMES, named_subjects),
        ("voxels", VOXELS and part != "text", mapped_subjects),
        ("free_text", FREE_TEXT, read_subjects),
        ("meg", SENSED, sensed_subjects),
    )
    return lambda wildcards: [
        S(f"decoding/sub-{subject}_{name}-{part}.{suffix}")
        for name, asked, people in analyses
        if asked
        for subject in people()
    ]


def parts_across(part, suffix="tsv"):
    """The files of one kind of every held-out subject."""
    return lambda wildcards: [S(f"decoding/sub-{subject}_across-{part}.{suffix}") for subject in mapped_subjects()]


def parts_of_maps(part):
    """The tables of one kind that belong to the voxel maps of all subjects."""
    return lambda wildcards: [S(f"decoding/sub-{subject}_{part}.tsv") for subject in mapped_subjects()]


def encoding_files():
    """The tables of encoding models, where the study asks for them."""
    if not (STUDY.alignment and STUDY.alignment.encoding):
        return {}
    return {name: S(f"alignment/{name}.tsv") for name in ("encoding", "encoding_scores")}


def certified_cells():
    """The cells of the certificate, by what the study aligns and asks for."""
    return cell_names(IMAGED, TIMED is not None, STUDY.certificate.cells if STUDY.certificate else None)


def recorded_files():
    """What the permuted recordings of the certificate need; simulated studies need nothing."""
    def of_cell(path):
        return lambda wildcards: path if wildcards.cell == RECORDED else []

    return {"rdms": of_cell(S("alignment/rdms.h5")), "controls": of_cell(stimulus_files()["controls"])}


def page_inputs():
    """Everything that the page shows, by name; absent blocks have no inputs."""
    inputs = {"manifest": S("manifest.tsv"), "verdicts": S("verdicts.tsv")}
    if STUDY.preprocess:
        inputs |= {"quality": S("preprocessed/quality.tsv"), "series": S("preprocessed/quality.h5")}
    if ENCODING or VOXELS or SENSED or TOLD:
        inputs |= {"words": S("stimuli/words.tsv")}
    if STUDY.learning:
        inputs |= {part: S(f"networks/{part}.tsv") for part in ("networks", "plausibility")}
        inputs |= {part: networks(part) for part in ("card", "curves")}
    if STUDY.alignment:
        inputs |= stimulus_files() | encoding_files()
    if IMAGED:
        inputs |= {part: S(f"alignment/{file}") for part, file in ALIGNMENT_FILES.items()}
    if TIMED:
        inputs |= {part: S(f"alignment/{file}") for part, file in TIME_FILES.items()}
        inputs |= {"sensor_searchlight": S("alignment/sensor_searchlight.h5")} if TIMED.sensors else {}
    if FUSED:
        inputs |= {"fusion_table": S("alignment/fusion.tsv"), "fusion_arrays": S("alignment/fusion.h5")}
        inputs |= {f"fusion_{part}": S(f"alignment/fusion_{part}.tsv") for part in ("clusters", "latencies")}
    if STUDY.alignment and STUDY.alignment.searchlight:
        inputs |= {"searchlight": S("alignment/searchlight.tsv"), "searchlight_maps": S("alignment/searchlight.h5")}
    if STUDY.certificate:
        inputs |= {"certificate": S("certificate/checks.tsv")}
    if STUDY.decoding:
        inputs |= {"decoding_scores": S("decoding/scores.tsv")}
        inputs |= {"leaks": S("decoding/leaks.tsv")} if DECODED else {}
        inputs |= {part: S(f"decoding/{part}.tsv") for part in ("text", "recovery")}
    if NAMES:
        inputs["names_arrays"] = lambda w: [S(f"decoding/sub-{s}_names.h5") for s in named_subjects()]
    if ENCODING:
        inputs["encode_arrays"] = S("decoding/encode.h5")
    if SENSED:
        inputs["meg_arrays"] = lambda w: [S(f"decoding/sub-{s}_meg.h5") for s in sensed_subjects()]
    if ACROSS:
        inputs["across"] = S("decoding/across.tsv")
    if VOXELS:
        inputs["voxels_arrays"] = lambda w: [S(f"decoding/sub-{s}_voxels.h5") for s in mapped_subjects()]
        for part in (
            "clusters" if ON_GRID else "voxel_features",
            *(("rate", "halves") if VOXELS.halves or VOXELS.betas else ()),
        ):
            inputs[part] = parts_of_maps(part)
    if VOXELS and ON_GRID:
        inputs["maps"] = lambda w: [
            S(f"decoding/sub-{s}_map-{name}_statmap.nii.gz") for s in mapped_subjects() for name in MAPS
        ]
    return inputs
