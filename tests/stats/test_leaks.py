"""The leak audit: a clean study passes, one planted leak of each kind is caught, and a deliberate bug per check is not."""

import dataclasses
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from decoders.config import AllowedLeak, parse_settings
from decoders.data.manifest import Run, write_manifest
from decoders.errors import InputError
from decoders.stage import SettingsSlice, run_stage
from decoders.stats import leak_checks
from decoders.stats.declared import (
    Corpus,
    Declaration,
    DeclaredSplit,
    Fit,
    Rows,
    TimedRun,
    read_audited,
    write_declaration,
)
from decoders.stats.findings import Material
from decoders.stats.leak_checks import seconds_between
from decoders.stats.leaks import audit
from decoders.stats.stage_leaks import refuse
from decoders.stimuli.timings import Words, words_table
from decoders.store.tables import COLUMNS, read_table, write_table

TR, N = 2.0, 150
CLAIMS = ("run", "stimulus", "subject")


def story(seed, n=400):
    """Words that hardly repeat themselves, one every .7 s."""
    chosen = np.random.default_rng(seed).integers(500, size=n)
    words = tuple(f"w{number}" for number in chosen)
    return Words(0.7 * np.arange(n), np.full(n, 0.5), words, tuple(word + " " for word in words))


def timed(key, subject="01", stimulus="", **changes):
    run = TimedRun(key, subject, stimulus or f"story-{key}", N, 0.0, TR, 128.0, source=key)
    return dataclasses.replace(run, **changes)


FITS = (Fit("scaling", "scale of each run", "each run", "preprocess"), Fit("penalty", "penalty", "train", "alphas"),
        Fit("selection", "voxels", "train", "n_voxels"))  # fmt: skip
CORPUS = Corpus("language_model", "The language model's text", "decoding.language.text", ("story-other",))


def study(train=None, test=None, claims=CLAIMS, fits=FITS, corpora=(CORPUS,), runs=None, few_shot=(), **material):
    """A split of two training runs and one test run of another subject, and what the audit reads."""
    runs = runs or [timed("a", "01"), timed("b", "02"), timed("c", "03")]
    train = train or (Rows("a", 0, N), Rows("b", 0, N))
    split = DeclaredSplit("set/fold", claims, train, test or (Rows("c", 0, N),), fits, corpora, few_shot)
    words = {f"story-{name}": story(i) for i, name in enumerate(("a", "b", "c", "other"))}
    found = {"words": words, "checksums": {run.source: f"sum-{run.source}" for run in runs}} | material
    return [Declaration("encode", "decoding.encoding", tuple(runs), (split,))], Material(**found)


def failed(planted, allowed=()):
    return {finding.check for finding in audit(*planted, allowed) if finding.passed == "no"}


def adapted(*given, more=(), **changes):
    """A study whose decoder is adapted to the tested subject 03 by the rows given, of its run d unless others are named."""
    runs = [timed("a", "01"), timed("b", "02"), timed("c", "03"), timed("d", "03"), *more]
    return study(runs=runs, few_shot=given or (Rows("d", 0, N),), **changes)


BLOCKS = {"claims": ("time",), "fits": (), "corpora": ()}
TWIN = {"story-a": story(0), "story-b": story(1), "story-c": story(0), "story-other": story(3)}
LONGER = dataclasses.replace(story(3), word=(*story(3).word[:300], *story(2).word[:100]))

