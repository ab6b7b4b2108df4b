"""Scores of texts that need other people's data: METEOR (WordNet) and BERTScore (a language model in a folder).

Both are optional. Nothing is fetched here: what is not installed is named in the table, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from decoders.decoding.free_controls import Told
from decoders.decoding.free_scores import window_text
from decoders.decoding.likelihood import Floats
from decoders.decoding.refit import Score, over_windows, window_row
from decoders.decoding.symbols import is_ideograph
from decoders.stimuli.timings import Words

METEOR, BERT_SCORE = "meteor", "bertscore"
ABSENT = "absent: "
NO_SPACES = "this text is written without spaces between words; the character error rate counts its characters"
Scorer = Callable[[Sequence[str], Sequence[str]], Floats]
_UNTESTED = np.array([np.nan])


def absent_row(about: Mapping[str, Any], model: str, metric: str, why: str) -> dict[str, Any]:
    """Return the row of a score that was not measured, with the reason as its method."""
    row = window_row(about, model, metric, Score(np.nan, np.nan, np.nan, 0, _UNTESTED), "")
    return {**row, "method": ABSENT + why}


def extra_scorers(heard: Sequence[Words], bert_model: str | None, bert_layer: int) -> dict[str, Scorer | str]:
    """Return the scorers that this machine has; for others the reason why it has none.

    Parameters
    ----------
    heard : sequence of Words
        Texts that others are compared with.
    bert_model : str, optional
        Folder of a transformers model.
    bert_layer : int
        Layer whose states BERTScore compares.
    """
    ideographs = any(is_ideograph(word) for words in heard for word in words.word)
    found = {METEOR: _meteor(ideographs), BERT_SCORE: _bert_score(bert_model, bert_layer)}
    return found | ({"wer": NO_SPACES} if ideographs else {})


def extra_rows(
    told: Sequence[Told], heard: Sequence[Words], windows: Floats, scorers: Mapping[str, Scorer | str],
    about: Mapping[str, Any], rng: np.random.Generator,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the rows of the decoding table: mean over windows in which something was heard.

    Parameters
    ----------
    told : sequence of Told
        Models and their controls.
    heard : sequence of Words
        One per test run.
    windows : array of shape (n_windows, 2)
    scorers : mapping of str to scorer or reason
        As `extra_scorers` makes it.
    about : mapping
        ``subject``, ``seed`` and ``task``.
    rng : Generator
        Of intervals.
    """
    rows = []
    for metric, scorer in scorers.items():
        for one in told:
            if not isinstance(scorer, str):
                score = over_windows(_windows_scores(scorer, heard, one.texts, windows), _UNTESTED, rng)
                rows.append({**window_row(about, one.model, metric, score, ""), "control_of": one.control_of})
            elif not one.model.startswith("control:"):
                rows.append({**absent_row(about, one.model, metric, scorer), "control_of": one.control_of})
    return rows


def _windows_scores(scorer: Scorer, heard: Sequence[Words], texts: Sequence[Words], windows: Floats) -> Floats:
    """Return the score of each window in which something was heard; 0 where nothing was written."""
    pairs = [
        pair
        for one, other in zip(heard, texts, strict=True)
        for pair in zip(window_text(one, windows), window_text(other, windows), strict=True)
        if pair[0]
    ]
    scores = np.zeros(len(pairs))
    written = [row for row, (_, text) in enumerate(pairs) if text]
    if written:
        scores[written] = scorer([pairs[row][0] for row in written], [pairs[row][1] for row in written])
    return scores


def _meteor(ideographs: bool) -> Scorer | str:
    if ideographs:
        return NO_SPACES
    try:
        from nltk.corpus import wordnet
        from nltk.translate.meteor_score import meteor_score
    except ImportError:
        return "nltk is not installed (pip install 'corticode[text]')"
    try:
        wordnet.ensure_loaded()  # from disk: nltk fetches nothing unasked
    except LookupError:
        return "nltk's WordNet is not installed (python -m nltk.downloader wordnet)"

    def scorer(references: Sequence[str], texts: Sequence[str]) -> Floats:
        pairs = zip(references, texts, strict=True)
        return np.array([meteor_score([one.split()], other.split()) for one, other in pairs], dtype=np.float64)

    return scorer


def _bert_score(model: str | None, layer: int) -> Scorer | str:
    if model is None:
        return "no folder of a model is given (decoding.free_text.bert_model)"
    if not Path(model).expanduser().is_dir():
        return f"decoding.free_text.bert_model is no folder: {model}"
    try:
        import bert_score
    except ImportError:
        return "bert-score is not installed (pip install 'corticode[text]')"
    folder = str(Path(model).expanduser())

    def scorer(references: Sequence[str], texts: Sequence[str]) -> Floats:
        # A folder is read from disk; a bare name would be fetched from a hub.
        *_, f1 = bert_score.score(list(texts), list(references), model_type=folder, num_layers=layer)
        return np.asarray(f1, dtype=np.float64)

    return scorer
