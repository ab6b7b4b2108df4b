"""The decoding half of the made-up study that the tests of the report read."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd

from decoders.store.arrays import Array

RULES = ("untrained", "random_features", "backprop", "feedback_alignment", "direct_feedback_alignment")
REGIONS = ("EVC", "IT")
LAYERS = ("conv1", "conv2", "fc1")
SIZES = ("32", "native")
CONTROLS = ("pixel", "luminance", "silhouette", "gabor", "gist", "hog")
CATEGORIES = ("bottle", "cat", "chair", "face", "house", "scissors", "shoe")
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


class DecodingResults:
    """Scores, texts and maps of decoding; the study adds the rest and the keeping of files."""

    def decoding(self):
        rows = []
        for split, shift in (("unseen_time", 0.1), ("unseen_subject", 0.0)):
            for task, base in (
                ("encoding", 0.2),
                ("window_10s", 0.6),
                ("window_20s", 0.66),
                ("window_40s", 0.74),
                ("window_80s", 0.83),
            ):
                metric = "r" if task == "encoding" else "percentile"
                chance = 0.0 if task == "encoding" else 0.5
                for model, gain in (("ridge", 0.0), ("control:word_rate", -0.06), ("control:position", -0.2)):
                    score = base + shift + gain
                    rows.append(
                        (
                            "group",
                            "group",
                            split,
                            None,
                            task,
                            model,
                            metric,
                            score,
                            score - 0.04,
                            score + 0.04,
                            4,
                            chance,
                            0.005,
                            0.01,
                        )
                    )
                    rows += [
                        (
                            "subject",
                            s,
                            split,
                            None,
                            task,
                            model,
                            metric,
                            score + self.rng.normal(0, 0.05),
                            None,
                            None,
                            1,
                            chance,
                            0.01,
                            None,
                        )
                        for s in self.subjects
                        if split == "unseen_subject"
                    ]
                rows.append(
                    (
                        "group",
                        "group",
                        split,
                        None,
                        task,
                        "control:shifted",
                        metric,
                        chance,
                        chance - 0.06,
                        chance + 0.06,
                        200,
                        None,
                        None,
                        None,
                    )
                )
        for task, models in (
            ("volume", (("lda", 0.7), ("ridge", 0.62), ("speller", 0.59))),
            ("block", (("lda", 0.92), ("ridge", 0.8), ("speller", 0.81))),
        ):
            for model, score in models:
                rows.append(
                    (
                        "subject",
                        "01",
                        "all",
                        None,
                        task,
                        model,
                        "accuracy",
                        score,
                        score - 0.05,
                        score + 0.05,
                        864,
                        0.125,
                        0.005,
                        0.01,
                    )
                )
                rows += [
                    (
                        "subject",
                        "01",
                        f"run-{r:02d}",
                        None,
                        task,
                        model,
                        "accuracy",
                        score + self.rng.normal(0, 0.06),
                        None,
                        None,
                        72,
                        None,
                        None,
                        None,
                    )
                    for r in range(1, 13)
                ]
            rows.append(
                (
                    "subject",
                    "01",
                    "all",
                    None,
                    task,
                    "control:shuffled",
                    "accuracy",
                    0.12,
                    0.08,
                    0.18,
                    200,
                    None,
                    None,
                    None,
                )
            )
            rows.append(("subject", "01", "all", 0, task, "speller", "cer", 0.25, 0.2, 0.3, 864, 0.9, None, None))
        columns = [
            "level",
            "subject",
            "split",
            "seed",
            "task",
            "model",
            "metric",
            "score",
            "ci_low",
            "ci_high",
            "n",
            "null_mean",
            "p",
            "p_corrected",
        ]
        self.table(
            "decoding_scores",
            "decoding/scores.tsv",
            pd.DataFrame(rows, columns=columns),
            "decoding_scores",
            "decoding",
            self.inputs["manifest"],
        )
        names = [name + self.hostile for name in CATEGORIES]
        text = []
        for i in range(60):
            name = names[i % len(names)]
            decoded = (
                name
                if self.rng.random() < 0.6
                else names[int(self.rng.integers(len(names)))][: int(self.rng.integers(3, 9))] + self.hostile
            )
            text.append(
                ("01", f"{i % 12 + 1:02d}", f"run-{i % 12 + 1:02d}", "closed", 10.0 * i, 20.0, name, decoded, "speller")
            )
        reference = "alice was beginning to get very tired of sitting by her sister"
        text.append(
            (
                "01",
                "01",
                "all",
                "free",
                0.0,
                20.0,
                reference,
                "alice is beginning to be tired of her sisters sitting",
                "beam",
            )
        )
        text.append(("01", "02", "all", "free", 20.0, 20.0, "她开始感到非常疲倦", "她刚开始感到疲惫", "beam"))
        columns = ["subject", "run", "split", "mode", "onset", "duration", "reference", "decoded", "model"]
        self.table("text", "decoding/text.tsv", pd.DataFrame(text, columns=columns), "text", "decoding")
        counts = np.round(np.eye(7) * 30 + self.rng.random((7, 7)) * 6)
        mask = self.mask()
        arrays = {
            "confusion/lda_volume": Array(counts, ("reference", "decoded")), "confusion/speller_block_seed-0": Array(counts.T, ("reference", "decoded")),
            "gate_seed-0/m_mean": Array(self.rng.random(int(mask.sum())), ("voxel",)), "mask": Array(mask.astype(np.uint8), ("x", "y", "z")), "affine": Array(AFFINE, ("row", "column"), "mm"),
        }  # fmt: skip
        gate = {
            "nats_mean": 190.0,
            "nats_at_start": 1119.0,
            "open_share": 0.24,
            "halves_rho": 0.61,
            "halves_dice": 0.43,
            "halves_shuffled_rho": 0.2,
            "halves_shuffled_dice": 0.1,
            "head": "linear",
        }
        self.arrays(
            "names_arrays",
            "decoding/sub-01_names.h5",
            arrays,
            {"subject": "01", "names": names, "runs": ["01"], "gate_seed-0": gate},
            "names",
        )
        region = self.rng.normal(0.15, 0.06, (4, 6))
        arrays = {
            "region_r": Array(region, ("subject", "region")),
            "subjects": Array(np.array(self.subjects, dtype=object), ("subject",)),
            "regions": Array(np.array(["A1", "STG", "ATL", "IFG", "AG", "MTG"], dtype=object), ("region",)),
        }
        self.arrays("encode_arrays", "decoding/encode.h5", arrays, {}, "encode")

    def leaks(self):
        detail = f"10 s lie between training and test volumes. Allowed: {self.hostile} one run is all there is"
        rows = [
            (f"unseen_time/block-{i}", "encode", check, found, needed, passed, about)
            for i in range(1, 5)
            for check, found, needed, passed, about in (
                ("gap", "10 s", "160 s", "allowed", detail),
                ("text", f"{i / 10}%", "2% or less", "yes", "apart"),
                ("run", None, None, "n/a", "not claimed"),
            )
        ]
        columns = ["split", "analysis", "check", "found", "needed", "passed", "detail"]
        self.table("leaks", "decoding/leaks.tsv", pd.DataFrame(rows, columns=columns), "leaks", "leaks")

    def voxels(self):
        mask, planted = self.mask(), self.planted()
        rows = []
        for name, gain in (("gate", 0.12), ("encoding", 0.1), ("combined", 2.5)):
            values = self.rng.normal(0.2, 0.05, mask.shape) * (gain / 0.12) + planted * gain * 2.2
            path = self.folder / f"decoding/sub-01_map-{name}_statmap.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(np.where(mask, np.abs(values), np.nan).astype(np.float32), AFFINE), path)
            self.keep("maps", path, "voxels", self.inputs["manifest"], {"subject": "01"})
            rows.append((0, "16x20x16", 0.2, name, 0.95, 0.8))
        self.arrays(
            "voxels_arrays",
            "decoding/sub-01_voxels.h5",
            {
                "mask": Array(mask.astype(np.uint8), ("x", "y", "z")),
                "affine": Array(AFFINE, ("row", "column"), "mm"),
                "planted": Array(planted[mask].astype(np.uint8), ("voxel",)),
                "gate/curve": Array(np.exp(-np.arange(60)[:, None] / [20, 15, 30]), ("epoch", "held_out_training_kl")),
            },
            {"subject": "01", "null_maximum": {"gate": 0.38}},
            "voxels",
        )
        self.table(
            "recovery",
            "decoding/recovery.tsv",
            pd.DataFrame(rows, columns=["seed", "grid", "r0", "map", "auc", "ap"]),
            "recovery",
            "decoding",
        )

    # learning and alignment
