"""Made-up results of MEG: alignment in time, fusion, sensors. As the stages write them, with something to find in them."""

import numpy as np
import pandas as pd
from made_up_decoding import CONTROLS, LAYERS, RULES

from decoders.store.arrays import Array
from decoders.store.tables import COLUMNS

TIMES = np.round(np.arange(-0.2, 0.8, 0.02), 6)
SUBJECTS = [f"{i:02d}" for i in range(1, 9)]
METHOD = "t over subjects; sign flips"


def helmet(n_places=102, per_place=3):
    """Return positions on a helmet (golden spiral), `per_place` sensors at each, and their types."""
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(n_places)
    height = 1 - 1.25 * (np.arange(n_places) + 0.5) / n_places
    around = np.sqrt(1 - height**2)
    places = np.stack([around * np.cos(turn), around * np.sin(turn), height], axis=1) * 0.11 + [0, 0.01, 0.04]
    return np.repeat(places, per_place, axis=0), np.tile(["grad", "grad", "mag"][-per_place:], n_places)


def bump(peak, width=0.06, times=TIMES):
    return np.exp(-(((times - peak) / width) ** 2)) * (times > 0)


def model_names(rules=RULES, layers=LAYERS, size="32px"):
    return [f"{rule} cnn3 {layer} {size}" for rule in rules for layer in layers]


def curve(name, rules=RULES, times=TIMES):
    """Return the estimate of a model over time: deeper layers later, trained rules higher."""
    if name.startswith("control:"):
        return 0.12 * bump(0.1 + 0.01 * list(CONTROLS).index(name.removeprefix("control:")), times=times)
    rule, _, layer, _ = name.split(" ")
    level = 0.0 if rule == "untrained" else 0.08 + 0.03 * (list(rules).index(rule) % 5)
    return level * bump(0.12 + 0.05 * LAYERS.index(layer), times=times)


def inference_rows(name, times, rules=RULES, alpha_at=0.06):
    values = curve(name, rules, times)
    return [
        {
            "family": "models against chance, over time", "analysis": "rsa", "contrast": f"{name} - chance",
            "region": "sensors", "time": t, "estimate": v, "ci_low": v - 0.03, "ci_high": v + 0.03,
            "p": 0.001 if v > alpha_at else 0.4, "p_corrected": 0.004 if v > alpha_at else 1.0, "n_subjects": 8,
            "n_stimuli": 24, "n_seeds": 3, "method": METHOD, "model": name, "reference": "chance",
        }
        for t, v in zip(times, values, strict=True)
    ]  # fmt: skip


def cluster_row(name, times, rules=RULES):
    values = curve(name, rules, times)
    above = times[values > 0.06]
    if not len(above):
        return []
    return [
        {
            "family": "models against chance, over time", "model": name, "reference": "chance", "region": "sensors",
            "start_s": above[0], "stop_s": above[-1], "peak_s": times[values.argmax()], "mass": values.sum() * 50,
            "p": 0.004, "n_subjects": 8, "n_stimuli": 24, "method": METHOD,
        }
    ]  # fmt: skip


