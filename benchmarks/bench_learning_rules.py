"""Accuracy, displacement and CPU seconds of every rule at the budget of ``config/studies/objects92.yaml``.

Run ``python benchmarks/bench_learning_rules.py`` in the root of the project; it fetches the CIFAR-10 pictures, or reads
them from the mirror (CORTICODE_MIRROR). The seeds are those of the study, so its tables hold the same accuracies.
Takes about six CPU minutes: five rules x three seeds.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from common import write_result

from decoders.config import load_settings
from decoders.stage import SettingsSlice, run_stage
from decoders.store.tables import read_table

STUDY = Path(__file__).resolve().parents[1] / "config" / "studies" / "objects92.yaml"
FILES = {"card": "card.json", "weights": "weights.safetensors", "features": "features.h5", "curves": "curves.tsv"}
COLUMNS = ["test_accuracy", "readout_accuracy", "untrained_readout_accuracy", "displacement_min", "cpu_seconds"]


def main() -> None:
    logging.basicConfig(level="INFO")
    study = load_settings(STUDY)
    assert study.learning is not None
    with tempfile.TemporaryDirectory() as name:
        folder, cards = Path(name) / "networks", []
        training_set = folder / "training_set.h5"
        run_stage(SettingsSlice.of("training-set", study), {}, {"training_set": training_set})
        for rule in study.learning.rules:
            for seed in study.learning.seeds:
                base = folder / f"{rule}_cnn3_seed-{seed}"
                labels = {"rule": rule, "architecture": "cnn3", "seed": str(seed)}
                outputs = {key: base / file for key, file in FILES.items()}
                run_stage(SettingsSlice.of("train", study), {"training_set": [training_set]}, outputs, labels)
                cards.append(outputs["card"])
        run_stage(SettingsSlice.of("networks", study), {"card": cards}, {"networks": folder / "networks.tsv"})
        table = read_table(folder / "networks.tsv")
    figures = {f"{row['rule']} seed {row['seed']}": {key: row[key] for key in COLUMNS} for _, row in table.iterrows()}
    path = write_result("learning_rules", "python benchmarks/bench_learning_rules.py", figures)
    logging.info("%s\n%s", path, table[["rule", "seed", *COLUMNS]].to_string(index=False))


if __name__ == "__main__":
    main()
