"""Declared splits: which rows train, which test, and what else was fitted where; analyses split by them.

A declaration comes from the manifest and the settings alone. The same object tells an analysis which rows
to take and the auditor (`decoders.stats.leaks`) what to check, so that the two cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from decoders.errors import InputError
from decoders.stimuli.hrf import HRF_LENGTH_S
from decoders.store.atomic import sha256_of, write_text
from decoders.store.tables import read_table

Claim = Literal["time", "run", "stimulus", "subject"]
Side = Literal["train", "test", "few_shot", "both", "each run"]


@dataclass(frozen=True)
class TimedRun:
    """A run as the splits see it.

    Attributes
    ----------
    key : str
        Names the run in the declaration.
    subject, stimulus : str
    n_rows : int
        Volumes after preprocessing.
    start, tr : float
        Seconds since the stimulus onset at the first volume, and between volumes.
    filter_s : float
        Period in seconds down to which a filter joined the volumes of the run; 0 without one.
    source : str
        Its row of the manifest, where it comes from there.
    response_s : float
        Seconds that the brain's answer to a moment of the stimulus lasts: that of blood flow, or less of sensors.
    """

    key: str
    subject: str
    stimulus: str
    n_rows: int
    start: float
    tr: float
    filter_s: float = 0.0
    source: str = field(default="", compare=False)
    response_s: float = HRF_LENGTH_S


class Rows(NamedTuple):
    """Volumes ``first`` to ``stop - 1`` of a run."""

    run: str
    first: int
    stop: int


@dataclass(frozen=True)
class Fit:
    """Something besides the model that was fitted to data.

    Attributes
    ----------
    kind : {"scaling", "selection", "penalty"}
    what : str
        In words, e.g. "z-scoring of the text features".
    on : {"train", "test", "few_shot", "both", "each run"}
        The rows that it saw; "few_shot": those given of the tested subject; "each run": every run by itself and as a
        whole.
    setting : str
        Where to change it.
    """

    kind: Literal["scaling", "selection", "penalty"]
    what: str
    on: Side
    setting: str


@dataclass(frozen=True)
class Corpus:
    """Text from which word vectors or a language model were learnt.

    Attributes
    ----------
    kind : {"embedding", "language_model"}
    what : str
        In words.
    setting : str
        Where to change it.
    stimuli : tuple of str
        Stimuli of the study whose whole text is in it.
    sources : tuple of str
        Names of texts that come with Corticode, text files, or folders of them.
    allowed : str
        Why test text may be in it by design; empty where it may not.
    unheard : bool
        Of `sources` only the passages that are told in none of the study's stimuli.
    """

    kind: Literal["embedding", "language_model"]
    what: str
    setting: str
    stimuli: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    allowed: str = ""
    unheard: bool = False


@dataclass(frozen=True)
class DeclaredSplit:
    """One division into training and test rows.

    Attributes
    ----------
    name : str
        ``<set>/<fold>``: folds of one set are trained and tested on the same subjects.
    claims : tuple of str
        What the split says it holds out: moments of a story ("time"), whole runs, whole stimuli, subjects.
    train, test : tuple of Rows
    fits : tuple of Fit
    corpora : tuple of Corpus
    few_shot : tuple of Rows
        Rows of the tested subject that a decoder of other subjects is adapted to. They share the subject with the
        test by design, and nothing else: every other check counts them as training rows.
    """

    name: str
    claims: tuple[Claim, ...]
    train: tuple[Rows, ...]
    test: tuple[Rows, ...]
    fits: tuple[Fit, ...] = ()
    corpora: tuple[Corpus, ...] = ()
    few_shot: tuple[Rows, ...] = ()

    @property
    def seen(self) -> tuple[Rows, ...]:
        """All rows that something was fitted to: training rows, and those given of the tested subject."""
        return (*self.train, *self.few_shot)

    @property
    def set(self) -> str:
        """The name without the fold."""
        return self.name.rpartition("/")[0]

    @property
    def fold(self) -> str:
        """The name of the fold."""
        return self.name.rpartition("/")[2]

    def rows(self, on: Side) -> tuple[Rows, ...]:
        """Return the rows that something fitted on a side may see; analyses take their rows from here."""
        sides = {"train": self.train, "test": self.test, "few_shot": self.few_shot}
        return sides.get(on, (*self.seen, *self.test))

    def fit(self, kind: str, what: str) -> Fit:
        """Return the fit of that kind and name."""
        return next(fit for fit in self.fits if (fit.kind, fit.what) == (kind, what))


@dataclass(frozen=True)
class Declaration:
    """All splits of one analysis.

    Attributes
    ----------
    analysis : str
        ``encode``, ``names``, ``voxels``, ``free_text``, ``across``, ``meg``.
    setting : str
        The block of the study that it comes from.
    runs : tuple of TimedRun
    splits : tuple of DeclaredSplit
    """

    analysis: str
    setting: str
    runs: tuple[TimedRun, ...]
    splits: tuple[DeclaredSplit, ...]

    def of_subject(self, subject: str) -> Declaration:
        """Return the part that trains or tests on the runs of one subject."""
        runs = tuple(run for run in self.runs if run.subject == subject)
        keys = {run.key for run in runs}
        splits = tuple(s for s in self.splits if keys & {rows.run for rows in (*s.seen, *s.test)})
        return Declaration(self.analysis, self.setting, runs, splits)


_JSON = TypeAdapter(Declaration)


def write_declaration(path: str | Path, declaration: Declaration) -> None:
    """Write a declaration as JSON."""
    write_text(path, _JSON.dump_json(declaration).decode("utf-8") + "\n")


def read_declaration(path: str | Path) -> Declaration:
    """Read a declaration.

    Raises
    ------
    InputError
        No such file, or something else in it.
    """
    remedy = "Delete it and run again: the stage that wrote it will write it anew."
    try:
        return _JSON.validate_json(Path(path).read_bytes())
    except OSError as error:
        raise InputError("the declared splits", f"'{error}'", path, remedy) from error
    except ValidationError as error:
        raise InputError("declared splits (JSON)", f"{error.error_count()} faults in it", path, remedy) from error


def read_audited(splits: str | Path, leaks: str | Path) -> Declaration:
    """Return a declaration that the auditor has passed.

    Raises
    ------
    InputError
        The table of leaks was made for other splits, or names a leak.
    """
    declared, digest = read_declaration(splits), sha256_of(Path(splits))
    table = read_table(leaks, ("split", "analysis", "check", "passed", "declaration"))
    rows = table[(table["analysis"] == declared.analysis) & (table["declaration"] == digest)]
    missing = {split.name for split in declared.splits} - set(rows["split"])
    if missing:
        found = f"none of '{min(missing)}' ({len(missing)} of {len(declared.splits)} splits)"
        raise InputError(f"an audit of the splits in {splits}", found, leaks, "Run the stage 'leaks' on them first.")
    if (failed := rows[rows["passed"] == "no"]).size:
        first = failed.iloc[0]
        raise InputError("splits without a leak", f"{first['split']}: {first['check']}", leaks, "Mend the split first.")
    return declared


def agreed(own: Declaration, audited: Declaration | None, where: str) -> Declaration:
    """Return the audited declaration, if it is what the recordings themselves ask for; without one, the own.

    Raises
    ------
    InputError
        The recordings have other runs or other times than those that were audited.
    """
    if audited is None or own == audited:
        return own if audited is None else audited
    mine, theirs = set(own.runs), set(audited.runs)
    odd = sorted(run.key for run in mine ^ theirs)
    found = f"others for {', '.join(odd[:4])}" if odd else "other folds"
    remedy = "The recordings do not fit the manifest or quality.tsv any more: delete these tables and run again."
    raise InputError(f"the {len(audited.splits)} splits that were audited", found, where, remedy)
