"""The stage ``text``: words and characters of every stimulus of the study, in time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from decoders.data.manifest import Run, read_manifest, select_runs
from decoders.errors import InputError
from decoders.stage import Job
from decoders.stimuli.timings import Words, characters_of, read_characters, read_words, words_table
from decoders.store.tables import write_table

_WORDS_SUFFIX, _CHARACTERS_SUFFIX = "_words.tsv", "_characters.tsv"


def run(job: Job) -> None:
    """Write words.tsv and characters.tsv of the stimuli that the manifest names."""
    runs = read_manifest(job.input("manifest"))
    words, characters = text_tables(stimulus_texts(runs, job.input("manifest")))
    job.log.info("%d words and %d characters in %d stimuli", len(words), len(characters), words["stimulus"].nunique())
    write_table(job.outputs["words"], words)
    write_table(job.outputs["characters"], characters)


def stimulus_texts(runs: Sequence[Run], where: str | Path = "manifest.tsv") -> dict[str, Path]:
    """Return the timing file of every stimulus that has one.

    Parameters
    ----------
    runs : sequence of Run
        Excluded runs do not count.
    where : str or Path
        Named in errors.

    Returns
    -------
    dict of str to Path
        Sorted by the name of the stimulus.

    Raises
    ------
    InputError
        No run has a text; within a task some runs have one and others do not; or one stimulus has two texts.
    """
    usable = select_runs(runs)
    tasks = {run.task for run in usable if run.text}
    if not tasks:
        raise InputError(
            "runs with a text (words in time)",
            "none",
            where,
            "Name the timing file of each story in the column stim_file of its events.",
        )
    texts: dict[str, Path] = {}
    for run in usable:
        if run.task not in tasks:
            continue
        path = run.path("text")
        if path is None:
            named = f"the stimulus '{run.stimulus}'" if run.stimulus else "each run of the task"
            remedy = "Name its timing file in the column stim_file of its events, or leave the run out."
            file = run.path("events") or where
            raise InputError(f"a text for {named}", f"none for the run {run.run_id}", file, remedy)
        if texts.setdefault(run.stimulus, path) != path:
            raise InputError(
                f"one text for the stimulus '{run.stimulus}'",
                f"{texts[run.stimulus]} and {path}",
                where,
                "Give different texts different names.",
            )
    return dict(sorted(texts.items()))


def text_tables(texts: dict[str, Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the words and characters of several stimuli.

    Parameters
    ----------
    texts : dict of str to Path
        Stimulus to TextGrid or table of words.

    Returns
    -------
    words : DataFrame
        Columns stimulus, onset, duration (s, relative to the stimulus onset), word, text.
    characters : DataFrame
        Columns stimulus, onset, duration, character; from the file ``*_characters.tsv`` beside
        the words where there is one, else in equal shares of each word's duration.
    """
    words: list[pd.DataFrame] = []
    characters: list[pd.DataFrame] = []
    for stimulus, path in texts.items():
        found = read_words(path)
        for tables, table in ((words, words_table(found)), (characters, _characters(path, found))):
            table.insert(0, "stimulus", stimulus)
            tables.append(table)
    return pd.concat(words, ignore_index=True), pd.concat(characters, ignore_index=True)


def _characters(path: Path, words: Words) -> pd.DataFrame:
    beside = path.with_name(path.name.removesuffix(_WORDS_SUFFIX) + _CHARACTERS_SUFFIX)
    if path.name.endswith(_WORDS_SUFFIX) and beside.exists():
        return read_characters(beside)
    return characters_of(words)
