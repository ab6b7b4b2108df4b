import pandas as pd

from decoders.report.ranking import ranking_sentences


def pairs(*rows):
    return pd.DataFrame(rows, columns=["region", "layer", "size", "rule_a", "rule_b", "estimate", "p_corrected"])


def test_nothing_survives():
    (sentence,) = ranking_sentences(pairs(("IT", "fc1", "32", "backprop", "untrained", 0.1, 0.4)), 0.05)
    assert "supports no ranking" in sentence
    assert sentence.startswith("IT")


def test_a_ranking_that_reverses_with_size_is_named():
    table = pairs(
        ("EVC", "fc1", "32", "backprop", "untrained", 0.1, 0.01),
        ("EVC", "fc1", "native", "untrained", "backprop", 0.1, 0.01),
    )
    (sentence,) = ranking_sentences(table, 0.05)
    assert "depends on layer or picture size" in sentence
    assert "Backpropagation and Untrained" in sentence


def test_the_order_of_the_two_names_does_not_count_as_a_reversal():
    table = pairs(
        ("EVC", "fc1", "32", "backprop", "untrained", 0.1, 0.01),
        ("EVC", "fc1", "native", "untrained", "backprop", -0.1, 0.01),
    )
    (sentence,) = ranking_sentences(table, 0.05)
    assert "same at every layer" in sentence


def test_an_estimate_that_turns_without_significance_is_said_to():
    table = pairs(
        ("EVC", "fc1", "32", "backprop", "untrained", 0.1, 0.01),
        ("EVC", "fc1", "native", "backprop", "untrained", -0.02, 0.9),
    )
    (sentence,) = ranking_sentences(table, 0.05)
    assert "No corrected difference reverses" in sentence


def test_one_sentence_per_region():
    table = pairs(("EVC", "fc1", "32", "a", "b", 0.1, 0.4), ("IT", "fc1", "32", "a", "b", 0.1, 0.4))
    assert len(ranking_sentences(table, 0.05)) == 2
