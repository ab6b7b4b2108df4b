"""The phantom as a BIDS data set on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import PhantomSettings
from decoders.simulate.bids import BIDS_VERSION, raw_like, write_image, write_picture, write_sidecar, write_tsv
from decoders.simulate.brain import affine_of, brain_mask, draw_brain
from decoders.simulate.meg_write import write_meg
from decoders.simulate.pictures import (
    REGIONS,
    PictureSet,
    draw_picture_brain,
    draw_pictures,
    picture_events,
    picture_series,
    training_pictures,
)
from decoders.simulate.story import N_VOLUMES, TR_S, Stories, draw_stories, story_series
from decoders.simulate.streams import stream
from decoders.stimuli.embedding import EMBEDDING_FILE
from decoders.stimuli.timings import Words, characters_of, words_table
from decoders.store.tables import write_table

PHANTOM_NAME = "Corticode phantom"
_README = """Corticode phantom

Simulated fMRI of people who listen to stories and look at pictures. What the voxels respond to is known:
it was planted, and is written below derivatives/truth. Nobody was recorded.

stimuli/<story>_words.tsv        words of a story run in time (seconds from its start), as heard by every listener
stimuli/<story>_characters.tsv   their characters
stimuli/pictures.tsv             the pictures that were shown, with their categories
stimuli/training_split.tsv       further pictures of the same shapes, for training networks
derivatives/truth                brain masks, planted voxels with their true correlations, regions, word vectors
"""
_README_MEG = """
MEG of the same people, in the same tasks: sub-*/meg, with a recording without a person in sub-emptyroom.
derivatives/truth/sub-*/meg      planted dipoles with their latencies, and how much each sensor sees of them
"""
_STORY_EVENTS = {
    "onset": {"Description": "Seconds from the first volume, which starts with the story."},
    "trial_type": {
        "Description": "word: a spoken word. The first row, n/a, is the story as a whole.",
        "Levels": {"word": "A spoken word"},
    },
    "word": {"Description": "The word, lower case, without punctuation."},
    "stim_file": {
        "Description": "In the row of the story: its words in time, below stimuli; 0 s there is the onset of that row."
    },
}
_PICTURE_EVENTS = {
    "trial_type": {"Description": "Name of the picture: column stimulus of stimuli/pictures.tsv."},
    "stim_file": {"Description": "The picture, a file below stimuli."},
}


def write_phantom(root: str | Path, settings: PhantomSettings, mirror: str | Path | None = None) -> None:
    """Write the phantom into a folder, as raw BIDS with the planted truth as a derivative.

    Parameters
    ----------
    root : str or Path
        Created if need be.
    settings : PhantomSettings
    mirror : str or Path, optional
        Folder read instead of the network (text 'alice').

    Raises
    ------
    InputError
        Settings that no phantom can have: a text too short for the runs, a grid too small.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    meg = settings.meg
    n_stories = max(settings.story_subjects, meg.story_subjects if meg else 0)
    n_pictures = max(settings.picture_subjects, meg.picture_subjects if meg else 0)
    people = [f"{i + 1:02d}" for i in range(max(n_stories, n_pictures))]
    _write_description(root, people, settings)
    for person in people:
        write_image(
            _truth(root, person, "anat", "desc-brain_mask"),
            brain_mask(settings.grid).astype(np.uint8),
            affine_of(settings.grid),
        )
    # People who are in the MEG alone hear the same stories and see the same pictures.
    if n_stories:
        _write_story_task(root, people[: settings.story_subjects], settings, mirror)
    if n_pictures:
        _write_picture_task(root, people[: settings.picture_subjects], settings)
    if meg:
        write_meg(root, people, settings, mirror)


def _write_description(root: Path, people: list[str], settings: PhantomSettings) -> None:
    common = {
        "BIDSVersion": BIDS_VERSION,
        "GeneratedBy": [{"Name": PHANTOM_NAME, "Description": settings.model_dump_json()}],
    }
    write_sidecar(
        root / "dataset_description.json",
        {"Name": PHANTOM_NAME, "DatasetType": "raw", "License": "BSD-3-Clause", **common},
    )
    write_sidecar(
        root / "derivatives/truth/dataset_description.json",
        {"Name": f"{PHANTOM_NAME}: planted truth", "DatasetType": "derivative", **common},
    )
    readme = _README + (_README_MEG if settings.meg else "")
    (root / "README").write_text(readme, encoding="utf-8", newline="\n")
    write_tsv(root / "participants.tsv", pd.DataFrame({"participant_id": [f"sub-{person}" for person in people]}))
    write_sidecar(root / "participants.json", {"participant_id": {"Description": "Simulated person."}})


