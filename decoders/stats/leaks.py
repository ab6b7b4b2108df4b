"""The leak audit: is what a split trains on really apart from what it tests on?

Every check reads declarations, the manifest and texts, never a recording's values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from decoders.config import AllowedLeak, LeakCheck
from decoders.stats.declared import Corpus, Declaration, DeclaredSplit, Fit, Rows, TimedRun
from decoders.stats.shared_text import WINDOW, digest_of, shared_windows
from decoders.stimuli.hrf import HRF_LENGTH_S
from decoders.stimuli.timings import Words

# Phrases that come again in another part of a story: our stories and the Alice book stay below 1 %.
TEXT_LIMIT = 0.05
_TOLERANCE_S = 1e-6
Verdict = Literal["yes", "no", "allowed", "n/a"]


@dataclass(frozen=True)
class Material:
    """What the audit reads besides the declaration.

    Attributes
    ----------
    words : mapping of str to Words
        By stimulus; stimuli without text are absent.
    checksums : mapping of str to str
        SHA-256 of the image, by the row of the manifest.
    source : callable
        Returns the words of the texts that a corpus names, by name.
    manifest : str
        Named in errors.
    """

    words: Mapping[str, Words] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    source: Callable[[str], Mapping[str, tuple[str, ...]]] = lambda name: {}
    manifest: str = "manifest.tsv"


@dataclass(frozen=True)
class Finding:
    """What one check found in one split.

    Attributes
    ----------
    split, analysis : str
    check : str
    found, needed : str
        With units.
    passed : {"yes", "no", "allowed", "n/a"}
        "n/a": the split does not claim what the check is about.
    detail : str
        A sentence; for an allowed leak, why.
    where : str
        The file or setting to look at.
    remedy : str
        A sentence that says what to do.
    """

    split: str
    analysis: str
    check: LeakCheck
    found: str
    needed: str
    passed: Verdict
    detail: str
    where: str
    remedy: str


@dataclass(frozen=True)
class _Split:
    """A split with its runs and its declaration at hand."""

    split: DeclaredSplit
    declaration: Declaration
    runs: Mapping[str, TimedRun]
    material: Material

    def runs_of(self, rows: Sequence[Rows]) -> list[TimedRun]:
        return [self.runs[key] for key in dict.fromkeys(part.run for part in rows)]

    def finding(
        self, check: LeakCheck, found: str, needed: str, good: bool | None, detail: str, where: str, remedy: str
    ) -> Finding:
        passed: Verdict = "n/a" if good is None else "yes" if good else "no"
        return Finding(self.split.name, self.declaration.analysis, check, found, needed, passed, detail, where, remedy)

    def unclaimed(self, check: LeakCheck, what: str) -> Finding:
        return self.finding(check, "", "", None, f"The split does not claim to hold out {what}.", "", "")


def audit(
    declarations: Sequence[Declaration], material: Material, allowed: Sequence[AllowedLeak] = ()
) -> list[Finding]:
    """Check every split of every analysis.

    Parameters
    ----------
    declarations : sequence of Declaration
    material : Material
    allowed : sequence of AllowedLeak
        What the study accepts, with its reasons.

    Returns
    -------
    list of Finding
        All of them, also those that passed.
    """
    reasons = {(item.analysis, item.check): item.reason for item in allowed}
    found = [
        finding
        for declaration in declarations
        for split in declaration.splits
        for finding in audit_split(split, declaration, material)
    ]
    return [_excused(finding, reasons.get((finding.analysis, finding.check), "")) for finding in found]


def audit_split(split: DeclaredSplit, declaration: Declaration, material: Material) -> Iterator[Finding]:
    """Yield what each check finds in one split, before the study's allowances."""
    one = _Split(split, declaration, {run.key: run for run in declaration.runs}, material)
    yield _shared_run(one)
    yield _shared_subject(one)
    yield _shared_stimulus(one)
    yield _shared_text(one)
    yield _time_gap(one)
    for fit in split.fits:
        yield _fitted_apart(one, fit)
    for corpus in split.corpora:
        yield _corpus_apart(one, corpus)


