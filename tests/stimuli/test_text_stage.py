import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from decoders.data.manifest import Run, write_manifest
from decoders.errors import InputError
from decoders.simulate.bids import write_tsv
from decoders.stage import Job
from decoders.stimuli.stage_text import run, stimulus_texts, text_tables
from decoders.stimuli.timings import Words, words_table
from decoders.store.tables import read_table

WORDS = Words(np.array([0.0, 0.5]), np.array([0.4, 0.5]), ("one", "na"), ('"One, ', "NA."))


@pytest.fixture
def stories(tmp_path):
    write_tsv(tmp_path / "stimuli/a_words.tsv", words_table(WORDS))
    write_tsv(tmp_path / "stimuli/b_words.tsv", words_table(WORDS))
    write_tsv(
        tmp_path / "stimuli/b_characters.tsv", pd.DataFrame({"onset": [0.0], "duration": [0.1], "character": ["x"]})
    )
    return tmp_path


def _run(root, name, stimulus, task="story", text=None, status="ok"):
    text = f"stimuli/{stimulus}_words.tsv" if text is None else text
    reason = "" if status == "ok" else "constant"
    return Run(
        run_id=name, subject="01", task=task, root=str(root), stimulus=stimulus, text=text, status=status, reason=reason
    )


def test_the_stage_writes_each_stimulus_once(stories, tmp_path):
    runs = [
        _run(stories, "r1", "b"),
        _run(stories, "r2", "a"),
        _run(stories, "r3", "a"),
        _run(stories, "p", "pictures", "pictures", ""),
    ]
    write_manifest(tmp_path / "manifest.tsv", runs)
    outputs = {"words": tmp_path / "words.tsv", "characters": tmp_path / "characters.tsv"}
    run(Job(SimpleNamespace(), {"manifest": [tmp_path / "manifest.tsv"]}, outputs, log=logging.getLogger("test")))
    words = read_table(outputs["words"], text_columns=("stimulus", "word", "text"))
    assert list(words.columns) == ["stimulus", "onset", "duration", "word", "text"]
    assert list(words["stimulus"]) == ["a", "a", "b", "b"]
    assert list(words["word"]) == ["one", "na"] * 2
    assert words["text"][0] == '"One, '
    characters = read_table(outputs["characters"], text_columns=("stimulus", "character"))
    # Equal shares where there is no file of characters, the file where there is one.
    assert "".join(characters.query("stimulus == 'a'")["character"]) == '"One, NA.'
    assert list(characters.query("stimulus == 'b'")["character"]) == ["x"]


def test_a_run_without_text_among_others_is_refused(stories):
    runs = [_run(stories, "r1", "a"), _run(stories, "r2", "c", text="")]
    with pytest.raises(InputError, match="a text for the stimulus 'c', found none for the run r2"):
        stimulus_texts(runs)


def test_no_text_at_all_is_refused(stories):
    with pytest.raises(InputError, match="runs with a text"):
        stimulus_texts([_run(stories, "r1", "a", text="")])


def test_one_name_for_two_texts_is_refused(stories):
    with pytest.raises(InputError, match="one text for the stimulus 'a'"):
        stimulus_texts([_run(stories, "r1", "a"), _run(stories, "r2", "a", text="stimuli/b_words.tsv")])


def test_excluded_runs_do_not_count(stories):
    runs = [_run(stories, "r1", "a"), _run(stories, "r2", "c", text="", status="excluded")]
    assert list(stimulus_texts(runs)) == ["a"]


def test_a_text_file_that_is_missing_is_refused(stories):
    with pytest.raises(InputError, match="no such file"):
        text_tables(stimulus_texts([_run(stories, "r1", "z")]))