# One planted leak of each kind: the check that must find it, and the study.
PLANTED = {
    "the same run": ("run", lambda: study(test=(Rows("a", 0, N),), claims=("run",))),
    "the same image under another name": ("run", lambda: study(checksums={"a": "x", "c": "x"})),
    "the same story": ("stimulus", lambda: study(runs=[timed("a"), timed("b", "02"), timed("c", "03", "story-b")])),
    "the same text under another name": ("text", lambda: study(words=TWIN)),
    "another part of the same text under another name": (
        "text", lambda: study((Rows("a", 0, 50),), (Rows("c", 100, N),), words=TWIN),
    ),
    "the same subject": ("subject", lambda: study(runs=[timed("a"), timed("b", "02"), timed("c", "01")])),
    "one subject under two names": ("subject", lambda: study(checksums={"b": "x", "c": "x"})),
    "blocks too close in time": ("gap", lambda: study((Rows("a", 0, 20),), (Rows("a", 99, 150),), **BLOCKS)),
    "blocks that overlap": ("gap", lambda: study((Rows("a", 0, 20),), (Rows("a", 19, 150),), **BLOCKS)),
    "moments of a story heard by another": (
        "stimulus",
        lambda: study(runs=[timed("a", stimulus="s"), timed("b", "02"), timed("c", "03", "s")], claims=("time", "subject")),
    ),
    "a corpus with the test story": (
        "corpus", lambda: study(corpora=(dataclasses.replace(CORPUS, stimuli=("story-c", "story-other")),)),
    ),
    "a corpus that quotes the test story": (
        "corpus", lambda: study(words={**study()[1].words, "story-other": LONGER}),
    ),
    "a corpus file that is named as the test story": (
        "corpus", lambda: study(corpora=(Corpus("language_model", "x", "x", sources=("folder",)),),
                                source=lambda name: {"story-c": ("some", "other", "words")}),
    ),
    "scaling fitted on all rows": ("scaling", lambda: study(fits=(dataclasses.replace(FITS[0], on="both"),))),
    "scaling of a run with both": (
        "scaling", lambda: study((Rows("a", 0, 10),), (Rows("a", 99, 150),), claims=("time",), fits=FITS[:1], corpora=()),
    ),
    "training rows of the tested subject beside those given": (
        "subject", lambda: adapted(train=(Rows("a", 0, N), Rows("d", 0, N))),
    ),
    "the tested run is given": ("run", lambda: adapted(Rows("c", 0, N))),
    "the tested story is given": (
        "stimulus", lambda: adapted(Rows("e", 0, N), more=[timed("e", "03", "story-c")]),
    ),
    "the tested text is given under another name": ("text", lambda: adapted(words={**TWIN, "story-d": story(2)} | {"story-c": story(2)})),
    "the tested image is given under another name": ("run", lambda: adapted(checksums={"d": "x", "c": "x"})),
    "runs of another subject are given": (
        "subject", lambda: adapted(Rows("e", 0, N), more=[timed("e", "04", "story-a")]),
    ),
    "rows too close to the tested ones are given": (
        "gap", lambda: adapted(Rows("c", 0, 20), test=(Rows("c", 99, 150),), **BLOCKS),
    ),
    "a penalty chosen on test rows": ("penalty", lambda: study(fits=(dataclasses.replace(FITS[1], on="test"),))),
    "voxels selected on all rows": ("selection", lambda: study(fits=(dataclasses.replace(FITS[2], on="both"),))),
}  # fmt: skip


def test_a_clean_study_passes_every_check():
    found = audit(*study())
    assert {finding.passed for finding in found} == {"yes"}
    assert {finding.check for finding in found} == {
        "run", "subject", "stimulus", "text", "gap", "scaling", "penalty", "selection", "corpus",
    }  # fmt: skip
    wide = audit(*study((Rows("a", 0, 20),), (Rows("a", 100, 150),), **BLOCKS))
    assert [(f.found, f.needed, f.passed) for f in wide if f.check == "gap"] == [("160 s", "160 s", "yes")]
    unfiltered = [timed("a", filter_s=0.0)]
    narrow = study((Rows("a", 0, 20),), (Rows("a", 36, 150),), runs=unfiltered, **BLOCKS)
    assert failed(narrow) == set()


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_is_caught(name):
    check, plant = PLANTED[name]
    leaks = [finding for finding in audit(*plant()) if finding.passed == "no"]
    assert check in {leak.check for leak in leaks}
    with pytest.raises(InputError, match=r"decoding\.allowed_leaks") as error:
        refuse([leak for leak in leaks if leak.check == check], logging.getLogger("test"))
    assert f"set/fold, {check}" in str(error.value)


def test_runs_given_of_the_tested_subject_are_no_leak_and_are_counted():
    words = {f"story-{name}": story(i) for i, name in enumerate(("a", "b", "c", "d", "other"))}
    fit = Fit("selection", "voxels of the new subject", "few_shot", "decoding.across")
    found = audit(*adapted(fits=(*FITS, fit), words=words))
    assert {finding.passed for finding in found} == {"yes"}
    subject = next(finding for finding in found if finding.check == "subject")
    assert subject.found == "0 subjects, 1 runs given"
    assert "1 of its other runs" in subject.detail
    # Without them the check is what it was.
    zero = next(finding for finding in audit(*study()) if finding.check == "subject")
    assert zero.found == "0 subjects"


@pytest.mark.parametrize(
    "name", ["the tested run is given", "the tested story is given", "runs of another subject are given"]
)
def test_an_audit_that_forgets_the_given_rows_lets_their_leak_through(name, monkeypatch):
    check, plant = PLANTED[name]
    original = leak_checks.Audited.runs_of
    given = plant()[0][0].splits[0].few_shot
    monkeypatch.setattr(
        leak_checks.Audited,
        "runs_of",
        lambda one, rows: original(one, [r for r in rows if r not in given or r in one.split.test]),
    )
    if name == "the tested run is given":
        # The tested rows themselves stay: only the training side forgets them.
        monkeypatch.setattr(DeclaredSplit, "seen", property(lambda split: split.train))
    assert check not in failed(plant())


