"""Methods text of MEG and EEG: preprocessing, alignment in time, fusion, decoding from sensors."""

from __future__ import annotations

from typing import Any

import pandas as pd

from decoders.config import MegSettings
from decoders.report.words import count, listed, text

_SENSORS = {"mag": "magnetometers", "grad": "gradiometers", "eeg": "EEG electrodes"}
_BADS = {
    "interpolate": "interpolated from their neighbours",
    "drop": "dropped from all runs of the subject",
}
_MAXWELL = {
    "sss": "signal space separation (Taulu & Kajola 2005)",
    "tsss": "temporal signal space separation (Taulu & Simola 2006)",
    "auto": "signal space separation (Taulu & Kajola 2005) where the system allows it",
}
_ARTEFACTS = {
    "ica": "independent component analysis",
    "ssp": "signal space projection",
}
_NOISE = {
    "auto": "the empty room where there is one, else the baselines, else the run itself",
    "empty_room": "the empty room",
    "baseline": "the baselines",
    "run": "the run itself",
}


def kinds_of(manifest: pd.DataFrame) -> list[str]:
    """Return the kinds of sensors that were recorded and used, e.g. ``["meg"]``."""
    if "modality" not in manifest or not len(manifest):
        return []
    used = manifest[manifest["status"] == "ok"]["modality"].map(text)
    return [kind for kind in ("meg", "eeg") if (used == kind).any()]


def only_sensors(manifest: pd.DataFrame) -> bool:
    """Return whether every recording that was used is of MEG or EEG."""
    if not kinds_of(manifest):
        return False
    used = manifest[manifest["status"] == "ok"]["modality"].map(text)
    return bool(used.isin(["meg", "eeg"]).all())


def _block(preprocess: Any) -> Any:
    """Return the settings of sensor runs: the defaults of the block when it is absent."""
    return preprocess.meg or MegSettings()


def sensor_preprocessing(preprocess: Any, manifest: pd.DataFrame, trials: bool) -> str:
    """Return how the runs of sensors were preprocessed; empty where there are none."""
    kinds = kinds_of(manifest)
    if preprocess is None or not kinds:
        return ""
    block = _block(preprocess)
    band = f"below {block.low_pass_hz:g} Hz"
    if block.high_pass_hz is not None:
        band = f"between {block.high_pass_hz:g} and {block.low_pass_hz:g} Hz"
    sentences = [
        f"{listed([kind.upper() for kind in kinds])} was processed with MNE-Python (Gramfort et al. 2013); "
        f"{listed([_SENSORS[name] for name in block.channels])} were kept, and bad channels were "
        f"{_BADS[block.bad_channels]}",
        *_cleaning(block),
        f"The signal was filtered to the band {band} and then brought to {block.sfreq:g} samples per second",
        f"The noise covariance came from {_NOISE[block.noise]}",
    ]
    if trials:
        sentences.append(_trials(block))
    return ". ".join(sentences) + "."


def _cleaning(block: Any) -> list[str]:
    found = []
    if block.maxwell != "none":
        moved = ", with compensation of head movement where head positions were recorded" if block.movement else ""
        found.append(f"External interference was removed by {_MAXWELL[block.maxwell]}{moved}")
    if block.notch:
        found.append("Line noise below the upper edge of the pass band was removed")
    if block.artefacts != "none":
        found.append(f"Artefacts of eyes and heart were removed by {_ARTEFACTS[block.artefacts]}")
    return found


def _trials(block: Any) -> str:
    start, stop = (f"{1000 * edge:g}" for edge in block.epoch_s)
    words = f"Trials reach from {start} to {stop} ms around the onset"
    if block.baseline_s is not None:
        low, high = (f"{1000 * edge:g}" for edge in block.baseline_s)
        words += f", less the mean from {low} to {high} ms"
    rejected = {
        "auto": "trials of too large an amplitude were dropped by a threshold found in the data",
        "fixed": "trials above a fixed peak-to-peak amplitude were dropped",
    }.get(block.reject)
    return f"{words}; {rejected}" if rejected else words


