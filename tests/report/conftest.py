"""A made-up study with everything that a page can show, written through decoders.store."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from made_up_decoding import AFFINE, CATEGORIES, CONTROLS, LAYERS, REGIONS, RULES, SIZES, DecodingResults

from decoders.config import parse_settings
from decoders.data.manifest import Run, write_manifest
from decoders.stage import Job, SettingsSlice, provenance_path
from decoders.store.arrays import Array, write_arrays
from decoders.store.atomic import sha256_of
from decoders.store.tables import write_json, write_table

AFFINE[:3, 3] = [-24, -30, -20]


def study_settings(name="demo", title=None, thumbnails=True):
    return parse_settings(
        {
            "study": name,
            "data": {"source": "phantom", "phantom": {"n_pictures": 24, "picture_subjects": 4}},
            "preprocess": {"estimates": "lsa", "high_pass_s": 100.0},
            "decoding": {"names": {}, "encoding": {}, "voxels": {"beta": 5.0}},
            "learning": {"training": {"dataset": "phantom", "n_train": 2000, "n_test": 500}},
            "alignment": {"controls": list(CONTROLS)},
            "report": {"title": title, "thumbnails": thumbnails},
        },
        "test",
    )


class Study(DecodingResults):
    """Writes the artefacts of a study and keeps their paths by the name of the stage's input."""

    def __init__(self, folder: Path, hostile: str = ""):
        self.folder, self.hostile = folder / "results" / "demo", hostile
        self.rng = np.random.default_rng(7)
        self.inputs: dict[str, list[Path]] = {}
        self.subjects = [f"{i:02d}" for i in range(1, 5)]
        self.stimuli = [f"{self.hostile}{CATEGORIES[i % 6]}-{i:02d}" for i in range(24)]

    def keep(self, name, path, stage="", inputs=(), labels=None):
        self.inputs.setdefault(name, []).append(path)
        record = {
            "stage": stage, "labels": labels or {}, "settings": {}, "seed": 0, "threads": 1, "source_digest": "0123456789abcdef",
            "inputs": {"any": [{"path": str(p), "sha256": sha256_of(p)} for p in inputs]}, "packages": {"numpy": "2"},
            "python": "3.11.9", "host": {"system": "Linux-6.1"}, "wall_seconds": 12.5, "cpu_seconds": 11.25, "peak_mb": 512.0,
        }  # fmt: skip
        write_json(provenance_path(path), {**record, "sha256": sha256_of(path)})
        return path

    def table(self, name, place, frame, kind=None, stage="", inputs=(), labels=None):
        path = self.folder / place
        write_table(path, frame, kind)
        return self.keep(name, path, stage, inputs, labels)

    def arrays(self, name, place, arrays, attributes=None, stage="", inputs=()):
        path = self.folder / place
        write_arrays(path, arrays, attributes)
        return self.keep(name, path, stage, inputs)

    # data and quality

    def manifest(self):
        raw = self.folder / "bids" / "participants.tsv"
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.write_text("participant_id\nsub-01\n")
        truth = self.folder / "bids" / "derivatives" / "truth.nii.gz"
        truth.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(self.planted().astype(np.uint8), AFFINE), truth)
        runs = [
            Run(f"sub-{s}_task-pictures_run-{r:02d}", s, task="pictures", run=f"{r:02d}", root=str(self.folder / "bids"), truth="derivatives/truth.nii.gz", tr=2.0, n_volumes=120, start_time=0.0)
            for s in self.subjects for r in (1, 2)
        ]  # fmt: skip
        runs.append(
            Run(
                "sub-33_task-pictures_run-01",
                f"33{self.hostile}",
                status="excluded",
                reason=f"all 6 regions are constant{self.hostile}",
            )
        )
        path = self.folder / "manifest.tsv"
        write_manifest(path, runs)
        self.keep("manifest", path, "manifest", [raw])
        self.run_ids = [run.run_id for run in runs if run.status == "ok"]

    def mask(self):
        grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in (16, 20, 16)], indexing="ij"))
        return (grid**2).sum(0) < 0.92

    def planted(self):
        mask = self.mask()
        places = np.argwhere(mask)
        centres = places[[300, 900, 1500, 1900]]
        near = np.min([np.linalg.norm(places - c, axis=1) for c in centres], axis=0) < 2.3
        planted = np.zeros(mask.shape, bool)
        planted[tuple(places[near].T)] = True
        return planted

    def quality(self):
        rows, arrays = [], {}
        for run in self.run_ids:
            fd = np.abs(self.rng.normal(0.08, 0.05, 120)) + (self.rng.random(120) > 0.97) * 0.6
            time = np.cumsum(self.rng.normal(size=(1, 120)), axis=1)
            arrays[f"carpet/{run}"] = Array(
                (self.rng.normal(size=(200, 120)) + 0.2 * time).astype(np.float16), ("feature", "time")
            )
            arrays[f"fd/{run}"] = Array(fd, ("time",), "mm")
            rows.append({
                "run_id": run, "subject": run[4:6], "session": None, "task": "pictures", "run": run[-2:], "kind": "volume", "n_volumes": 120, "tr": 2.0,
                "n_features": 2400, "tsnr_median": float(self.rng.normal(60, 8)), "fd_mean": fd.mean(), "fd_max": fd.max(), "n_bad": 0, "excluded": None,
                "warnings": "3 voxels are constant and were left out" if run.endswith("02") else None,
            })  # fmt: skip
        mask = self.mask()
        for subject in self.subjects:
            arrays[f"tsnr/{subject}"] = Array(
                np.where(mask, self.rng.normal(60, 12, mask.shape), np.nan).astype(np.float32), ("x", "y", "z")
            )
            arrays[f"tsnr_mask/{subject}"] = Array(mask.astype(np.uint8), ("x", "y", "z"))
            arrays[f"tsnr_affine/{subject}"] = Array(AFFINE, ("row", "column"), "mm")
        self.table(
            "quality", "preprocessed/quality.tsv", pd.DataFrame(rows), stage="quality", inputs=self.inputs["manifest"]
        )
        self.arrays(
            "series",
            "preprocessed/quality.h5",
            arrays,
            {"definitions": {"fd": "framewise displacement"}},
            stage="quality",
            inputs=self.inputs["manifest"],
        )

    # decoding

    def learning(self):
        rows = []
        for rule, seed in itertools.product(RULES, (0, 1, 2)):
            accuracy = {
                "untrained": 0.1,
                "random_features": 0.49,
                "backprop": 0.53,
                "feedback_alignment": 0.4,
                "direct_feedback_alignment": 0.38,
            }[rule] + self.rng.normal(0, 0.01)
            moved = {
                layer: 0.0 if rule in ("untrained", "random_features") else float(self.rng.random() * 0.5 + 0.1)
                for layer in LAYERS
            }
            status = (
                "ok"
                if (rule, seed) != ("direct_feedback_alignment", 2)
                else f"unsupported: no feedback path{self.hostile}"
            )
            card = {
                "rule": rule, "architecture": "cnn3", "seed": seed, "dataset": "phantom", "epochs": 2, "test_accuracy": accuracy, "readout_accuracy": accuracy - 0.03,
                "untrained_readout_accuracy": 0.33, "trained": "yes" if rule not in ("untrained",) else "no", "cpu_seconds": 27.0, "peak_mb": 900.0, "status": status,
                "layer": "fc1", "layer_accuracy": accuracy - 0.05, "untrained_layer_accuracy": 0.3, "layer_p": 0.001,
                "displacement": moved, "claimed": dict.fromkeys(LAYERS, rule not in ("untrained", "random_features")), "counters": {}, "info": {},
            }  # fmt: skip
            folder = self.folder / f"networks/{rule}_cnn3_seed-{seed}"
            write_json(folder / "card.json", card)
            self.keep("card", folder / "card.json", "train", (), {"rule": rule, "seed": str(seed)})
            steps = 0 if rule == "untrained" else 30
            loss = [2.3 * np.exp(-0.02 * i * accuracy) + self.rng.normal(0, 0.02) for i in range(steps)]
            curve = pd.DataFrame(
                {
                    "stage": "rule",
                    "epoch": [i // 15 for i in range(steps)],
                    "step": range(steps),
                    "learning_rate": 0.003,
                    "loss": loss,
                    "accuracy": [accuracy * i / 30 for i in range(steps)],
                }
            )
            self.table("curves", f"networks/{rule}_cnn3_seed-{seed}/curves.tsv", curve, stage="train")
            rows.append(
                {
                    **{k: v for k, v in card.items() if k not in ("displacement", "claimed", "counters", "info")},
                    "displacement_min": min(moved.values()),
                    "displacement_max": max(moved.values()),
                    "gain_over_random_features": None if rule == "random_features" else accuracy - 0.5,
                    "p_random_features": None if rule == "random_features" else 0.01,
                }
            )
        self.table("networks", "networks/networks.tsv", pd.DataFrame(rows), "networks", "networks")

    def alignment(self):
        n_pairs = 24 * 23 // 2
        category = np.array([i % 6 for i in range(24)])
        base = (category[:, None] != category[None])[np.triu_indices(24, 1)].astype(float)
        names = {
            f"recorded:{region}": base * gain + self.rng.random(n_pairs) for region, gain in (("EVC", 0.2), ("IT", 1.0))
        }
        names |= {f"control:{name}": base * 0.2 + self.rng.random(n_pairs) for name in CONTROLS}
        names |= {f"{rule} cnn3 fc1 32px": base * 0.3 + self.rng.random(n_pairs) for rule in RULES}
        arrays = {name: Array(values, ("pair",)) for name, values in names.items()}
        self.arrays(
            "models",
            "alignment/model_rdms.h5",
            arrays,
            {"stimuli": self.stimuli, "definitions": {}, "not_ranked": []},
            "align",
        )
        definitions = {name: f"1 - Pearson of {name}" for name in CONTROLS}
        self.arrays(
            "controls",
            "stimuli/control_rdms.h5",
            {name: Array(names[f"control:{name}"], ("pair",)) for name in CONTROLS},
            {"definitions": definitions},
            "pictures",
        )
        labels = pd.DataFrame(
            {
                "stimulus": self.stimuli,
                "category": [CATEGORIES[c] for c in category],
                "animate": (category < 3).astype(int),
            }
        )
        self.table("labels", "stimuli/pictures.tsv", labels, stage="pictures")
        pictures = self.rng.integers(0, 255, (24, 64, 64, 3)).astype(np.uint8)
        self.arrays(
            "pictures",
            "stimuli/pictures.h5",
            {
                "pictures": Array(pictures, ("picture", "row", "column", "channel")),
                "names": Array(np.array(self.stimuli, dtype=object), ("picture",)),
            },
            {},
            "pictures",
        )
        self._scores()
        rows = [
            (region, None, comparator, low, high)
            for region, low, high in (("EVC", 0.2419, 0.3917), ("IT", 0.4525, 0.5422))
            for comparator in ("spearman", "rho_a")
        ]
        self.table(
            "ceilings",
            "alignment/ceilings.tsv",
            pd.DataFrame(rows, columns=["region", "time", "comparator", "ceiling_low", "ceiling_high"]),
            "ceilings",
            "align",
        )

    def _scores(self):
        level = {
            "untrained": 0.0,
            "random_features": 0.05,
            "backprop": 0.11,
            "feedback_alignment": 0.05,
            "direct_feedback_alignment": 0.04,
        }
        scores, tests = [], []
        means: dict[tuple[str, str, str, str], float] = {}
        for region, rule, layer, size in itertools.product(REGIONS, RULES, LAYERS, SIZES):
            mean = (
                level[rule]
                + 0.02 * LAYERS.index(layer)
                - (0.05 if size == "native" and rule == "backprop" else 0)
                + (0.03 if region == "IT" else 0)
            )
            means[region, rule, layer, size] = mean
            for seed, subject in itertools.product((0, 1, 2), self.subjects):
                scores.append(
                    (
                        subject,
                        region,
                        None,
                        rule,
                        "cnn3",
                        seed,
                        layer,
                        size,
                        "spearman",
                        mean + self.rng.normal(0, 0.05),
                    )
                )
        for region, control, subject in itertools.product(REGIONS, CONTROLS, self.subjects):
            scores.append(
                (
                    subject,
                    region,
                    None,
                    f"control:{control}",
                    None,
                    None,
                    None,
                    "native",
                    "spearman",
                    0.02 * (CONTROLS.index(control) + 2) + self.rng.normal(0, 0.03),
                )
            )
        columns = ["subject", "region", "time", "rule", "architecture", "seed", "layer", "size", "comparator", "score"]
        self.table(
            "alignment_scores",
            "alignment/scores.tsv",
            pd.DataFrame(scores, columns=columns),
            "alignment_scores",
            "align",
        )

        def row(family, region, model, reference, estimate, p, null=None):
            return (
                f"{family}, {region}",
                "rsa",
                f"{model} - {reference}",
                region,
                None,
                estimate,
                estimate - 0.06,
                estimate + 0.06,
                p,
                min(1, p * 5),
                4,
                24,
                3,
                "spearman; 1000 resamples",
                null,
                model,
                reference,
            )

        def full(rule, layer, size):
            return f"{rule} cnn3 {layer} {size if size == 'native' else size + 'px'}"

        for region in REGIONS:
            for rule, layer, size in itertools.product(RULES, LAYERS, SIZES):
                tests.append(
                    row(
                        "models against chance",
                        region,
                        full(rule, layer, size),
                        "chance",
                        means[region, rule, layer, size],
                        0.004,
                        0.0,
                    )
                )
            tests += [
                row("models against chance", region, f"control:{control}", "chance", 0.02 * (i + 2), 0.004, 0.0)
                for i, control in enumerate(CONTROLS)
            ]
            for (a, b), layer, size in itertools.product(itertools.combinations(RULES, 2), LAYERS, SIZES):
                difference = means[region, a, layer, size] - means[region, b, layer, size]
                tests.append(
                    row(
                        "rules against rules",
                        region,
                        full(a, layer, size),
                        full(b, layer, size),
                        difference,
                        0.001 if region == "EVC" and abs(difference) > 0.08 else 0.3,
                    )
                )
        columns = [
            "family",
            "analysis",
            "contrast",
            "region",
            "time",
            "estimate",
            "ci_low",
            "ci_high",
            "p",
            "p_corrected",
            "n_subjects",
            "n_stimuli",
            "n_seeds",
            "method",
            "null_mean",
            "model",
            "reference",
        ]
        self.table("inference", "alignment/inference.tsv", pd.DataFrame(tests, columns=columns), "inference", "align")

    def verdicts(self):
        rows = [
            ("subject", "01", "volume: lda, accuracy", 864, 0.706, 0.66, 0.75, 0.125, 0.01, None, None, "above all controls", None),
            ("subject", "01", "block: speller, accuracy", 96, 0.81, 0.72, 0.89, 0.125, 0.01, None, None, "above all controls", None),
            ("group", "group", "encoding: ridge, r, split unseen_subject", 20, 0.121, 0.09, 0.15, 0.0, 0.005, None, None, "above all controls", None),
            ("group", "group", "window_40s: ridge, percentile, split unseen_subject", 20, 0.595, 0.56, 0.63, 0.5, 0.005, None, None, "above chance but explained by word_rate", "word_rate"),
            ("group", None, "rsa ranking of rules, IT", 15, None, None, None, None, 0.31, None, None, "no ranking supported", None),
            ("group", None, "rsa ranking of rules, EVC", 15, None, None, None, None, 0.005, None, None, "12 of 60 contrasts of rules survive correction; see the table for layer and size", None),
            ("group", None, "rsa EVC: backprop cnn3 fc1 32px", 15, 0.088, 0.036, 0.153, 0.0, 0.02, 0.2419, 0.3917, "above chance but explained by control:pixel", "pixel"),
            ("group", None, "rsa IT: backprop cnn3 fc1 32px", 15, 0.109, 0.044, 0.197, 0.0, 0.01, 0.4525, 0.5422, "above chance but explained by pixel", "pixel"),
            ("group", None, "rsa IT: untrained cnn3 conv1 native", 15, -0.02, -0.08, 0.04, 0.0, 0.8, 0.03, 0.06, "not above chance", None),
        ]  # fmt: skip
        columns = [
            "level",
            "subject",
            "analysis",
            "n",
            "score",
            "ci_low",
            "ci_high",
            "null_mean",
            "p_corrected",
            "ceiling_low",
            "ceiling_high",
            "verdict",
            "explained_by",
        ]
        self.table(
            "verdicts",
            "verdicts.tsv",
            pd.DataFrame(rows, columns=columns),
            "verdicts",
            "verdict",
            [*self.inputs.get("decoding_scores", []), *self.inputs.get("inference", [])],
        )

    def write(self):
        self.manifest()
        self.quality()
        self.decoding()
        self.leaks()
        self.voxels()
        self.learning()
        self.alignment()
        self.verdicts()
        return self


def job_of(study: Study, settings, inputs=None):
    outputs = {"page": study.folder / "report" / "index.html", "provenance": study.folder / "provenance.json"}
    return Job(SettingsSlice.of("report", settings), study.inputs if inputs is None else inputs, outputs)


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    return Study(tmp_path_factory.mktemp("study")).write()


@pytest.fixture(scope="session")
def hostile(tmp_path_factory):
    words = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'\"&{{7*7}}"
    return Study(tmp_path_factory.mktemp("hostile"), words).write()


@pytest.fixture(scope="session")
def tools():
    """What tests need besides the fixtures, since tests are no package."""
    return SimpleNamespace(job_of=job_of, settings=study_settings, Study=Study, json=json)
