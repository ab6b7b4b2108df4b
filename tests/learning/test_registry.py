import importlib

import pytest
import yaml

from decoders.errors import SettingsError
from decoders.learning import registry
from decoders.learning.rule import LearningRule, Plausibility, RuleInfo, register
from decoders.learning.rules.gradient import Backprop
from decoders.stages import import_closure


def test_unknown_rule_names_the_closest():
    with pytest.raises(SettingsError, match="Did you mean 'backprop'"):
        registry.create("backprob")
    with pytest.raises(SettingsError, match="Registered: "):
        registry.create("zzz")


def test_a_rule_is_made_anew_each_time():
    assert isinstance(registry.create("backprop"), Backprop)
    assert registry.create("backprop") is not registry.create("backprop")


def test_a_module_that_cannot_be_imported_is_an_error(monkeypatch):
    monkeypatch.setattr(registry, "MODULES", (*registry.MODULES, "decoders.learning.rules.not_there"))
    with pytest.raises(ImportError, match="not_there"):
        registry.rule_names()


def test_a_module_that_registers_nothing_is_an_error(monkeypatch):
    monkeypatch.setattr(registry, "MODULES", (*registry.MODULES, "decoders.learning.displacement"))
    with pytest.raises(ImportError, match="register no learning rule"):
        registry.rule_names()


def test_two_rules_of_one_name_are_an_error():
    info = RuleInfo("backprop", "x", "x", "x", (), Plausibility(False, False, False, False))
    with pytest.raises(ValueError, match="two learning rules"):
        register(type("Impostor", (LearningRule,), {"info": info}))


def test_the_source_digest_of_the_stage_follows_every_rule():
    closure = import_closure("decoders.learning.stage")
    assert set(registry.MODULES) <= closure


def test_every_rule_module_is_in_the_registry():
    package = importlib.import_module("decoders.learning.rules")
    from pathlib import Path

    files = {path.stem for path in Path(package.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == {module.rsplit(".", 1)[1] for module in registry.MODULES}


def test_the_matrix_says_yes_or_why_not():
    table = registry.rule_table().set_index("rule")
    assert set(table.index) == set(registry.rule_names())
    assert table.loc["backprop", ["cnn3", "mlp"]].tolist() == ["yes", "yes"]
    assert table.loc["random_features", "cnn3"] == "yes"
    assert table.loc["random_features", "mlp"].startswith("no: it has no convolutional block")


def test_a_rule_that_is_added_trains_no_other_network_anew(monkeypatch):
    from decoders import stages

    original, before = stages._tree_digest, stages.stage_digest("train", "backprop")

    def edited(module):
        path = stages._path_of(module)
        return lambda found: "edited" if found == path else original(found)

    for module, moves in (
        ("decoders.learning.catalogue", False),
        ("decoders.learning.rules.feedback", False),
        ("decoders.learning.rules.gradient", True),
        ("decoders.learning.rule", True),
    ):
        monkeypatch.setattr(stages, "_tree_digest", edited(module))
        assert (stages.stage_digest("train", "backprop") != before) == moves, module


def test_a_combined_name_follows_the_module_of_its_rule(monkeypatch):
    from decoders import stages

    path = stages._path_of("decoders.learning.rules.gradient")
    original, before = stages._tree_digest, stages.stage_digest("train", "noisy_backprop")
    monkeypatch.setattr(stages, "_tree_digest", lambda found: "edited" if found == path else original(found))
    assert stages.stage_digest("train", "noisy_backprop") != before


def test_the_digest_knows_every_modifier():
    from decoders import stages
    from decoders.learning.modifiers import MODIFIERS

    assert {f"{prefix}_" for prefix in MODIFIERS} == set(stages._MODIFIERS)


def test_numbers_that_yaml_reads_as_words_are_numbers():
    written = yaml.safe_load("{ridge: 1e-05}")
    assert written == {"ridge": "1e-05"}, "YAML 1.1 wants a point in a float"
    assert registry.create("cascaded_forward", **written).option["ridge"] == 1e-5


@pytest.mark.parametrize("value", ["fast", "nan", "", True])
def test_other_words_are_no_numbers(value):
    with pytest.raises(
        SettingsError, match=r"learning\.options\.cascaded_forward\.ridge: expected a value of type float"
    ):
        registry.create("cascaded_forward", ridge=value)
