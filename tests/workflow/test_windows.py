"""Alignment with text: windows of stories against networks that read, from the phantom to the page."""

import pytest

from decoders.store.arrays import read_arrays
from decoders.store.tables import read_table

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(900)]

CONTROLS = ("word_rate", "word_length", "position", "nearness", "trigrams")
STUDY = {
    "study": "tiny",
    "data": {
        "source": "phantom",
        "phantom": {
            "grid": [8, 10, 8], "r0": 0.6, "story_subjects": 2, "story_runs": 3, "picture_subjects": 0, "seed": 5,
        },
    },
    "preprocess": {},
    "learning": {
        "rules": ["untrained", "backprop"], "architectures": ["rnn"], "seeds": [0],
        "training": {"dataset": "text", "n_train": 256, "n_test": 64, "epochs": 1},
    },
    "alignment": {"recordings": "windows", "task": "story", "n_bootstrap": 50, "windows": {"seconds": 16, "gap_s": 8}},
}  # fmt: skip


def test_windows_of_stories_go_the_whole_path(build, tmp_path):
    project = build(tmp_path / "project", STUDY)
    project.snakemake()
    folder = project.results
    windows = read_table(folder / "stimuli/windows.tsv", ("name", "stimulus"))
    rdms = read_arrays(folder / "alignment/rdms.h5")
    assert set(rdms["stimuli"]) <= set(windows["name"])
    assert len(rdms["stimuli"]) > 25  # three stories of five minutes, 24 s from window to window
    scores = read_table(folder / "alignment/scores.tsv", ("subject", "rule", "layer", "size"))
    rules = set(scores["rule"])
    assert {f"control:{name}" for name in CONTROLS} | {"untrained", "backprop"} == rules
    assert set(scores.loc[scores["rule"] == "backprop", "size"]) == {"text"}
    assert scores["score"].notna().mean() > 0.9
    page = (folder / "report/index.html").read_text()
    for words in ("nearness in time", "letter trigrams", "windows of the stories of 16 s"):
        assert words in page, words
    assert project.planned() == set()