def blind(value):
    return lambda *arguments, **keys: value


# A deliberate bug in each check, and the planted leaks that it then lets through.
BUGS = {
    "images are not compared": ("_twin_images", blind([]), ["the same image under another name", "one subject under two names"]),
    "the gap is never negative or short": ("seconds_between", blind(1e9), ["blocks too close in time", "blocks that overlap"]),
    "whole texts are not compared": ("_twins", blind([]), ["another part of the same text under another name"]),
    "windows are never found": ("shared_windows", blind(0.0), ["a corpus that quotes the test story"]),
    "story time is not compared": ("_story_overlap", blind(0.0), ["moments of a story heard by another"]),
    "every share is small": ("TEXT_LIMIT", 1.0, ["a corpus that quotes the test story"]),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_a_deliberate_bug_lets_its_leak_through(bug, monkeypatch):
    name, value, hidden = BUGS[bug]
    monkeypatch.setattr(leak_checks, name, value)
    for leak in hidden:
        check, plant = PLANTED[leak]
        assert check not in failed(plant()), leak


def test_a_gap_that_forgets_the_haemodynamic_response_lets_near_blocks_through():
    check, plant = PLANTED["blocks too close in time"]
    declared, *rest = plant()
    forgotten = [
        dataclasses.replace(one, runs=tuple(dataclasses.replace(run, response_s=0.0) for run in one.runs))
        for one in declared
    ]
    assert check in failed((declared, *rest))
    assert check not in failed((forgotten, *rest))


def everyone_apart(check):
    """Mutation: the check looks at the training rows of another split, which shares nothing."""

    def bug(one, *rest):
        clean, material = study()
        apart = dataclasses.replace(
            one, split=clean[0].splits[0], runs={r.key: r for r in clean[0].runs}, material=material
        )
        return check(apart, *rest)

    return bug


@pytest.mark.parametrize(
    "name", [name for name in PLANTED if PLANTED[name][0] in ("run", "subject", "stimulus", "text")]
)
def test_a_check_of_the_wrong_rows_lets_its_leak_through(name, monkeypatch):
    check, plant = PLANTED[name]
    function = {"run": "shared_run", "subject": "shared_subject", "stimulus": "shared_stimulus", "text": "shared_text"}[
        check
    ]
    monkeypatch.setattr(leak_checks, function, everyone_apart(getattr(leak_checks, function)))
    assert check not in failed(plant())


@pytest.mark.parametrize("kind", ["scaling", "penalty", "selection"])
def test_a_fit_that_is_believed_to_see_training_rows_lets_its_leak_through(kind, monkeypatch):
    original = leak_checks.fitted_apart
    monkeypatch.setattr(
        leak_checks, "fitted_apart", lambda one, fit: original(one, dataclasses.replace(fit, on="train"))
    )
    for check, plant in PLANTED.values():
        if check == kind:
            assert kind not in failed(plant())


def test_a_corpus_whose_names_are_ignored_lets_its_leak_through(monkeypatch):
    original = leak_checks.corpus_apart
    monkeypatch.setattr(
        leak_checks,
        "corpus_apart",
        lambda one, corpus: original(one, dataclasses.replace(corpus, stimuli=(), sources=())),
    )
    for check, plant in PLANTED.values():
        if check == "corpus":
            assert "corpus" not in failed(plant())


stretch = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda pair: (pair[0], sum(pair)))


stretches = st.lists(stretch, min_size=1, max_size=4).map(lambda parts: [Rows("a", *part) for part in parts])


def from_start_to_start(train, test, runs):
    """Mutation: the length of a volume counts as a part of the gap."""
    return seconds_between(train, test, runs) + runs["a"].tr


def behind_alone(train, test, runs):
    """Mutation: training volumes that come after the test volumes are overlooked."""
    gaps = [b.first - a.stop for a in train for b in test if a.first <= b.first]
    return runs["a"].tr * min(gaps, default=np.inf)


def check_gap(form):
    @settings_of_hypothesis(max_examples=60, deadline=None, report_multiple_bugs=False)
    @given(stretches, stretches, st.sampled_from([0.5, 2.0]))
    def check(train, test, tr):
        """The definition: the least distance of a training and a test volume, from end to start."""
        runs = {"a": timed("a", tr=tr), "b": timed("b", tr=tr)}
        a, b = (np.concatenate([np.arange(part.first, part.stop) for part in side]) for side in (train, test))
        found, slow = form(train, test, runs), tr * (np.abs(a[:, None] - b[None, :]).min() - 1)
        assert found == form(test, train, runs)
        assert (found < 0) == (slow < 0)
        if found >= 0:
            assert found == pytest.approx(slow)

    check()