def seconds_between(train: Sequence[Rows], test: Sequence[Rows], runs: Mapping[str, TimedRun]) -> float:
    """Return the least time in seconds between a training and a test volume of one run.

    From the end of one volume to the start of the other; negative where they overlap, infinite where
    training and test share no run.
    """
    gaps = [math.inf]
    for a in train:
        gaps += [runs[a.run].tr * (max(a.first, b.first) - min(a.stop, b.stop)) for b in test if b.run == a.run]
    return min(gaps)


def _excused(finding: Finding, reason: str) -> Finding:
    if finding.passed != "no" or not reason:
        return finding
    return Finding(**{**vars(finding), "passed": "allowed", "detail": f"{finding.detail} Allowed: {reason}"})


def _shared_run(one: _Split) -> Finding:
    if "run" not in one.split.claims:
        return one.unclaimed("run", "whole runs")
    train, test = one.runs_of(one.split.train), one.runs_of(one.split.test)
    both = sorted({run.key for run in train} & {run.key for run in test})
    sums = {_sum(one, run): run.key for run in train if _sum(one, run)}
    twins = [f"{run.key} holds the bytes of {sums[_sum(one, run)]}" for run in test if _sum(one, run) in sums]
    listed = both + [twin for twin in twins if not both]
    detail = f"In training and test: {', '.join(listed[:3])}." if listed else "No run and no image is on both sides."
    remedy = "Leave one of the runs out by data.subjects, data.sessions or data.tasks, or correct the data set."
    return one.finding("run", f"{len(listed)} runs", "0 runs", not listed, detail, one.material.manifest, remedy)


def _sum(one: _Split, run: TimedRun) -> str:
    return one.material.checksums.get(run.source, "")


def _shared_subject(one: _Split) -> Finding:
    if "subject" not in one.split.claims:
        return one.unclaimed("subject", "subjects")
    sides = [{run.subject for run in one.runs_of(rows)} for rows in (one.split.train, one.split.test)]
    both = sorted(sides[0] & sides[1])
    detail = f"In training and test: {', '.join(both[:6])}." if both else "No subject is on both sides."
    remedy = "Train on other subjects than the tested ones."
    where = one.declaration.setting
    return one.finding("subject", f"{len(both)} subjects", "0 subjects", not both, detail, where, remedy)


def _shared_stimulus(one: _Split) -> Finding:
    if "stimulus" in one.split.claims:
        sides = [{run.stimulus for run in one.runs_of(rows)} for rows in (one.split.train, one.split.test)]
        both = sorted(sides[0] & sides[1])
        detail = f"In training and test: {', '.join(both[:4])}." if both else "No stimulus is on both sides."
        remedy = "Leave one of the runs that present it out, or split the study by story."
        where = one.material.manifest
        return one.finding("stimulus", f"{len(both)} stimuli", "0 stimuli", not both, detail, where, remedy)
    if "time" in one.split.claims:
        overlap = max((_story_overlap(one, a, b) for a in one.split.train for b in one.split.test), default=0.0)
        good = overlap <= _TOLERANCE_S
        detail = "Moments of a story are on one side only." if good else "The same moments of a story are on both sides."
        remedy = "Test on moments of the story that nobody is trained on."
        where = one.declaration.setting
        return one.finding("stimulus", f"{overlap:g} s in both", "0 s", good, detail, where, remedy)
    return one.unclaimed("stimulus", "stimuli")


def _story_overlap(one: _Split, a: Rows, b: Rows) -> float:
    first, second = one.runs[a.run], one.runs[b.run]
    if first.stimulus != second.stimulus:
        return 0.0
    (start, stop), (begin, end) = _span(first, a), _span(second, b)
    return max(0.0, min(stop, end) - max(start, begin))


def _span(run: TimedRun, rows: Rows) -> tuple[float, float]:
    return run.start + rows.first * run.tr, run.start + rows.stop * run.tr


def _heard(one: _Split, rows: Sequence[Rows]) -> dict[tuple[str, float, float], tuple[str, ...]]:
    """Return the words that were heard during some rows, by stimulus and time (once for all its listeners)."""
    spans = {(one.runs[part.run].stimulus, *_span(one.runs[part.run], part)) for part in rows}
    words = one.material.words
    return {span: words[span[0]].between(*span[1:]).word for span in sorted(spans) if span[0] in words}


