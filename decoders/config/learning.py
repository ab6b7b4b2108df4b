"""Settings of learning: which rules train which networks, under which budget."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from decoders.config.base import Count, Name, NotNegative, Positive, Settings


class TrainingSettings(Settings):
    """The common budget of all learning rules."""

    dataset: Literal["cifar10", "mnist", "phantom", "folder", "text"] = Field(
        "cifar10", description="Training pictures, or characters of a text to be continued (text)."
    )
    folder: str | None = Field(None, description="Folder with one sub-folder per class (dataset: folder).")
    text: str = Field(
        "embedded_en",
        min_length=1,
        description="Training text (dataset: text): embedded_en, embedded_zh (our stories), alice (registry), a UTF-8 text file, or a folder of .txt files.",
    )
    window: int = Field(
        32, ge=2, le=1024, description="Characters that a network reads to predict the next one (dataset: text)."
    )
    n_train: Count = Field(8000, description="Training pictures, balanced over classes unless all are taken.")
    n_test: Count = Field(2000, description="Test pictures, balanced over classes unless all are taken.")
    size: int = Field(32, ge=8, description="Edge in pixels to which the training pictures are brought.")
    epochs: Count = Field(2, description="Passes over the training pictures.")
    batch_size: Count = Field(128, description="Pictures per update.")
    learning_rate: Positive = Field(3e-3, description="Peak of the one-cycle schedule of Adam.")
    n_readout: Count = Field(
        10_000, description="Training pictures (at equal distances) that the common linear read-outs are fitted on."
    )


class LearningSettings(Settings):
    """Networks to train: every rule on every architecture with every seed."""

    rules: tuple[Name, ...] = Field(
        ("untrained", "random_features", "backprop", "feedback_alignment", "direct_feedback_alignment"),
        min_length=1,
        description="Registered learning rules; `corticode rules` lists them.",
    )
    architectures: tuple[Name, ...] = Field(("cnn3",), min_length=1, description="Registered architectures.")
    only: dict[Name, tuple[Name, ...]] = Field(
        default_factory=dict,
        description="Architecture to the rules that train it, where these are not all, e.g. {spikingmlp: [stdp]}.",
    )
    seeds: tuple[NotNegative, ...] = Field((0, 1, 2), min_length=1, description="Seeds; each is one network per rule.")
    training: TrainingSettings = TrainingSettings()
    options: dict[Name, dict[Name, bool | int | float | str]] = Field(
        default_factory=dict,
        description="Rule to its options, e.g. {backprop: {learning_rate: 0.001}}; `corticode rules --options` lists them.",
    )
    jobs: Literal["rule", "seed"] = Field(
        "rule",
        description="A job trains all seeds of a rule and architecture (rule), or one network (seed: more jobs side by side).",
    )
    sizes: tuple[NotNegative, ...] = Field(
        (32, 0),
        min_length=1,
        description="Edge lengths in pixels at which features of the study's pictures are taken; 0 is the native size.",
    )

    def pairs(self) -> list[tuple[str, str]]:
        """Return rule and architecture of all networks, in the order of the settings."""
        return [
            (rule, architecture)
            for rule in self.rules
            for architecture in self.architectures
            if rule in self.only.get(architecture, self.rules)
        ]

    @model_validator(mode="after")
    def _every_rule_trains_something(self) -> LearningSettings:
        if unknown := sorted(set(self.only) - set(self.architectures)):
            raise ValueError(f"'only' names {unknown}, which is not among the architectures {list(self.architectures)}")
        named = {rule for rules in self.only.values() for rule in rules}
        if unknown := sorted(named - set(self.rules)):
            raise ValueError(f"'only' names {unknown}, which is not among the rules")
        idle = [rule for rule in self.rules if rule not in {pair[0] for pair in self.pairs()}]
        if idle:
            raise ValueError(f"the rules {idle} would train no network: 'only' leaves them out everywhere")
        return self
