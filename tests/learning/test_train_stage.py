import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch

from decoders.config import LearningSettings, TrainingSettings
from decoders.errors import IntegrityError, SettingsError
from decoders.learning import stage, stage_networks
from decoders.learning.measures import paired_p, read_out
from decoders.learning.network import Budget, Seeds, TrainingSet, train_network
from decoders.models.architectures import build_network, load_network
from decoders.models.trainer import TrainingData
from decoders.stage import Job, SettingsSlice, run_stage
from decoders.stimuli.stage_training import write_training_set
from decoders.stimuli.training import TrainingPictures
from decoders.store.arrays import Array, read_arrays, write_arrays
from decoders.store.tables import read_table
from decoders.store.weights import read_weights

RULES = ("untrained", "random_features", "backprop", "feedback_alignment", "direct_feedback_alignment")


def pictures_of_three_classes(n, seed):
    """Noise with a bright patch whose place is the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    x = rng.integers(0, 100, (n, 16, 16, 3))
    for index, label in enumerate(labels):
        x[index, 2:6, 5 * label : 5 * label + 5] += 150
    return x.astype(np.uint8), labels.astype(np.int64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    x_train, y_train = pictures_of_three_classes(96, 0)
    x_test, y_test = pictures_of_three_classes(30, 1)
    names = ["left", "middle", "right"]
    write_training_set(folder / "set.h5", TrainingPictures(x_train, y_train, x_test, y_test, names), "folder")
    study = np.random.default_rng(2).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
    arrays = {
        "pictures": Array(study, ("picture", "row", "column", "channel")),
        "names": Array(np.array([f"p{i}" for i in range(5)], dtype=object), ("picture",)),
    }
    write_arrays(folder / "pictures.h5", arrays)
    return folder


def settings(**training):
    budget = {
        "dataset": "folder",
        "folder": "x",
        "n_train": 96,
        "n_test": 30,
        "epochs": 3,
        "batch_size": 16,
        **training,
    }
    learning = LearningSettings(
        rules=RULES, architectures=("cnn3", "mlp"), seeds=(0, 1), sizes=(16, 0), training=TrainingSettings(**budget)
    )
    return SettingsSlice("train", {"learning": learning, "seed": 0, "threads": 1})


def train(folder, root, rule, architecture="cnn3", seed=0, pictures=True):
    base = root / "networks" / f"{rule}_{architecture}_seed-{seed}"
    outputs = {
        "card": base / "card.json",
        "weights": base / "weights.safetensors",
        "features": base / "features.h5",
        "curves": base / "curves.tsv",
        "predictions": base / "predictions.h5",
    }
    inputs = {"training_set": [folder / "set.h5"]} | ({"pictures": [folder / "pictures.h5"]} if pictures else {})
    run_stage(settings(), inputs, outputs, {"rule": rule, "architecture": architecture, "seed": str(seed)})
    return outputs


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    return root, {rule: train(folder, root, rule) for rule in RULES}


def test_one_job_trains_all_seeds_to_the_same_bits(folder, trained, tmp_path):
    paths = {seed: tmp_path / "networks" / f"backprop_cnn3_seed-{seed}" for seed in (1, 0)}
    outputs = {
        f"{part}_{seed}": path / trained[1]["backprop"][part].name
        for seed, path in paths.items()
        for part in trained[1]["backprop"]
    }
    run_stage(settings(), {"training_set": [folder / "set.h5"]}, outputs, {"rule": "backprop", "architecture": "cnn3"})
    assert outputs["weights_0"].read_bytes() == trained[1]["backprop"]["weights"].read_bytes()
    assert outputs["weights_1"].read_bytes() != outputs["weights_0"].read_bytes()
    assert not any((tmp_path / ".checkpoints").iterdir())


def test_a_killed_job_does_not_train_its_finished_seeds_again(folder, tmp_path, monkeypatch):
    from decoders.learning.rules.gradient import Backprop

    step, calls = Backprop.step, []

    def killed(self, batch):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(Backprop, "step", killed)
    parts = ("card", "weights", "features", "curves", "predictions")
    outputs = {f"{part}_{seed}": tmp_path / "networks" / f"s{seed}" / part for seed in (0, 1) for part in parts}
    job = (settings(), {"training_set": [folder / "set.h5"]}, outputs, {"rule": "backprop", "architecture": "mlp"})
    with pytest.raises(KeyboardInterrupt):
        run_stage(*job)
    run_stage(*job)
    assert len(calls) == 20 + 18, "18 updates per seed: the first seed came from its checkpoint"


def test_options_reach_the_rule_and_the_card(folder, tmp_path):
    changed = settings().values["learning"].model_copy(update={"options": {"backprop": {"learning_rate": 1e-9}}})
    slice_ = SettingsSlice("train", {"learning": changed, "seed": 0, "threads": 1})
    parts = ("card", "weights", "features", "curves", "predictions")
    outputs = {part: tmp_path / "networks" / "s" / part for part in parts}
    labels = {"rule": "backprop", "architecture": "mlp", "seed": "0"}
    run_stage(slice_, {"training_set": [folder / "set.h5"]}, outputs, labels)
    card = card_of(outputs)
    assert card["options"]["learning_rate"] == 1e-9
    assert card["trained"] == "no", "nothing moved by 1 %"
    wrong = settings().values["learning"].model_copy(update={"options": {"backprop": {"learning_rat": 1.0}}})
    with pytest.raises(SettingsError, match="Did you mean 'learning_rate'"):
        run_stage(
            SettingsSlice("train", {"learning": wrong, "seed": 0, "threads": 1}),
            {"training_set": [folder / "set.h5"]}, outputs, labels,
        )  # fmt: skip


def card_of(outputs):
    return json.loads(outputs["card"].read_text())


def test_cards_tell_what_was_trained_and_what_came_of_it(trained):
    cards = {rule: card_of(outputs) for rule, outputs in trained[1].items()}
    assert {rule: card["trained"] for rule, card in cards.items()} == {
        "untrained": "no",
        **dict.fromkeys(RULES[1:], "yes"),
    }
    for card in cards.values():
        assert card["status"] == "ok"
        assert 0 <= card["readout_accuracy"] <= 1
        # U11: the random baseline is the same for all rules, by the same code path.
        assert card["untrained_readout_accuracy"] == cards["untrained"]["readout_accuracy"]
    assert cards["backprop"]["test_accuracy"] > 0.8
    assert cards["random_features"]["displacement"]["conv3"] == 0
    assert cards["random_features"]["displacement"]["fc1"] > 0.01
    assert cards["backprop"]["counters"] == {"forward": 18, "backward": 18}
    assert cards["untrained"]["counters"] == {}


def test_untrained_weights_are_the_initial_ones_of_every_rule(trained):
    weights, attributes = read_weights(trained[1]["untrained"]["weights"])
    assert attributes == {"rule": "untrained", "architecture": "cnn3", "seed": 0}
    net = load_network("cnn3", weights, "weights")
    frozen, _ = read_weights(trained[1]["random_features"]["weights"])
    assert torch.equal(net["conv2"].affine.weight, frozen["blocks.conv2.affine.weight"])
    assert torch.equal(weights["blocks.conv2.norm.running_mean"], torch.zeros(64))


def test_features_have_every_size_and_say_what_they_are(trained):
    file = read_arrays(trained[1]["backprop"]["features"])
    layers = ["conv1", "conv1_pooled", "conv2", "conv2_pooled", "conv3", "conv3_pooled", "fc1"]
    assert list(file.arrays) == [f"{size}/{layer}" for size in ("16", "native") for layer in layers]
    assert file.attributes["layers"] == layers
    assert file.attributes["pooled"]["conv1_pooled"] is True
    assert file.attributes["pooled"]["fc1"] is False
    assert file.attributes["stimuli"] == ["p0", "p1", "p2", "p3", "p4"]
    assert file["16/conv1"].shape == (5, 32 * 8 * 8)
    assert file["native/conv1"].shape == (5, 32 * 16 * 16)  # 20 x 20 positions, pooled
    assert file["native/fc1"].dtype == np.float32
    assert file.arrays["16/fc1"].axes == ("stimulus", "unit")


def test_curves_have_a_row_per_update(trained):
    curves = read_table(trained[1]["feedback_alignment"]["curves"])
    assert list(curves.columns[:6]) == ["stage", "epoch", "step", "learning_rate", "loss", "accuracy"]
    assert len(curves) == 18
    assert (curves.filter(like="update_") > 0).all().all()
    assert list(read_table(trained[1]["untrained"]["curves"]).columns) == list(curves.columns[:6])


def test_checkpoints_are_outside_the_outputs_and_gone_at_the_end(trained):
    assert not any((trained[0] / ".checkpoints").iterdir())


@pytest.mark.parametrize("rule", ["backprop", "direct_feedback_alignment"])
def test_same_bits_in_another_run_and_another_order(folder, trained, tmp_path, rule):
    train(folder, tmp_path, "untrained", seed=1)
    again = train(folder, tmp_path, rule)
    for name in ("weights", "features", "curves"):
        assert again[name].read_bytes() == trained[1][rule][name].read_bytes(), name
    volatile = {"cpu_seconds", "peak_mb"}
    cards = [{k: v for k, v in card_of(found).items() if k not in volatile} for found in (again, trained[1][rule])]
    assert cards[0] == cards[1]
    other = train(folder, tmp_path, rule, seed=1)
    assert other["weights"].read_bytes() != again["weights"].read_bytes()


def test_a_job_that_was_killed_resumes_to_the_same_bits(folder, trained, tmp_path, monkeypatch):
    from decoders.learning.rules.gradient import Backprop
    from decoders.models import trainer

    monkeypatch.setattr(trainer.train, "__defaults__", (None, 2, None))
    gradients, calls = Backprop.gradients, []

    def killed(self, batch):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return gradients(self, batch)

    monkeypatch.setattr(Backprop, "gradients", killed)
    with pytest.raises(KeyboardInterrupt):
        train(folder, tmp_path, "backprop")
    assert not (tmp_path / "networks").exists(), "nothing half-written"
    assert len(list((tmp_path / ".checkpoints").rglob("*.safetensors"))) == 1
    resumed = train(folder, tmp_path, "backprop")
    assert len(calls) == 8 + 18 - 6
    for name in ("weights", "features", "curves"):
        assert resumed[name].read_bytes() == trained[1]["backprop"][name].read_bytes(), name


def test_unsupported_is_recorded_and_nothing_replaces_it(folder, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        outputs = train(folder, tmp_path, "random_features", "mlp")
    card = card_of(outputs)
    assert card["status"].startswith("unsupported: it has no convolutional block")
    assert card["trained"] == "no"
    assert card["test_accuracy"] is None
    assert read_weights(outputs["weights"])[0] == {}
    file = read_arrays(outputs["features"])
    assert file.arrays == {}
    assert file.attributes["status"] == card["status"]
    assert len(read_table(outputs["curves"])) == 0
    assert "cannot train the architecture 'mlp'" in caplog.text


def test_a_training_that_breaks_is_a_result_and_its_state_is_kept(folder, trained, tmp_path, monkeypatch, caplog):
    from decoders.learning.rules.gradient import Backprop

    gradients, calls = Backprop.gradients, []

    def broken(self, batch):
        calls.append(1)
        found = gradients(self, batch)
        if len(calls) == 8:
            self.net["conv2"].affine.weight.grad.fill_(float("nan"))
        return found

    monkeypatch.setattr(Backprop, "gradients", broken)
    with caplog.at_level(logging.WARNING):
        outputs = train(folder, tmp_path, "backprop")
    card = card_of(outputs)
    assert card["status"].startswith("failed: The rule 'backprop' diverged at update 7")
    assert "non-finite updates in ['conv2']" in card["status"]
    assert (card["trained"], card["test_accuracy"]) == ("no", None)
    assert read_arrays(outputs["features"]).arrays == read_weights(outputs["weights"])[0] == {}
    curves, whole = read_table(outputs["curves"]), read_table(trained[1]["backprop"]["curves"])
    pd.testing.assert_frame_equal(curves, whole.iloc[:7])
    # The state before that update is there, and the log says where.
    (kept,) = (tmp_path / ".checkpoints").rglob("*.safetensors")
    assert str(kept) in caplog.text
    state, about = read_weights(kept)
    assert about["position"] == {"stage": 0, "epoch": 1, "batch": 1}
    assert all(torch.isfinite(value).all() for value in state.values())
    # bug: a defect of the program is no result of a rule
    monkeypatch.setattr(Backprop, "gradients", lambda self, batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(folder, tmp_path / "other", "backprop")


def test_a_study_without_pictures_trains_all_the_same(folder, tmp_path):
    outputs = train(folder, tmp_path, "untrained", "mlp", pictures=False)
    assert read_arrays(outputs["features"]).arrays == {}
    assert card_of(outputs)["status"] == "ok"


def test_networks_table_has_a_row_per_card_in_the_order_of_the_settings(folder, trained, tmp_path):
    refused = train(folder, tmp_path, "random_features", "mlp")
    networks = [refused, *reversed(trained[1].values())]
    inputs = {part: [outputs[part] for outputs in networks] for part in ("card", "predictions")}
    slice_ = SettingsSlice("networks", {"learning": settings().learning, "threads": 1})
    run_stage(slice_, inputs, {"networks": tmp_path / "networks.tsv"})
    table = read_table(tmp_path / "networks.tsv")
    expected = ["untrained", "random_features", "random_features", *RULES[2:]]
    assert list(table["rule"]) == expected
    assert list(table["architecture"]) == ["cnn3", "cnn3", "mlp", "cnn3", "cnn3", "cnn3"]
    row = table.iloc[1]
    assert row["displacement_min"] == 0
    assert row["displacement_max"] == pytest.approx(card_of(trained[1]["random_features"])["displacement"]["fc1"])
    assert row["layers_claimed"] == "fc1 output"
    assert pd.isna(table.iloc[2]["test_accuracy"])
    # Paired with the random features of the same architecture and seed; not with itself, and not across architectures.
    backprop, control = table.iloc[3], table.iloc[1]
    gain = backprop["test_accuracy"] - control["test_accuracy"]
    assert backprop["gain_over_random_features"] == pytest.approx(gain)
    assert 0 < backprop["p_random_features"] <= 1
    assert pd.isna(table.iloc[[1, 2]]["p_random_features"]).all()
    assert backprop["layer"] == "fc1"
    assert backprop["layer_accuracy"] > 0.8
    assert backprop["untrained_layer_accuracy"] == table.iloc[0]["layer_accuracy"]


def test_a_card_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "card.json").write_text('{"rule": "backprop"}')
    with pytest.raises(IntegrityError, match=r"card\.json: expected the card"):
        stage_networks.read_card(tmp_path / "card.json")


def test_the_library_is_callable_without_files():
    x, y = pictures_of_three_classes(48, 0)
    data = TrainingSet(TrainingData(x, y), TrainingData(x, y), ["a", "b", "c"], "own")
    result = train_network("backprop", "mlp", data, Budget(2, 16, 3e-3), Seeds(0, 0, 0))
    assert len(result.history.rows) == 6
    assert result.measured["trained"] == "yes"
    initial = build_network("mlp", 3, 0)["fc1"].affine.weight.detach().double()
    moved = float((result.rule.net["fc1"].affine.weight.detach() - initial).norm() / initial.norm())
    assert result.measured["displacement"]["fc1"] == pytest.approx(moved)


def test_the_job_seeds_do_not_let_the_rule_choose_its_start(folder):
    seeds = []
    for rule in ("backprop", "feedback_alignment"):
        job = Job(settings(), {}, {}, {"rule": rule}, seed=3)
        seeds.append((job.torch_seed("network", "cnn3", 0), job.torch_seed("order", 0)))
    assert seeds[0] == seeds[1]
    assert stage.read_training_set(folder / "set.h5").class_names == ["left", "middle", "right"]


def readout_accuracy(train, test):
    found = read_out(lambda batch: {"tap": batch.flatten(1)}, "tap", train, test, 3)
    assert np.array_equal(found.all_layers, found.last_layer), "there is one tap only"
    return np.mean(found.all_layers == test.y)


def test_the_paired_test_is_the_exact_one_of_mcnemar():
    right, other = np.array([1] * 9 + [0] * 1 + [1] * 50) > 0, np.array([0] * 9 + [1] * 1 + [1] * 50) > 0
    assert paired_p(right, other) == pytest.approx(2 * (1 + 10) / 2**10)
    assert paired_p(right, right) == 1


def test_accuracies_are_those_of_pictures_that_nothing_was_fitted_to():
    # Labels without relation to the pictures: whoever has seen the test labels scores high, whoever has not is at 1/3.
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (180, 4, 4, 3), dtype=np.uint8), rng.integers(0, 3, 180)
    data = TrainingSet(TrainingData(x[:90], y[:90]), TrainingData(x[90:], y[90:]), ["a", "b", "c"], "noise")
    assert readout_accuracy(data.train, data.test) < 0.6
    # Mutation: the same pictures on both sides.
    assert readout_accuracy(data.train, data.train) > 0.8
    result = train_network("backprop", "mlp", data, Budget(15, 30, 3e-3), Seeds(0, 0, 0))
    assert result.history.rows[-1]["accuracy"] > 0.8
    assert result.measured["test_accuracy"] < 0.6
    assert result.measured["readout_accuracy"] < 0.6