class MegResults:
    """Writes MEG results with the methods `table`, `arrays` and the names of a made-up study."""

    def __init__(self, study, rules=RULES, layers=LAYERS, times=TIMES, stimuli=None):
        self.study, self.rules, self.layers, self.times = study, rules, layers, times
        self.stimuli = stimuli or study.stimuli
        self.rng = np.random.default_rng(3)
        self.names = [*model_names(rules, layers), *(f"control:{name}" for name in CONTROLS)]

    def write(self):
        self.time_tables()
        self.time_arrays()
        self.sensors()
        self.fusion()
        self.gate()
        self.quality()
        return self.study

    def time_tables(self):
        rows = [row for name in self.names for row in inference_rows(name, self.times, self.rules)]
        self.study.table(
            "time_inference", "alignment/time_inference.tsv", pd.DataFrame(rows), "inference", "align-time"
        )
        clusters = [row for name in self.names for row in cluster_row(name, self.times, self.rules)]
        for name in (n for n in self.names if n.startswith("backprop")):
            for control in CONTROLS:
                found = cluster_row(name, self.times, self.rules)[0]
                family = {"family": "models against controls, over time", "reference": f"control:{control}"}
                clusters.append({**found, **family, "p": 0.01})
        self.study.table(
            "time_clusters", "alignment/time_clusters.tsv", pd.DataFrame(clusters), "time_clusters", "align-time"
        )
        limits = pd.DataFrame(
            {
                "region": "sensors", "time": self.times, "comparator": "spearman",
                "ceiling_low": 0.3 * bump(0.17, 0.12, self.times), "ceiling_high": 0.36 * bump(0.17, 0.12, self.times),
            }
        )  # fmt: skip
        self.study.table("time_ceilings", "alignment/time_ceilings.tsv", limits, "ceilings", "align-time")
        latencies = [row for name in self.names for row in self._latencies(name)]
        self.study.table("latencies", "alignment/latencies.tsv", pd.DataFrame(latencies), "latencies", "align-time")
        scores = [
            (who, "sensors", t, name.split(" ")[0], *self._place(name), "spearman", v + self.rng.normal(0, 0.02))
            for who in SUBJECTS[:2] for name in self.names[:3] + self.names[-1:]
            for t, v in zip(self.times, curve(name, self.rules, self.times), strict=True)
        ]  # fmt: skip
        frame = pd.DataFrame(scores, columns=list(COLUMNS["alignment_scores"]))
        self.study.table("time_scores", "alignment/time_scores.tsv", frame, "alignment_scores", "align-time")

    @staticmethod
    def _place(name):
        if name.startswith("control:"):
            return (None, None, None, None)
        _, architecture, layer, size = name.split(" ")
        return (architecture, 0, layer, size.removesuffix("px"))

    def _latencies(self, name):
        peak = self.times[curve(name, self.rules, self.times).argmax()]
        common = {
            "model": name,
            "reference": "chance",
            "region": "sensors",
            "p": 0.004,
            "n_subjects": 8,
            "method": METHOD,
        }
        return [
            {**common, "measure": measure, "latency_s": v, "ci_low": v - 0.02, "ci_high": v + 0.02}
            for measure, v in (("onset", peak - 0.06), ("peak", peak))
        ]

    def time_arrays(self):
        n = len(self.stimuli)
        category = np.arange(n) % 6
        base = (category[:, None] != category[None])[np.triu_indices(n, 1)].astype(float)
        gain = bump(0.17, 0.1, self.times)[None, :, None]
        rdms = gain * base + self.rng.normal(0, 0.2, (8, len(self.times), len(base)))
        arrays = {
            "rdms": Array(rdms, ("subject", "time", "pair")), "subjects": Array(np.array(SUBJECTS, object), ("subject",)),
            "times": Array(self.times, ("time",), "s"), "stimuli": Array(np.array(self.stimuli, object), ("stimulus",)),
        }  # fmt: skip
        attributes = {"method": "crossnobis", "excluded": {f"09{self.study.hostile}": "too few trials"}}
        self.study.arrays("time_rdms", "alignment/time_rdms.h5", arrays, attributes, "rdms-time")
        gain = bump(0.17, 0.1, self.times)
        scores = 0.2 * gain[:, None] * gain[None] + self.rng.normal(0, 0.02, (8, len(self.times), len(self.times)))
        p = np.where(gain[:, None] * gain[None] > 0.4, 0.01, 0.5)
        arrays = {
            "scores": Array(scores, ("subject", "train_time", "test_time")), "times": Array(self.times, ("time",), "s"),
            "p_corrected": Array(p, ("train_time", "test_time")),
        }  # fmt: skip
        self.study.arrays("time_generalisation", "alignment/time_generalisation.h5", arrays, {}, "align-time")

    def sensors(self):
        positions, types = helmet()
        names = [f"MEG{i:04d}" for i in range(len(positions))]
        models = [n for n in self.names if "fc1" in n or n.startswith("control:")]
        front = (positions[:, 1] < -0.03).astype(float)
        scores = np.stack([front[:, None] * curve(n, self.rules, self.times)[None] for n in models])
        arrays = {
            "scores": Array(scores, ("model", "channel", "time")),
            "p_corrected": Array(np.where(scores > 0.08, 0.02, 0.7), ("model", "channel", "time")),
            "models": Array(np.array(models, object), ("model",)), "channels": Array(np.array(names, object), ("channel",)),
            "positions": Array(positions, ("channel", "xyz"), "m"), "times": Array(self.times, ("time",), "s"),
            "channel_types": Array(np.array(types, object), ("channel",)),
        }  # fmt: skip
        self.study.arrays("sensor_searchlight", "alignment/sensor_searchlight.h5", arrays, {}, "sensor-searchlight")

    def fusion(self):
        rows = []
        for i, region in enumerate(("EVC", "IT")):
            values = (0.25 - 0.05 * i) * bump(0.1 + 0.06 * i, times=self.times)
            for name, share in (("", 1.0), *((n, 0.3 + 0.05 * k) for k, n in enumerate(self.names[2::3]))):
                for t, v in zip(self.times, share * values, strict=True):
                    rows.append({
                        "family": f"fusion, {region}", "analysis": "commonality" if name else "fusion",
                        "contrast": f"{name or 'MEG'} - chance", "region": region, "time": t, "estimate": v,
                        "ci_low": v - 0.02, "ci_high": v + 0.02, "p": 0.01, "p_corrected": 0.01 if v > 0.05 else 0.8,
                        "n_subjects": 8, "n_stimuli": 24, "n_seeds": 3, "method": METHOD,
                    })  # fmt: skip
        self.study.table("fusion_table", "alignment/fusion.tsv", pd.DataFrame(rows), "inference", "fusion")

    def gate(self):
        positions, types = helmet()
        for who in SUBJECTS[:2]:
            nats = 0.02 * self.rng.random(len(positions)) + 0.5 * (positions[:, 0] < -0.06)
            arrays = {
                "nats": Array(nats, ("channel",), "nat"), "z": Array(nats * 5, ("channel",)),
                "names": Array(np.array([f"MEG{i:04d}{self.study.hostile}" for i in range(len(nats))], object), ("channel",)),
                "positions": Array(positions, ("channel", "xyz"), "m"),
                "channel_types": Array(np.array(types, object), ("channel",)), "cut": Array(np.array(0.2), ()),
            }  # fmt: skip
            self.study.arrays("meg_arrays", f"decoding/sub-{who}_meg.h5", arrays, {"subject": who}, "meg")

    def quality(self):
        positions, types = helmet()
        runs, arrays = [], {}
        frequencies = np.arange(0, 100.25, 0.25)
        for who in SUBJECTS[:2]:
            run = f"sub-{who}_task-pictures_run-01_meg"
            power = 1e-26 / (1 + frequencies) * (frequencies < 45) + 1e-30
            arrays |= {
                f"power/{run}": Array(self.rng.normal(0, 0.2, (50, 300)).astype(np.float16), ("feature", "time")),
                f"spectrum/{run}": Array(np.stack([power * 1e3, power]), ("type", "frequency")),
                f"spectrum_types/{run}": Array(np.array(["grad", "mag"], object), ("type",)),
                f"frequencies/{run}": Array(frequencies, ("frequency",), "Hz"),
                f"artefacts/{run}": Array(positions[:, 1][None] * np.ones((2, 1)), ("component", "feature")),
                f"positions/{run}": Array(positions, ("feature", "xyz"), "m"),
            }
            runs.append({
                "run_id": run, "subject": who, "session": None, "task": "pictures", "run": "01", "kind": "sensor",
                "n_volumes": None, "tr": None, "n_features": len(types), "tsnr_median": None, "fd_mean": None,
                "fd_max": None, "n_bad": 2, "excluded": None, "sfreq": 200.0, "duration_s": 300.0,
                "bad_channels": f"MEG0001, MEG0002{self.study.hostile}", "bad_share": 0.01, "rank": 68,
                "maxwell": "sss", "line_hz": 50.0, "head_mm": 3.2, "between_runs_mm": 1.1, "n_eye": 1, "n_heart": 1,
                "artefact_variance": 0.12, "noise": "empty_room", "n_events": 120, "n_epochs": 115,
                "n_epochs_rejected": 5, "triggers": "STI101", "triggers_missing": 1, "triggers_extra": 0,
                "triggers_doubled": 0, "trigger_offset_ms": 34.5, "trigger_jitter_ms": 1.5,
                "warnings": f"no fine calibration file: SSS without it{self.study.hostile}",
            })  # fmt: skip
        self.study.table("quality", "preprocessed/sensor-quality.tsv", pd.DataFrame(runs), stage="quality")
        self.study.arrays("series", "preprocessed/sensor-quality.h5", arrays, {"definitions": {}}, "quality")