def _shared_text(one: _Split) -> Finding:
    if "stimulus" not in one.split.claims:
        return one.unclaimed("text", "texts")
    train, test = _heard(one, one.split.train), _heard(one, one.split.test)
    twins = _twins(one)
    share = max((shared_windows(words, list(train.values())) for words in test.values()), default=0.0)
    share = 1.0 if twins else share
    detail = f"{share:.1%} of the {WINDOW}-word windows of the test text stand in the training text."
    detail = f"{twins[0]} are one text under two names." if twins else detail
    remedy = "Give a text one name in all runs that tell it, and leave its repetitions out."
    needed, where = f"{TEXT_LIMIT:.0%} or less", one.material.manifest
    return one.finding("text", f"{share:.1%}", needed, share <= TEXT_LIMIT, detail, where, remedy)


def _twins(one: _Split) -> list[str]:
    """Return pairs of a training and a test stimulus with the same whole text."""
    words = one.material.words
    names = [{run.stimulus for run in one.runs_of(rows)} & set(words) for rows in (one.split.train, one.split.test)]
    known = {digest_of(words[name].word): name for name in sorted(names[0])}
    pairs = [(known.get(digest_of(words[name].word)), name) for name in sorted(names[1])]
    return [f"'{a}' and '{b}'" for a, b in pairs if a is not None]


def _time_gap(one: _Split) -> Finding:
    found = seconds_between(one.split.train, one.split.test, one.runs)
    if math.isinf(found):
        detail = "Training and test share no run."
        return one.finding("gap", "no shared run", "", True, detail, one.declaration.setting, "")
    shared = {rows.run for rows in one.split.train} & {rows.run for rows in one.split.test}
    memory = max(one.runs[key].filter_s for key in shared)
    needed = HRF_LENGTH_S + memory
    parts = f"{HRF_LENGTH_S:g} s of haemodynamic response and {memory:g} s of filter"
    detail = f"{found:g} s lie between training and test volumes of a run; {parts} reach across."
    remedy = f"Leave {needed:g} s between training and test, split by run, or filter less (preprocess.high_pass_s)."
    good = found >= needed - _TOLERANCE_S
    return one.finding("gap", f"{found:g} s", f"{needed:g} s", good, detail, one.declaration.setting, remedy)


def _fitted_apart(one: _Split, fit: Fit) -> Finding:
    shared = {rows.run for rows in one.split.train} & {rows.run for rows in one.split.test}
    good = fit.on == "train" or (fit.on == "each run" and not shared)
    found = f"on {fit.on}" + (", which holds training and test" if fit.on == "each run" and shared else "")
    detail = f"{fit.what[:1].upper()}{fit.what[1:]} was fitted {found}."
    remedy = "Fit it on the training rows alone, or split by run."
    return one.finding(fit.kind, found, "apart from test", good, detail, fit.setting, remedy)


def _corpus_apart(one: _Split, corpus: Corpus) -> Finding:
    test = _heard(one, one.split.test)
    words = one.material.words
    read = {name: words[name].word for name in corpus.stimuli if name in words}
    for source in corpus.sources:
        read |= {name: found for name, found in one.material.source(source).items()}
    tested = {one.runs[rows.run].stimulus for rows in one.split.test} - {""}
    named = sorted(tested & {*corpus.stimuli, *read})
    share = max((shared_windows(text, list(read.values())) for text in test.values()), default=0.0)
    detail = f"{corpus.what}: {share:.1%} of the {WINDOW}-word windows of the test text stand in its text."
    detail += f" It names the test stimuli {', '.join(named[:3])}." if named else ""
    needed = f"{TEXT_LIMIT:.0%} or less, no test stimulus by name"
    remedy = "Take a corpus without the test stories."
    good = share <= TEXT_LIMIT and not named
    finding = one.finding("corpus", f"{share:.1%}", needed, good, detail, corpus.setting, remedy)
    return _excused(finding, corpus.allowed)
