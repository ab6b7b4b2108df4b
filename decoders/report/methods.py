"""Methods text from the settings, ready to paste; and the works that it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from decoders.data.registry import registry
from decoders.report import methods_meg
from decoders.report.words import comparator_words, control_title, count, listed, text, title


def methods(settings: Any, manifest: pd.DataFrame, packages: Mapping[str, str], group: bool = False) -> str:
    """Return paragraphs that say what was done.

    Parameters
    ----------
    settings : SettingsSlice
    manifest : DataFrame
    packages : mapping of str to str
        Versions.
    group : bool
        Whether what was decoded within people is judged over them.
    """
    block = None if methods_meg.only_sensors(manifest) else settings.preprocess
    in_time = settings.alignment is not None and settings.alignment.time is not None
    paragraphs = [_data(settings, manifest), _preprocessing(block)]
    paragraphs.append(methods_meg.sensor_preprocessing(settings.preprocess, manifest, in_time))
    if settings.decoding is not None:
        paragraphs += [
            _names(settings.decoding.names),
            _encoding(settings.decoding.encoding),
            _voxels(settings.decoding.voxels, settings.preprocess),
            _free_text(settings.decoding.free_text),
            _across(settings.decoding.across),
            methods_meg.decoding(settings.decoding.meg),
            _GROUP if group else "",
        ]
    paragraphs += [_learning(settings.learning), _alignment(settings.alignment)]
    paragraphs += [methods_meg.in_time(settings.alignment), methods_meg.fusion(settings.alignment)]
    paragraphs.append(_software(settings, packages))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def works(settings: Any, packages: Mapping[str, str], manifest: pd.DataFrame | None = None) -> list[str]:
    """Return the keys of the works to cite."""
    manifest = pd.DataFrame() if manifest is None else manifest
    found = [
        name
        for name in ("numpy", "scipy", "scikit-learn", "nibabel", "snakemake")
        if packages.get(name, "absent") != "absent"
    ]
    if settings.data.source == "bids":
        found.append("bids")
    if settings.preprocess is not None and not methods_meg.only_sensors(manifest):
        found += ["nilearn", "fd"] + (["lss"] if settings.preprocess.estimates == "lss" else [])
    if settings.decoding is not None:
        found += ["torch", "shrinkage"] if settings.decoding.names else []
        found += ["torch", "infonce", "bottleneck"] if settings.decoding.voxels else []
        free = settings.decoding.free_text
        found += ["tang2023"] if free and "tang2023" in free.baselines else []
        found += _across_works(settings.decoding.across) if settings.decoding.across else []
    if settings.learning is not None:
        found += ["torch", *settings.learning.rules]
    if settings.alignment is not None:
        found += ["rsa", "ceiling", "inference"] + (["fdr"] if settings.alignment.correction == "fdr" else [])
    return found + methods_meg.works(settings, manifest)


_FEATURES = {
    "speech_seconds": "the seconds of speech",
    "word_rate": "the rate of words",
    "position": "the place in the story",
}
_PICTURES = {"cifar10": "CIFAR-10", "mnist": "MNIST", "phantom": "the phantom", "folder": "a folder"}


def _cited(data: Any) -> str:
    return str(registry().entry(data.name).citation.rstrip(".")) if data.source == "registry" else ""


def _data(settings: Any, manifest: pd.DataFrame) -> str:
    if settings.data.source == "none":
        return "This study compares learning rules alone; it has no recordings."
    source = {
        "bids": "a BIDS data set",
        "registry": f"the public data set {settings.data.name} ({_cited(settings.data)})",
        "phantom": "a phantom of known truth",
    }[settings.data.source]
    if not len(manifest):
        return f"Recordings came from {source}."
    used = manifest[manifest["status"] == "ok"]
    noun = "RDM" if "modality" in used and len(used) and (used["modality"] == "rdm").all() else "recording"
    noun = f"simulated {noun}" if settings.data.source == "phantom" else noun
    sentence = (
        f"We analysed {count(len(used), noun)} of {count(used['subject'].nunique(), 'person', 'people')} from {source}."
    )
    left = manifest[manifest["status"] != "ok"]
    if len(left):
        reasons = listed([f"{text(row['run_id'])} ({text(row['reason'])})" for _, row in left.iterrows()], 6)
        sentence += f" {count(len(left), 'recording')} {'was' if len(left) == 1 else 'were'} excluded: {reasons}."
    if settings.data.source == "phantom":
        sentence += (
            f" The phantom was drawn with seed {settings.data.phantom.seed} on a grid of "
            f"{' x '.join(str(n) for n in settings.data.phantom.grid)} voxels with a mean true correlation of "
            f"{settings.data.phantom.r0:g} in planted voxels."
        )
    return sentence


def _preprocessing(block: Any) -> str:
    if block is None:
        return ""
    what = {"volume": "voxels inside the brain mask", "region": "region means", "surface": "surface vertices"}[
        block.representation
    ]
    steps = [f"The first {count(block.drop_volumes, 'volume')} of each run were dropped"] if block.drop_volumes else []
    steps += [f"confounds ({', '.join(block.confounds)}) were regressed out"] if block.confounds else []
    steps += (
        [f"slow drifts were removed with a discrete cosine basis (cut-off {block.high_pass_s:g} s)"]
        if block.high_pass_s
        else []
    )
    steps += (
        [f"images were smoothed with a Gaussian of {block.smoothing_fwhm_mm:g} mm full width at half maximum"]
        if block.smoothing_fwhm_mm
        else []
    )
    steps += [f"images were resampled to {block.resample_mm:g} mm"] if block.resample_mm else []
    steps += ["each series was z-scored within its run"] if block.standardize else []
    sentence = f"The analysis used {what}. "
    if steps:
        joined = listed(steps)
        sentence += joined[0].upper() + joined[1:] + ". "
    kinds = {
        "lsa": "a general linear model with one regressor per trial (least squares all)",
        "lss": "one general linear model per trial (least squares separate)",
        "blocks": "the mean of each block",
    }
    sentence += f"Trial estimates were {kinds[block.estimates]}. " if block.estimates else ""
    return sentence + "Motion correction and normalisation were not part of this pipeline."


def _names(block: Any) -> str:
    if block is None:
        return ""
    split = {
        "leave_one_run_out": "leaving one run out at a time",
        "block_halves": "training on one block of each condition and testing on the other",
    }[block.split]
    sentence = (
        f"Condition names were decoded from single {listed([unit + 's' for unit in block.units])} by "
        f"{listed([title(model) for model in block.models])}, {split}."
    )
    if block.n_permutations:
        sentence += f" The null distribution came from {count(block.n_permutations, 'permutation')} of the labels."
    if "speller" in block.models:
        sentence += (
            " The character speller chose among the names by a prefix tree and gated its voxels by an information "
            f"bottleneck (weight {block.bottleneck:g})."
        )
    return sentence


def _encoding(block: Any) -> str:
    if block is None:
        return ""
    seconds = listed([f"{w:g}" for w in block.windows_s])
    return (
        "Ridge encoding models predicted the recordings from "
        f"{listed([_FEATURES.get(name, name.replace('_', ' ')) for name in block.features])} at delays of "
        f"{listed([str(d) for d in block.delays])} TR, with the penalty chosen in inner contiguous folds and "
        f"{block.n_blocks} contiguous test blocks separated by {block.gap_tr} volumes. "
        f"Windows of {seconds} s were identified by the correlation of predicted and measured brain activity: the "
        "percentile of a window is the share of the other windows whose prediction correlates less with it. "
        f"The null came from {count(block.n_nulls, 'circular shift')} of the text in time. Models were also "
        f"tested on subjects that they had not seen, singly and averaged in groups of {block.average_subjects}."
    )


def _voxels(block: Any, preprocess: Any) -> str:
    if block is None:
        return ""
    grid = preprocess is None or preprocess.representation == "volume"
    where = " on the voxel grid" if grid else ""
    smoothed = f"Gates were smoothed (sigma {block.sigma_voxels:g} voxels) and " if grid else "Gates were "
    words = {
        "phantom": "the very word features that generated the phantom (an upper bound)",
        "trigram": "letter trigrams",
        "cooccurrence": "word vectors of co-occurrence in the corpus of the language model",
        "language_model": "mean states of the language model after each word, over the corpus",
    }[block.features]
    held = count(block.test_runs, "held-out block" if block.blocks else "held-out run")
    cut = (
        f"A single run was cut into {block.blocks} contiguous blocks; the haemodynamic response and the memory of the "
        "filter lay between those that trained and those that were held out. "
        if block.blocks
        else ""
    )
    return (
        f"{cut}Responding voxels were located by an information bottleneck{where}: each voxel passes with a "
        "learnt gate or is replaced by noise; the loss adds "
        f"{block.beta:g} times the mean bound on the information per voxel (more beyond 2,000 voxels, in proportion to "
        "their number) to a contrastive loss over "
        f"{block.window_s:g}-s windows against {words}. "
        f"{smoothed}cross-fitted over runs in {block.folds} folds; "
        f"{count(block.n_null_gates, 'null pairing')} (text of other runs, rolled in time) gave the maximum that "
        "voxels of the maps must exceed. The combined map is the mean z-score of the gate, the encoding r and the "
        "smoothed encoding r. "
        f"A ridge model was then refitted on the {block.select_share * 100:g} % of voxels with the highest values "
        f"and tested on {held}, whose windows were identified by the correlation of "
        "decoded and true word features."
    )


def _free_text(block: Any) -> str:
    if block is None:
        return ""
    baselines = {
        "retrieval": "retrieval of training passages by ridge",
        "tang2023": "the decoder of Tang et al. (2023)",
    }
    beside = f" Baselines: {listed([baselines[name] for name in block.baselines])}." if block.baselines else ""
    return (
        "Free text was written by a beam search over words "
        f"({count(block.width, 'hypothesis', 'hypotheses')}) that adds the log-probability of a character language "
        f"model (weight {block.language_weight:g}; no test story was in its corpus) to the whitened Gaussian "
        "log-likelihood of the selected voxels. The number and the times of words were decoded, too. Windows of "
        f"{block.window_s:g} s were compared with what was heard, against {block.n_permutations} rolls of windows "
        "within their runs. Bits per character are those of the heard text given the words before and the recording "
        "(Bayes' rule over likely next words; its weight was chosen on training runs that were held out), "
        "against moves of the text along its own words."
        f"{beside}"
    )


def _across(block: Any) -> str:
    if block is None:
        return ""
    amounts = listed(["all" if amount == "all" else str(amount) for amount in block.few_shot])
    return (
        "Every subject was held out in turn, together with the story of the held-out runs, and decoded from "
        f"{amounts} of the subject's other runs. Its gate started from the mean gate of the other subjects and was "
        f"pulled to it (weight {block.gate_prior:g} over the number of runs). Decoders: "
        f"{listed([title(method) for method in block.methods])}. The shared network has a front end, scales and biases "
        "per subject; of a new subject only these are fitted, and the mean subject's where no run is given"
        + (
            f"; a reversed gradient (weight {block.gradient_reversal:g}) of a network that tells subjects apart kept "
            "its features alike."
            if block.gradient_reversal
            else "."
        )
    )


_GROUP = (
    "Scores of the group are means over people, with a t interval of that mean; they were tested against the mean of "
    "the people's nulls, draw by draw, in which the text was moved alike (or the names were dealt alike) in everybody: "
    "what people share without knowing the text is part of the null. A small p says that some of these people were "
    "read, the interval what to expect of others."
)


def _across_works(block: Any) -> list[str]:
    cited = {"shared": "editing", "hyperalignment": "hyperalignment"}
    return [cited[method] for method in block.methods if method in cited] + (
        ["reversal"] if block.gradient_reversal else []
    )


def _learning(block: Any) -> str:
    if block is None:
        return ""
    training = block.training
    seen, inputs = "pictures", f"pictures of {_PICTURES.get(training.dataset, training.dataset)}"
    if training.dataset == "text":
        seen, inputs = "text", f"windows of {training.window} characters of a text (to predict the next one)"
    return (
        f"Networks ({listed(list(block.architectures))}) of the kinds "
        f"{listed([title(rule).lower() for rule in block.rules])} were trained with "
        f"{count(len(block.seeds), 'seed')} each on "
        f"{training.n_train} {inputs} for {count(training.epochs, 'epoch')} (Adam, "
        f"one-cycle schedule with peak {training.learning_rate:g}, batches of {training.batch_size}) "
        f"and tested on {training.n_test} others. All rules started at the same weights and saw the same {seen} "
        "in the same order. Features were taken in evaluation mode."
    )


def _alignment(block: Any) -> str:
    if block is None:
        return ""
    correction = {"max": "the maximum statistic", "fdr": "the false discovery rate (Benjamini-Hochberg)"}[
        block.correction
    ]
    controls = block.windows.controls if block.windows else block.controls
    return (
        f"Model RDMs (1 - Pearson) were compared with {_recorded(block)} per subject by "
        f"{comparator_words(block.comparators[0])}, beside "
        f"{listed([control_title(name) for name in controls])} as controls. "
        f"Uncertainty came from {block.n_bootstrap} bootstrap resamples over stimuli, subjects and seeds with the "
        "variance corrected for crossed factors (Schütt et al. 2023); "
        f"tests against chance permuted stimulus labels. Tests were corrected by {correction} within declared "
        f"families at {block.alpha:g}. Noise ceilings follow Nili et al. (2014)." + _searchlight(block)
    )


def _recorded(block: Any) -> str:
    if block.recordings == "rdms":
        return "the RDMs that the data set ships"
    if not block.windows:
        return f"{block.rdm} RDMs of the trial estimates"
    windows = block.windows
    return (
        f"{block.rdm} RDMs of windows of the stories of {windows.seconds:g} s, {windows.gap_s:g} s apart (mean of "
        f"the volumes that start in the window {windows.lag_s:g} s later; of networks, mean over the words that begin "
        "in it)"
    )


def _searchlight(block: Any) -> str:
    settings = block.searchlight
    if settings is None:
        return ""
    rdm = {"crossnobis": "crossnobis RDMs, each voxel scaled by its own noise,"}.get(block.rdm, f"{block.rdm} RDMs")
    test = {"max": "the largest t", "tfce": "threshold-free cluster enhancement"}[settings.statistic]
    return (
        f" A searchlight compared {rdm} in spheres of {settings.radius_mm:g} mm radius, at least "
        f"{settings.min_share:.0%} inside the mask, with the same models. With five subjects or more, group maps were "
        f"tested by {settings.n_permutations} sign flips with {test}, corrected over the voxels of each map."
    )


def _software(settings: Any, packages: Mapping[str, str]) -> str:
    used: Sequence[str] = [
        f"{name} {number}" for name, number in packages.items() if number != "absent" and name != "corticode"
    ]
    return (
        f"All analyses ran in Corticode {packages.get('corticode', '')} with seed {settings.seed} and "
        f"{count(settings.threads, 'numerical thread')} "
        f"({', '.join(used)})."
    )