def in_time(alignment: Any) -> str:
    """Return how RSA over time was done; empty where it was not."""
    block = alignment.time if alignment is not None else None
    if block is None:
        return ""
    where = {"residuals": "the residuals of repeated conditions", "baseline": "the baselines"}[block.noise]
    rdm = {"crossnobis": "Crossnobis RDMs (Walther et al. 2016)"}.get(
        alignment.rdm, f"{alignment.rdm.capitalize()} RDMs"
    )
    folds = {"runs": "runs", "trials": f"{block.n_folds} blocks of trials"}[block.folds]
    across = f", across {folds} and whitened by the noise of {where}" if alignment.rdm == "crossnobis" else ""
    moments = {
        "tfce": "threshold-free cluster enhancement (Smith & Nichols 2009)",
        "max": "the largest statistic",
    }[block.statistic]
    words = (
        f"{rdm} of the sensors were computed at every moment{across}, and compared with the same models per subject. "
        f"With five subjects or more, courses were tested by up to {block.n_permutations} sign flips of subjects: "
        f"moments by {moments}, clusters (formed at p {block.cluster_p:g}) by their mass (Maris & Oostenveld 2007), "
        "each corrected over all models and moments of its family; with fewer, by relabelling the stimuli. The extent "
        "of a cluster is descriptive. Onset and peak latencies have intervals from "
        f"{count(alignment.n_bootstrap, 'bootstrap resample')} of the subjects. Time generalisation follows King & "
        "Dehaene (2014)."
    )
    return words + _around_sensors(block.sensors)


def _around_sensors(block: Any) -> str:
    if block is None:
        return ""
    near = "sensors that touch it" if block.radius_mm is None else f"sensors within {block.radius_mm:g} mm"
    test = {"cluster": "clusters over sensors and time", "tfce": "threshold-free cluster enhancement"}.get(
        block.statistic, "the largest statistic"
    )
    return f" A searchlight did the same in the neighbourhood of every sensor ({near}), tested by {test}."


def fusion(alignment: Any) -> str:
    """Return how MEG was fused with fMRI; empty where it was not."""
    block = alignment.fusion if alignment is not None else None
    if block is None:
        return ""
    return (
        "MEG and fMRI were fused by comparing the RDM of the sensors at every moment with the RDM of every region "
        f"(Cichy et al. 2014), tested by {block.n_permutations} permutations of the stimulus labels and corrected over "
        "regions and moments. Commonality analysis (Hebart et al. 2018) gave the share of the variance of MEG's RDM "
        "that a region and a model explain in common. A share counts only where MEG, fMRI and the model are all "
        "related to each other (the largest of four p-values)."
    )


def decoding(block: Any) -> str:
    """Return how heard text was decoded from sensors; empty where it was not."""
    if block is None:
        return ""
    features = {"phantom": "the phantom's own word features (an upper bound)", "trigram": "letter trigrams"}
    words = (
        "Sensors that carry heard text were found by an information bottleneck per sensor: each passes with a learnt "
        f"gate or is replaced by noise (weight {block.beta:g}), cross-fitted over {block.folds} folds; the largest "
        f"value of {count(block.n_null_gates, 'null gate')} (text rolled in time) is the cut. A convolutional encoder "
        "(after D\N{LATIN SMALL LETTER E WITH ACUTE}fossez et al. 2023) was trained by a contrastive loss against "
        f"{features[block.features]}; windows of {block.window_s:g} s of held-out runs were identified among the "
        f"others, against {count(block.n_nulls, 'circular shift')} of the text in time."
    )
    if block.text is not None:
        words += (
            f" Free text was written by a beam search ({count(block.text.width, 'hypothesis', 'hypotheses')}) of a "
            f"language model (weight {block.text.language_weight:g}) over the {block.text.sensors} sensors of the most "
            f"information, and compared in windows of {block.text.window_s:g} s."
        )
    return words


def works(settings: Any, manifest: pd.DataFrame) -> list[str]:
    """Return the keys of the works on MEG and EEG to cite."""
    found = []
    if kinds_of(manifest) and settings.preprocess is not None:
        block = _block(settings.preprocess)
        found += ["mne"] + (["mne_bids", "meg_bids"] if settings.data.source == "bids" else [])
        found += {"sss": ["sss"], "tsss": ["sss", "tsss"], "auto": ["sss"]}.get(block.maxwell, [])
    alignment = settings.alignment
    if alignment is not None and alignment.time is not None:
        found += ["clusters", "generalisation"] + (["tfce"] if alignment.time.statistic == "tfce" else [])
        found += ["crossnobis"] if alignment.rdm == "crossnobis" else []
    if alignment is not None and alignment.fusion is not None:
        found += ["fusion", "commonality", "clusters"]
    if settings.decoding is not None and settings.decoding.meg is not None:
        found += ["torch", "infonce", "bottleneck", "defossez2023"]
    return found