def _write_story_task(root: Path, people: list[str], settings: PhantomSettings, mirror: str | Path | None) -> None:
    stories = draw_stories(settings, mirror)
    write_table(root / EMBEDDING_FILE, stories.embedding.table())
    for run, words in enumerate(stories.words):
        write_tsv(root / "stimuli" / f"story{run + 1:02d}_words.tsv", words_table(words))
        write_tsv(root / "stimuli" / f"story{run + 1:02d}_characters.tsv", characters_of(words))
    write_sidecar(root / "task-story_events.json", _STORY_EVENTS)
    for subject, person in enumerate(people):
        _write_listener(root, person, subject, settings, stories)


def _write_listener(root: Path, person: str, subject: int, settings: PhantomSettings, stories: Stories) -> None:
    brain, affine = draw_brain(settings, subject), affine_of(settings.grid)
    write_image(
        _truth(root, person, "func", "task-story_desc-planted_mask"),
        _volume(brain.mask, brain.planted).astype(np.uint8),
        affine,
    )
    r = np.zeros(len(brain.site))
    r[brain.planted] = brain.r_true
    write_image(
        _truth(root, person, "func", "task-story_desc-r_statmap"), _volume(brain.mask, r).astype(np.float32), affine
    )
    for run, words in enumerate(stories.words):
        series = story_series(settings, stories, brain, subject, run)
        events = story_events(words, f"story{run + 1:02d}_words.tsv")
        _write_run(
            root, person, "story", run, series, brain.mask, events, stream(settings.seed, "scanner story", subject, run)
        )


def story_events(words: Words, stim_file: str) -> pd.DataFrame:
    """Return the events of a story run: the story as a whole (with its file), then its words."""
    story = pd.DataFrame(
        {"onset": [0.0], "duration": [N_VOLUMES * TR_S], "trial_type": [None], "word": [None], "stim_file": [stim_file]}
    )
    spoken = pd.DataFrame(
        {"onset": words.onset, "duration": words.duration, "trial_type": "word", "word": words.word, "stim_file": None}
    )
    return pd.concat([story, spoken.astype({"stim_file": object})], ignore_index=True)


def _write_picture_task(root: Path, people: list[str], settings: PhantomSettings) -> None:
    shown = draw_pictures(settings)
    write_tsv(root / "stimuli/pictures.tsv", shown.labels())
    for name, picture in zip(shown.names, shown.pictures, strict=True):
        write_picture(root / "stimuli/pictures" / f"{name}.png", picture)
    rows = []
    for file, split, picture in training_pictures(settings):
        write_picture(root / "stimuli" / file, picture)
        rows.append({"file": file, "class": file.split("/")[1], "split": split})
    write_tsv(root / "stimuli/training_split.tsv", pd.DataFrame(rows))
    write_sidecar(root / "task-pictures_events.json", _PICTURE_EVENTS)
    for subject, person in enumerate(people):
        _write_viewer(root, person, subject, settings, shown)


def _write_viewer(root: Path, person: str, subject: int, settings: PhantomSettings, shown: PictureSet) -> None:
    seen = draw_picture_brain(settings, shown, subject)
    for number, region in enumerate(REGIONS):
        voxels = _volume(seen.brain.mask, seen.brain.site == number).astype(np.uint8)
        write_image(_truth(root, person, "anat", f"label-{region}_mask"), voxels, affine_of(settings.grid))
    for run in range(settings.picture_runs):
        events = picture_events(settings, shown, subject, run)
        series = picture_series(settings, shown, seen, events, subject, run)
        _write_run(
            root,
            person,
            "pictures",
            run,
            series,
            seen.brain.mask,
            events,
            stream(settings.seed, "scanner pictures", subject, run),
        )


def _write_run(
    root: Path,
    person: str,
    task: str,
    run: int,
    series: NDArray[np.float64],
    mask: NDArray[np.bool_],
    events: pd.DataFrame,
    rng: np.random.Generator,
) -> None:
    stem = root / f"sub-{person}" / "func" / f"sub-{person}_task-{task}_run-{run + 1:02d}"
    named: Callable[[str], Path] = lambda ending: stem.with_name(stem.name + ending)  # noqa: E731
    write_image(named("_bold.nii.gz"), raw_like(series, mask, rng), affine_of(mask.shape), TR_S)
    write_sidecar(named("_bold.json"), {"RepetitionTime": TR_S, "TaskName": task})
    write_tsv(named("_events.tsv"), events)


def _truth(root: Path, person: str, datatype: str, ending: str) -> Path:
    return root / "derivatives" / "truth" / f"sub-{person}" / datatype / f"sub-{person}_{ending}.nii.gz"


def _volume(mask: NDArray[np.bool_], values: NDArray[np.generic]) -> NDArray[np.generic]:
    volume = np.zeros(mask.shape, dtype=values.dtype)
    volume[mask] = values
    return volume