def test_the_gap_is_the_least_distance_of_two_volumes():
    check_gap(seconds_between)
    runs = {"a": timed("a"), "b": timed("b")}
    assert seconds_between([Rows("a", 0, 9)], [Rows("b", 0, 9)], runs) == np.inf


@pytest.mark.parametrize("form", [from_start_to_start, behind_alone])
def test_the_gap_fails_for_wrong_distances(form):
    with pytest.raises(AssertionError):
        check_gap(form)


def test_an_allowed_leak_stays_in_the_table_with_its_reason():
    reason = "There is one run, and nothing else can be done."
    planted = PLANTED["blocks too close in time"][1]()
    found = audit(*planted, [AllowedLeak(analysis="encode", check="gap", reason=reason)])
    (gap,) = [finding for finding in found if finding.check == "gap"]
    assert gap.passed == "allowed"
    assert gap.detail.endswith(f"Allowed: {reason}")
    assert (gap.found, gap.needed) == ("158 s", "160 s")
    assert failed(planted, [AllowedLeak(analysis="names", check="gap", reason=reason)]) == {"gap"}
    by_design = study(corpora=(dataclasses.replace(CORPUS, stimuli=("story-c",), allowed="an upper bound"),))
    assert failed(by_design) == set()


# ---- the stage ------------------------------------------------------------------------------------------------------


def settings(allowed=()):
    values = {
        "study": "x", "data": {"source": "bids", "root": "bids"}, "preprocess": {},
        "decoding": {"encoding": {}, "allowed_leaks": list(allowed)},
    }  # fmt: skip
    return SettingsSlice.of("leaks", parse_settings(values))


def write_inputs(folder, planted):
    (declaration,), material = planted
    write_declaration(folder / "splits.json", declaration)
    subjects = {run.source: run for run in declaration.runs}
    rows = [
        Run(run_id=key, subject=run.subject, run=key, sha256=material.checksums.get(key, ""))
        for key, run in subjects.items()
    ]
    write_manifest(folder / "manifest.tsv", rows)
    tables = [words_table(words).assign(stimulus=name) for name, words in material.words.items()]
    write_table(folder / "words.tsv", pd.concat(tables, ignore_index=True))
    return {
        name: [folder / file]
        for name, file in (("splits", "splits.json"), ("manifest", "manifest.tsv"), ("words", "words.tsv"))
    }


def test_the_stage_writes_one_row_per_split_and_check(tmp_path):
    inputs = write_inputs(tmp_path, study())
    run_stage(settings(), inputs, {"leaks": tmp_path / "leaks.tsv"})
    table = read_table(tmp_path / "leaks.tsv")
    assert tuple(table.columns[:7]) == COLUMNS["leaks"]
    assert len(table) == 9
    assert set(table["passed"]) == {"yes"}
    assert read_audited(inputs["splits"][0], tmp_path / "leaks.tsv") == study()[0][0]


@pytest.mark.parametrize("name", ["the same run", "the same text under another name", "blocks too close in time"])
def test_the_stage_fails_with_a_sentence_and_writes_nothing(tmp_path, name):
    check, plant = PLANTED[name]
    with pytest.raises(InputError, match="expected training apart from test data") as error:
        run_stage(settings(), write_inputs(tmp_path, plant()), {"leaks": tmp_path / "leaks.tsv"})
    assert check in str(error.value)
    assert not (tmp_path / "leaks.tsv").exists()


def test_an_allowance_that_nothing_needs_is_warned_of(tmp_path, caplog):
    allowed = [{"analysis": "encode", "check": "gap", "reason": "There is one run, and no more."}]
    run_stage(settings(allowed), write_inputs(tmp_path, study()), {"leaks": tmp_path / "leaks.tsv"})
    assert "encode has no leak of 'gap'; remove the entry" in caplog.text


def test_splits_that_were_changed_after_their_audit_are_refused(tmp_path):
    inputs = write_inputs(tmp_path, study())
    run_stage(settings(), inputs, {"leaks": tmp_path / "leaks.tsv"})
    (declaration,), _ = PLANTED["the same run"][1]()
    write_declaration(inputs["splits"][0], declaration)
    with pytest.raises(InputError, match="an audit of the splits"):
        read_audited(inputs["splits"][0], tmp_path / "leaks.tsv")
    (tmp_path / "splits.json").write_text("{}")
    with pytest.raises(InputError, match=r"declared splits \(JSON\)"):
        read_audited(inputs["splits"][0], tmp_path / "leaks.tsv")
