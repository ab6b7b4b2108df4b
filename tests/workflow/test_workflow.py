import hashlib
import json
import os
import re
import signal
import subprocess
import time
import zipfile

import pytest
import yaml

from decoders.store.tables import COLUMNS, read_table

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(1200)]

TABLES = {
    "networks/networks.tsv": "networks",
    "networks/plausibility.tsv": "plausibility",
    "alignment/scores.tsv": "alignment_scores",
    "alignment/ceilings.tsv": "ceilings",
    "alignment/inference.tsv": "inference",
    "decoding/leaks.tsv": "leaks",
    "decoding/scores.tsv": "decoding_scores",
    "decoding/text.tsv": "text",
    "decoding/recovery.tsv": "recovery",
    "verdicts.tsv": "verdicts",
}
# What differs between two runs of the same study: times, memory, the log, and the page that shows them.
VOLATILE = re.compile(r"\.prov\.json$|^logs/|^report/|^provenance\.json$|^networks/networks\.tsv|card\.json|\.sha256$")


def _digests(results):
    files = [path for path in results.rglob("*") if path.is_file() and ".checkpoints" not in path.parts]
    names = {str(path.relative_to(results)): path for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in names.items() if not VOLATILE.search(name)
    }


def test_the_whole_path_ends_in_a_page(finished):
    page = (finished.results / "report/index.html").read_text()
    assert "tiny" in page
    assert "http-equiv" in page
    assert json.loads((finished.results / "provenance.json").read_text())


@pytest.mark.parametrize(("name", "kind"), TABLES.items())
def test_every_named_table_has_its_columns(finished, name, kind):
    assert set(COLUMNS[kind]) <= set(read_table(finished.results / name).columns)


def test_every_artefact_has_its_provenance(finished):
    for path in finished.results.rglob("*"):
        is_artefact = path.suffix in {".h5", ".tsv", ".safetensors", ".gz"} and "bids" not in path.parts
        if path.is_file() and is_artefact and ".checkpoints" not in path.parts:
            record = json.loads(path.with_name(path.name + ".prov.json").read_text())
            assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest(), path


def _most_at_once(log):
    """Return the largest number of jobs that ran at the same time."""
    running = most = 0
    for line in log.splitlines():
        running += bool(re.match(r" +jobid: \d+$", line)) - line.startswith("Finished jobid:")
        most = max(most, running)
    assert running == 0
    return most


def test_no_more_jobs_run_at_once_than_there_are_cores(finished):
    # Snakemake 9.10 to 9.16 forgets what single jobs take, and starts more and more of them at once.
    log = min((finished.root / ".snakemake/log").glob("*.log"))
    assert _most_at_once(log.read_text()) == 2


def test_a_second_run_has_nothing_to_do(finished):
    assert finished.planned() == set()


def test_one_core_gives_the_same_bits_as_two(finished, new_project):
    project = new_project()
    project.snakemake(cores=1)
    one, two = _digests(project.results), _digests(finished.results)
    assert one.keys() == two.keys()
    assert len(one) > 30
    assert [name for name in one if one[name] != two[name]] == []


def test_an_edited_function_of_alignment_reruns_alignment_and_the_report_only(copy_of_finished):
    path = "decoders/alignment/stage.py"
    text = (copy_of_finished.root / path).read_text()
    (copy_of_finished.root / path).write_text(text + "\n\ndef added() -> int:\n    return 1\n")
    assert copy_of_finished.planned() == {"align", "verdict", "page"}


def test_an_edited_comment_reruns_nothing(copy_of_finished):
    path = copy_of_finished.root / "decoders/alignment/stage.py"
    path.write_text(path.read_text() + "\n# a comment\n")
    assert copy_of_finished.planned() == set()


def test_an_edited_learning_rule_reruns_learning_and_what_stands_on_it(copy_of_finished):
    path = copy_of_finished.root / "decoders/learning/stage.py"
    path.write_text(path.read_text() + "\n\ndef added() -> int:\n    return 1\n")
    planned = copy_of_finished.planned()
    assert planned >= {"train"}
    assert planned <= {"train", "networks", "align", "verdict", "page"}


def test_a_changed_setting_reruns_the_stages_that_read_it(copy_of_finished):
    values = yaml.safe_load((copy_of_finished.root / "study.yaml").read_text())
    values["report"] = {"title": "Another title"}
    (copy_of_finished.root / "study.yaml").write_text(yaml.safe_dump(values))
    assert copy_of_finished.planned() == {"page"}


@pytest.mark.parametrize(
    ("setting", "value", "rerun"),
    [
        ("atlas", "label.nii.gz", {"clusters", "page"}),
        (
            "n_null_gates",
            2,
            {"gate", "voxels", "clusters", "stability", "free_text", "decoding_group", "decoding", "verdict", "page"},
        ),
        ("betas", [1.0], {"stability", "page"}),
    ],
)
def test_settings_of_the_voxel_maps_rerun_what_reads_them(copy_of_finished, setting, value, rerun):
    values = yaml.safe_load((copy_of_finished.root / "study.yaml").read_text())
    values["decoding"]["voxels"][setting] = value
    (copy_of_finished.root / "study.yaml").write_text(yaml.safe_dump(values))
    planned = copy_of_finished.snakemake("--dry-run").stdout
    assert copy_of_finished.planned() == rerun
    # A further null is one more job: those that are there stay.
    assert planned.count("rule gate:") == (1 if setting == "n_null_gates" else 0)


def test_kill_9_anywhere_loses_nothing(finished, new_project):
    project = new_project()
    wanted = [
        "manifest.tsv", "preprocessed/sub-01_task-story_run-02_recording.h5", "networks/training_set.h5",
    ]  # fmt: skip
    for name in wanted:
        _kill_when(project, project.results / name)
    project.snakemake()
    killed, whole = _digests(project.results), _digests(finished.results)
    assert {name: digest for name, digest in killed.items() if name in whole} == whole
    assert [name for name in killed if ".partial-" in name and "checkpoints" not in name] == []


def _kill_when(project, path):
    """Start the study, and kill every process of it as soon as a file is there."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        project.command(2), cwd=project.root, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as run:  # fmt: skip
        while not path.exists() and run.poll() is None:
            time.sleep(0.02)
        os.killpg(run.pid, signal.SIGKILL)
    project.snakemake("--unlock")


def test_lint_is_clean(finished):
    done = finished.snakemake("--lint", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_snakemakes_own_report_is_made(copy_of_finished):
    copy_of_finished.snakemake("--report", "report.zip")
    with zipfile.ZipFile(copy_of_finished.root / "report.zip") as report:
        assert any(name.endswith("report.html") for name in report.namelist())


def test_an_unknown_setting_stops_the_run_with_a_sentence(new_project, tiny_study):
    project = new_project({**tiny_study, "aligment": {}})
    done = project.snakemake(check=False)
    assert done.returncode != 0
    assert "Did you mean 'alignment'?" in done.stdout + done.stderr
    assert not project.results.exists()


def test_the_blocks_that_a_study_leaves_out_are_not_run(new_project, tiny_study):
    study = {key: value for key, value in tiny_study.items() if key not in ("learning", "alignment")}
    project = new_project(study)
    planned = project.planned()
    assert "manifest" in planned
    assert not planned & {"train", "align", "networks", "pictures"}
