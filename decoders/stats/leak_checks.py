"""The checks of the leak audit, one function each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from decoders.stats.declared import Corpus, DeclaredSplit, Fit, Rows, TimedRun
from decoders.stats.findings import Audited, Finding, excused
from decoders.stats.shared_text import WINDOW, digest_of, shared_windows, unheard_passages

# Phrases come again by chance: in runs of 890 words our stories and the Alice book share less than .7 % of them.
TEXT_LIMIT = 0.02
_TOLERANCE_S = 1e-6
_SEEN = {
    "train": "on training rows",
    "test": "on test rows",
    "few_shot": "on rows given of the tested subject",
    "both": "on training and test rows",
    "each run": "on each run",
}


def seconds_between(train: Sequence[Rows], test: Sequence[Rows], runs: Mapping[str, TimedRun]) -> float:
    """Return the least time in seconds between a training and a test volume of one run.

    From the end of one volume to the start of the other; negative where they overlap, infinite where
    training and test share no run.
    """
    gaps = [math.inf]
    for a in train:
        gaps += [runs[a.run].tr * (max(a.first, b.first) - min(a.stop, b.stop)) for b in test if b.run == a.run]
    return min(gaps)


def shared_run(one: Audited) -> Finding:
    """Look for runs on both sides, and for one image under two names."""
    if "run" not in one.split.claims:
        return one.unclaimed("run", "whole runs")
    train, test = one.runs_of(one.split.seen), one.runs_of(one.split.test)
    both = sorted({run.key for run in train} & {run.key for run in test})
    listed = both or _twin_images(one)
    detail = f"In training and test: {', '.join(listed[:3])}." if listed else "No run and no image is on both sides."
    remedy = "Leave one of the runs out by data.subjects, data.sessions or data.tasks, or correct the data set."
    return one.finding("run", f"{len(listed)} runs", "0 runs", not listed, detail, one.material.manifest, remedy)


def _twin_images(one: Audited) -> list[str]:
    """Return test runs whose image holds the same bytes as another run's in training."""
    sums = one.material.checksums
    seen = {sums[run.source]: run.key for run in one.runs_of(one.split.seen) if run.source in sums}
    tested = [(run, seen.get(sums.get(run.source, ""))) for run in one.runs_of(one.split.test)]
    return [f"{run.key} holds the bytes of {twin}" for run, twin in tested if twin not in (None, run.key)]


def shared_subject(one: Audited) -> Finding:
    """Look for subjects on both sides; rows given to adapt to the tested subject must be its own."""
    if "subject" not in one.split.claims:
        return one.unclaimed("subject", "subjects")
    train, test, given = ({run.subject for run in one.runs_of(rows)} for rows in _sides(one.split))
    strangers = [f"{who} (given to adapt to {', '.join(sorted(test))})" for who in sorted(given - test)]
    both = sorted(train & test) or strangers or _twin_images(one)
    detail = f"In training and test: {', '.join(both[:6])}." if both else "No subject is on both sides."
    n_given = len(one.runs_of(one.split.few_shot))
    if given and not both:
        detail += f" To adapt to the tested subject, {n_given} of its other runs are given, as the split declares."
    found = f"{len(both)} subjects" + (f", {n_given} runs given" if given else "")
    remedy = "Train on other subjects than the tested ones."
    where = one.declaration.setting
    return one.finding("subject", found, "0 subjects", not both, detail, where, remedy)


def _sides(split: DeclaredSplit) -> tuple[tuple[Rows, ...], ...]:
    return split.train, split.test, split.few_shot


def shared_stimulus(one: Audited) -> Finding:
    """Look for stimuli on both sides or, where only time is held out, for the same moments of a story."""
    if "stimulus" in one.split.claims:
        sides = [{run.stimulus for run in one.runs_of(rows)} for rows in (one.split.seen, one.split.test)]
        both = sorted(sides[0] & sides[1])
        detail = f"In training and test: {', '.join(both[:4])}." if both else "No stimulus is on both sides."
        remedy = "Leave one of the runs that present it out, or split the study by story."
        where = one.material.manifest
        return one.finding("stimulus", f"{len(both)} stimuli", "0 stimuli", not both, detail, where, remedy)
    if "time" in one.split.claims:
        overlap = max((_story_overlap(one, a, b) for a in one.split.seen for b in one.split.test), default=0.0)
        good = overlap <= _TOLERANCE_S
        detail = (
            "Moments of a story are on one side only." if good else "The same moments of a story are on both sides."
        )
        remedy = "Test on moments of the story that nobody is trained on."
        where = one.declaration.setting
        return one.finding("stimulus", f"{overlap:g} s in both", "0 s", good, detail, where, remedy)
    return one.unclaimed("stimulus", "stimuli")


def _story_overlap(one: Audited, a: Rows, b: Rows) -> float:
    first, second = one.runs[a.run], one.runs[b.run]
    if a.run != b.run and (not first.stimulus or first.stimulus != second.stimulus):
        return 0.0
    (start, stop), (begin, end) = _span(first, a), _span(second, b)
    return max(0.0, min(stop, end) - max(start, begin))


