import numpy as np
import pytest

from decoders.report.words import (
    analysis,
    colour_of,
    control_title,
    count,
    listed,
    parse_model,
    text,
    title,
    window_seconds,
)


def test_models_are_parsed():
    model = parse_model("backprop cnn3 fc1_pooled 32px")
    assert (model.rule, model.architecture, model.layer, model.size) == ("backprop", "cnn3", "fc1_pooled", "32")
    assert model.words == "Backpropagation, fc1 pooled, 32 px"
    assert parse_model("control:pixel").place == ("", "", "")
    assert parse_model("user:my model of four words").rule == "user:my model of four words"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rsa IT: backprop cnn3 fc1 native", "Alignment, IT: Backpropagation, fc1, native size"),
        ("rsa ranking of rules, EVC", "Alignment, ranking of the rules, EVC"),
        (
            "window_40s: ridge, percentile, split unseen_time",
            "40-s windows: ridge, identification percentile, unseen time",
        ),
        (
            "window_20s: shared, percentile, split held_out_subject_1_runs",
            "20-s windows: shared network, adapted, identification percentile, held-out subject, 1 run given",
        ),
        ("volume: lda, accuracy", "Names from single volumes: LDA, accuracy"),
        ("something else entirely", "something else entirely"),
    ],
)
def test_analyses_in_words(name, words):
    assert analysis(name) == words


def test_controls_in_words():
    assert title("control:word_rate") == "control: word rate"
    assert control_title("language_model") == "language model alone"
    assert control_title("control:pixel") == "pixels"
    assert control_title("control:new_one") == "new one"


def test_rules_keep_their_colour_whatever_else_is_there():
    assert colour_of("backprop", ["backprop", "zebra"]) == colour_of("backprop", ["a", "backprop"])
    assert colour_of("a", ["a", "b"]) != colour_of("b", ["a", "b"])


def test_small_words():
    assert window_seconds("window_20s") == 20.0
    assert window_seconds("volume") is None
    assert text(np.nan) == ""
    assert count(1, "analysis", "analyses") == "1 analysis"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a"] * 14, 2) == "a, a and 12 more"
