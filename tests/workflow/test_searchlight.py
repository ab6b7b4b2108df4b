"""The searchlight through the workflow: chunks are jobs of their own, and the page shows the maps."""

import pytest

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(1200)]
STUDY = {
    "study": "tiny",
    "data": {
        "source": "phantom",
        "phantom": {
            "grid": [8, 10, 8], "r0": 0.5, "story_subjects": 0, "picture_subjects": 2, "picture_runs": 1,
            "n_pictures": 10, "seed": 5,
        },
    },
    "preprocess": {"estimates": "lsa"},
    "alignment": {
        "task": "pictures", "n_bootstrap": 20, "controls": ["pixel", "category"],
        "searchlight": {"radius_mm": 7.0, "n_chunks": 2},
    },
}  # fmt: skip


def test_the_searchlight_runs_and_resumes_by_chunk(new_project):
    project = new_project(STUDY)
    table = project.results / "alignment" / "searchlight.tsv"
    # An option stands between the settings file and the target, which would else be read as another one.
    project.snakemake("--keep-going", str(table.relative_to(project.root)))
    assert "control:pixel" in table.read_text()
    assert len(list((project.results / "alignment" / "searchlight_maps").glob("sub-*.nii.gz"))) == 4
    # What a killed study had finished stays: the chunk that it had not and what rests on it are computed anew.
    table.unlink()
    (project.results / "alignment" / "searchlight" / "sub-02_chunk-1.h5").unlink()
    planned = project.snakemake("--dry-run", str(table.relative_to(project.root))).stdout
    jobs = [line for line in planned.splitlines() if line.startswith(("rule ", "checkpoint "))]
    assert sorted(line.split()[1].rstrip(":") for line in jobs) == ["searchlight", "searchlight_maps"]