def _span(run: TimedRun, rows: Rows) -> tuple[float, float]:
    return run.start + rows.first * run.tr, run.start + rows.stop * run.tr


def _heard(one: Audited, rows: Sequence[Rows]) -> dict[tuple[str, float, float], tuple[str, ...]]:
    """Return the words that were heard during some rows, by stimulus and time (once for all its listeners)."""
    spans = {(one.runs[part.run].stimulus, *_span(one.runs[part.run], part)) for part in rows}
    words = one.material.words
    return {span: words[span[0]].between(*span[1:]).word for span in sorted(spans) if span[0] in words}


def shared_text(one: Audited) -> Finding:
    """Look for test text that is told in training, under whatever name."""
    if "stimulus" not in one.split.claims:
        return one.unclaimed("text", "texts")
    train, test = _heard(one, one.split.seen), _heard(one, one.split.test)
    if not test:
        return one.finding("text", "", "", None, "The test stimuli have no text.", "", "")
    twins = _twins(one)
    share = max((shared_windows(words, list(train.values())) for words in test.values()), default=0.0)
    share = 1.0 if twins else share
    detail = f"{share:.1%} of the {WINDOW}-word windows of the test text stand in the training text."
    detail = f"{twins[0]} are one text under two names." if twins else detail
    remedy = "Give a text one name in all runs that tell it, and leave its repetitions out."
    needed, where = f"{TEXT_LIMIT:.0%} or less", one.material.manifest
    return one.finding("text", f"{share:.1%}", needed, share <= TEXT_LIMIT, detail, where, remedy)


def _twins(one: Audited) -> list[str]:
    """Return pairs of a training and a test stimulus with the same whole text."""
    words = one.material.words
    names = [{run.stimulus for run in one.runs_of(rows)} & set(words) for rows in (one.split.seen, one.split.test)]
    known = {digest_of(words[name].word): name for name in sorted(names[0])}
    pairs = [(known.get(digest_of(words[name].word)), name) for name in sorted(names[1])]
    return [f"'{a}' and '{b}'" for a, b in pairs if a is not None]


def time_gap(one: Audited) -> Finding:
    """Compare the time between training and test volumes of a run with what reaches across."""
    found = seconds_between(one.split.seen, one.split.test, one.runs)
    if math.isinf(found):
        detail = "Training and test share no run."
        return one.finding("gap", "no shared run", "", True, detail, one.declaration.setting, "")
    shared = {rows.run for rows in one.split.seen} & {rows.run for rows in one.split.test}
    memory = max(one.runs[key].filter_s for key in shared)
    response = max(one.runs[key].response_s for key in shared)
    needed = response + memory
    parts = f"{response:g} s of the brain's response and {memory:g} s of filter"
    detail = f"{found:g} s lie between training and test volumes of a run; {parts} reach across."
    remedy = f"Leave {needed:g} s between training and test, split by run, or filter less (preprocess.high_pass_s)."
    good = found >= needed - _TOLERANCE_S
    return one.finding("gap", f"{found:g} s", f"{needed:g} s", good, detail, one.declaration.setting, remedy)


def fitted_apart(one: Audited, fit: Fit) -> Finding:
    """Look at the rows that something besides the model was fitted to."""
    shared = {rows.run for rows in one.split.seen} & {rows.run for rows in one.split.test}
    good = fit.on in ("train", "few_shot") or (fit.on == "each run" and not shared)
    found = _SEEN[fit.on] + (" as a whole, test rows as well" if fit.on == "each run" and shared else "")
    detail = f"{fit.what[:1].upper()}{fit.what[1:]} was fitted {found}."
    remedy = "Fit it on the training rows alone, or split by run."
    return one.finding(fit.kind, found, "apart from test", good, detail, fit.setting, remedy)


def corpus_apart(one: Audited, corpus: Corpus) -> Finding:
    """Look for the test text in the text that word vectors or a language model were learnt from."""
    test = _heard(one, one.split.test)
    words = one.material.words
    read = {name: words[name].word for name in corpus.stimuli if name in words}
    told = [text.word for text in words.values()]
    for source in corpus.sources:
        for name, text in one.material.source(source).items():
            if not corpus.unheard:
                read[name] = text
                continue
            for number, passage in enumerate(unheard_passages(text, told)):
                read[f"{name}, passage {number + 1}"] = passage
    tested = {one.runs[rows.run].stimulus for rows in one.split.test} - {""}
    named = sorted(tested & {*corpus.stimuli, *read})
    share = max((shared_windows(text, list(read.values())) for text in test.values()), default=0.0)
    detail = f"{corpus.what}: {share:.1%} of the {WINDOW}-word windows of the test text stand in its text."
    detail += f" It names the test stimuli {', '.join(named[:3])}." if named else ""
    if not test and not named:
        return one.finding("corpus", "", "", None, f"{corpus.what}: the test stimuli have no text.", "", "")
    needed = f"{TEXT_LIMIT:.0%} or less, no test stimulus by name"
    remedy = "Take a corpus without the test stories."
    good = share <= TEXT_LIMIT and not named
    finding = one.finding("corpus", f"{share:.1%}", needed, good, detail, corpus.setting, remedy)
    return excused(finding, corpus.allowed)
