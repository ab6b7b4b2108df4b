"""Character and word error rates, counted by jiwer, defined for empty references.

The corpus rate is all errors over all reference characters; the mean rate averages the rates of the
items, so short references weigh more. They differ (a random Haxby name: .93 against 1.02), hence
every table names the one it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from decoders.decoding.symbols import is_ideograph

Unit = Literal["character", "word"]
Average = Literal["corpus", "mean"]
# Metrics of all of decoding in which a smaller score is better.
LOWER_IS_BETTER = ("cer", "wer", "greedy_cer", "bits_per_char")


@dataclass(frozen=True)
class ErrorRate:
    """An error rate and what it was taken over.

    Attributes
    ----------
    score : float
        Errors per reference character or word; above 1 where the text is longer than its reference,
        not a number where no reference holds anything.
    n : int
        Items that count.
    n_empty : int
        Items with an empty reference. The mean leaves them out, as a rate of nothing is not defined;
        the corpus rate counts what was inserted there.
    """

    score: float
    n: int
    n_empty: int


def edit_counts(
    references: Sequence[str], decoded: Sequence[str], unit: Unit = "character"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the edit distance and the length of the reference of each item.

    Words are what white space parts; characters are counted as they are, spaces too.

    Raises
    ------
    ValueError
        Unequal numbers of references and texts.
    """
    if len(references) != len(decoded):
        raise ValueError(f"{len(references)} references, but {len(decoded)} decoded texts")
    import jiwer

    characters = unit == "character"
    # jiwer's defaults strip spaces, which is a decision that belongs to the caller.
    by_word = [jiwer.RemoveMultipleSpaces(), jiwer.Strip(), jiwer.ReduceToListOfListOfWords()]
    whole = jiwer.ReduceToListOfListOfChars() if characters else jiwer.Compose(by_word)
    process: Callable[..., Any] = jiwer.process_characters if characters else jiwer.process_words
    errors, lengths = [], []
    for reference, text in zip(references, decoded, strict=True):
        result = process([reference], [text], reference_transform=whole, hypothesis_transform=whole)
        errors.append(result.substitutions + result.deletions + result.insertions)
        lengths.append(result.substitutions + result.deletions + result.hits)
    return np.array(errors, dtype=np.int64), np.array(lengths, dtype=np.int64)


def error_rate(
    references: Sequence[str], decoded: Sequence[str], unit: Unit = "character", average: Average = "corpus"
) -> ErrorRate:
    """Return the character or word error rate of decoded texts."""
    errors, lengths = edit_counts(references, decoded, unit)
    return rate(errors, lengths, average)


def rate(errors: NDArray[np.int64], lengths: NDArray[np.int64], average: Average = "corpus") -> ErrorRate:
    """Return the error rate from counts per item."""
    filled = lengths > 0
    n_empty = int(np.sum(~filled))
    if not filled.any():
        return ErrorRate(float("nan"), 0, n_empty)
    if average == "corpus":
        return ErrorRate(float(errors.sum() / lengths.sum()), len(errors), n_empty)
    return ErrorRate(float(np.mean(errors[filled] / lengths[filled])), int(filled.sum()), n_empty)


def ngram_scores(references: Sequence[str], decoded: Sequence[str]) -> dict[str, float]:
    """Return BLEU-1 and chrF of decoded texts over all of them, both from 0 to 1, by sacrebleu.

    A language model that has heard nothing reaches a BLEU-1 of .16 to .22 on English stories: words that are
    common are right by chance. Texts of ideographs are compared character by character.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    tokens = "char" if any(map(is_ideograph, "".join(references))) else "none"
    bleu, chrf = BLEU(max_ngram_order=1, tokenize=tokens), CHRF()
    found = {"bleu1": bleu, "chrf": chrf}
    return {name: metric.corpus_score(list(decoded), [list(references)]).score / 100 for name, metric in found.items()}


def distance_table(names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the edit distances between all names, (n_names, n_names) as [reference, decoded], and their lengths."""
    pairs = [(reference, text) for reference in names for text in names]
    errors, _ = edit_counts([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return errors.reshape(len(names), len(names)), np.array([len(name) for name in names], dtype=np.int64)
