"""METEOR and BERTScore: absent with a reason, or by a scorer that is installed; and the control of another person."""

import dataclasses
import sys
import types

import numpy as np
import pandas as pd
import pytest
from made_up_listener import WINDOWS, listened

from decoders.decoding.free_controls import MODEL, Told
from decoders.decoding.free_others import ONE_SUBJECT, others_runs
from decoders.decoding.refit import SHIFTED
from decoders.decoding.stage_tables import correct
from decoders.decoding.text_extras import ABSENT, absent_row, extra_rows, extra_scorers
from decoders.report.sections.decoding import _absent, _is_absent
from decoders.stats.verdicts import decoding_verdicts
from decoders.stimuli.timings import Words
from decoders.store.recording import Recording

ABOUT = {"subject": "01", "seed": 0, "task": "free_text"}
NOTHING = Words(np.empty(0), np.empty(0), (), ())


def rows(scorers, told=None):
    heard = listened()[1][5:]
    told = told or [Told(MODEL, heard), Told(SHIFTED, heard[::-1], MODEL)]
    return pd.DataFrame(extra_rows(told, heard, WINDOWS, scorers, ABOUT, np.random.default_rng(0)))


@pytest.fixture
def without(monkeypatch):
    """No optional package can be imported, installed or not."""
    for name in ("nltk", "nltk.corpus", "nltk.translate", "nltk.translate.meteor_score", "bert_score"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def installed(monkeypatch):
    """Tiny stand-ins: METEOR is the share of words of the reference that occur, BERTScore that of characters."""
    corpus, meteor, bert = (types.ModuleType(name) for name in ("corpus", "meteor_score", "bert_score"))
    corpus.wordnet = types.SimpleNamespace(ensure_loaded=lambda: None)
    meteor.meteor_score = lambda references, text: np.mean([word in text for word in references[0]])
    asked = {}

    def score(texts, references, **given):
        asked.update(given)
        shares = [np.mean([letter in text for letter in one]) for one, text in zip(references, texts, strict=True)]
        return np.zeros(len(texts)), np.zeros(len(texts)), np.array(shares)

    bert.score = score
    modules = {"nltk": types.ModuleType("nltk"), "nltk.corpus": corpus, "nltk.translate": types.ModuleType("t")}
    for name, module in {**modules, "nltk.translate.meteor_score": meteor, "bert_score": bert}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return corpus, asked


def test_what_is_not_installed_is_named_with_the_reason(without, tmp_path):
    table = rows(extra_scorers(listened()[1], str(tmp_path), 9))
    assert table.metric.tolist() == ["meteor", "bertscore"]
    assert table.score.isna().all()
    assert table.method[0] == "absent: nltk is not installed (pip install 'corticode[text]')"
    assert table.method[1] == "absent: bert-score is not installed (pip install 'corticode[text]')"


def test_a_model_that_is_no_folder_is_never_fetched(installed, tmp_path):
    for model, reason in ((None, "no folder of a model is given"), ("roberta-large", "is no folder: roberta-large")):
        assert reason in extra_scorers(listened()[1], model, 9)["bertscore"]
    assert not installed[1], "nothing was asked of bert-score"


def test_wordnet_is_not_fetched_either(installed):
    def missing():
        raise LookupError("Resource wordnet not found")

    installed[0].wordnet.ensure_loaded = missing
    assert extra_scorers(listened()[1], None, 9)["meteor"].startswith("nltk's WordNet is not installed")


def test_scorers_that_are_there_score_every_window(installed, tmp_path):
    table = rows(extra_scorers(listened()[1], str(tmp_path), 7)).set_index(["metric", "model"])
    assert installed[1] == {"model_type": str(tmp_path), "num_layers": 7}
    assert table.score["meteor", MODEL] == table.score["bertscore", MODEL] == 1
    assert table.score["meteor", SHIFTED] < 1
    assert table.ci_low["meteor", SHIFTED] < table.score["meteor", SHIFTED] < table.ci_high["meteor", SHIFTED]
    assert (table.n == 16).all()
    assert table.control_of["meteor", SHIFTED] == MODEL


def test_nothing_that_was_written_scores_nothing_and_silence_does_not_count():
    scorers = {"meteor": lambda references, texts: np.ones(len(texts))}
    assert rows(scorers, [Told(MODEL, [NOTHING, NOTHING])]).score[0] == 0
    heard = [listened()[1][5], NOTHING]
    table = extra_rows([Told(MODEL, heard)], heard, WINDOWS, scorers, ABOUT, np.random.default_rng(0))
    assert (table[0]["n"], table[0]["score"]) == (8, 1)


def test_a_text_without_spaces_has_no_words_to_compare(installed):
    chinese = Words(np.arange(3.0), np.ones(3), tuple("我看见"), tuple("我看见"))
    found = extra_scorers([chinese], None, 9)
    assert found["meteor"] == found["wer"]
    assert "without spaces" in found["wer"]


def test_an_absent_row_explains_nothing_and_is_a_notice_on_the_page():
    score = {"score": 0.9, "ci_low": 0.8, "ci_high": 1.0, "n": 9, "null_mean": 0.5, "p": 0.001, "method": "m"}
    own = {**absent_row(ABOUT, MODEL, "percentile", ""), **score}
    control = {**own, "model": SHIFTED, "control_of": MODEL, "score": 0.5, "ci_low": 0.4, "ci_high": 0.6, "p": np.nan}
    absent = {**absent_row(ABOUT, "control:other_subject", "bits_per_char", ONE_SUBJECT), "control_of": MODEL}
    table = pd.DataFrame([own, control, absent, absent_row(ABOUT, MODEL, "meteor", "nltk is not installed")])
    assert decoding_verdicts(correct(table), 0.05).verdict.tolist() == ["above all controls"]
    assert _is_absent(table).tolist() == [False, False, True, True]
    notice = _absent(table)
    assert notice.items == [
        "other subject: there is no usable run of text of another subject.", "METEOR: nltk is not installed."
    ]  # fmt: skip
    assert _absent(table[:2]) is None
    assert ABSENT == "absent: "


# ---- another person -------------------------------------------------------------------------------------------------

MASK = np.array([[[True, True, False], [True, True, True]]])


def recording(subject, stimulus="s1", mask=MASK, tr=2.0, value=0.0, affine=None):
    data = np.full((6, int(mask.sum())), value, np.float32) + np.arange(mask.sum(), dtype=np.float32)
    return Recording(data, "volume", subject, task="story", run=stimulus, stimulus=stimulus, time=2.0 * np.arange(6),
                     tr=tr, mask=mask, affine=np.eye(4) if affine is None else affine)  # fmt: skip


OWN = [recording("01", "s1"), recording("01", "s2")]


def test_another_person_who_heard_the_same_story_comes_first():
    others = [recording("02", "s3", value=30), recording("02", "s2", value=20)]
    found = others_runs(OWN, [*OWN, *others], MASK, np.array([0, 3]))
    assert [run[0, 0] for run in found] == [30, 20], "nobody else heard s1; s2 was heard"
    assert all(run.shape == (6, 5) for run in found)


def test_voxels_are_matched_by_place():
    wider = np.ones_like(MASK)
    found = others_runs(OWN, [recording("02", "s1", wider)], MASK, np.array([0, 3]))
    np.testing.assert_array_equal(found[0][0], [0, 1, 3, 4, 5])
    narrower = MASK.copy()
    narrower[0, 0, 1] = False
    found = others_runs(OWN, [recording("02", "s1", narrower, value=9)], MASK, np.array([0, 3]))
    np.testing.assert_array_equal(found[0][0], [9, 0, 10, 11, 12])


def test_why_there_is_no_other_person():
    assert others_runs(OWN, OWN, MASK, np.array([0])) == ONE_SUBJECT
    lacking = MASK.copy()
    lacking[0, 0, 0] = False
    moved = np.diag([2.0, 2, 2, 1])
    for other in (recording("02", mask=lacking), recording("02", tr=1.0), recording("02", affine=moved),
                  dataclasses.replace(recording("02"), mask=None)):  # fmt: skip
        assert "no run of another subject has the grid" in others_runs(OWN, [*OWN, other], MASK, np.array([0]))
