"""The stage ``gate``: the maps of one subject for one pairing of recording and text.

Pairing 0 is the text as it was heard; the others are nulls. A job each, so that nulls run side by side, and a killed
study has lost one of them at most. The pairings depend on the seed and their number alone: more of them change none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decoders.config import VoxelMapSettings
from decoders.decoding.bottleneck import GateFit
from decoders.decoding.listening import listen
from decoders.decoding.voxel_maps import PairingMaps, map_pairing, with_null_text
from decoders.errors import InputError
from decoders.stage import Job
from decoders.store.arrays import Array, read_arrays, write_arrays


def run(job: Job) -> None:
    """Write the gate and the encoding map of one pairing."""
    settings: VoxelMapSettings = job.settings.decoding.voxels
    subject, pairing = job.labels["subject"], int(job.labels["pairing"])
    listening, _ = listen(job)
    training, settings = listening.training, listening.fitting(settings)
    if pairing:
        training = with_null_text(training, job.rng("null gates", subject, pairing))
    found = map_pairing(training, settings, job.torch_seed("gate", subject))
    job.log.info("sub-%s, pairing %d: mean KL %.4f nats", subject, pairing, float(found.gate.kl.mean()))
    about = {"subject": subject, "pairing": pairing, "trained": listening.trained_labels}
    _write(job.outputs["gate"], found, listening.mask, about)


def _write(path: Path, found: PairingMaps, mask: NDArray[np.bool_], about: dict[str, object]) -> None:
    gate = found.gate
    arrays = {
        "mask": Array(mask.astype(np.uint8), ("x", "y", "z")),
        "gate/logits": Array(gate.logits, ("voxel",)),
        "gate/m": Array(gate.m, ("voxel",)),
        "gate/kl": Array(gate.kl, ("voxel",), "nat"),
        "gate/capacity": Array(gate.capacity, ("voxel",), "nat"),
        "gate/curve": Array(gate.curve, ("epoch", "held_out_training_kl"), "nat"),
        "encoding/r": Array(found.encoding_r, ("voxel",)),
        "encoding/smoothed": Array(found.encoding, ("voxel",)),
    }
    write_arrays(path, arrays, about)


def read_pairings(
    paths: Sequence[Path], mask: NDArray[np.bool_], trained: Sequence[str]
) -> tuple[PairingMaps, list[PairingMaps]]:
    """Return the maps of the text as it was heard, and those of the nulls in order of their number.

    Raises
    ------
    InputError
        Maps of other runs or voxels, or not exactly one file of each pairing from 0 on.
    """
    remedy = "Delete the file and run again: it was made from other runs."
    found: dict[int, PairingMaps] = {}
    for path in paths:
        file = read_arrays(path)
        runs = file.attributes.get("trained")
        if not np.array_equal(file["mask"].astype(bool), mask) or list(runs or ()) != list(trained):
            raise InputError(f"maps of the training runs {', '.join(trained[:3])}, …", f"maps of {runs}", path, remedy)
        gate = GateFit(*(file[f"gate/{name}"] for name in ("logits", "m", "kl", "capacity", "curve")))
        found[int(file.attributes["pairing"])] = PairingMaps(gate, file["encoding/r"], file["encoding/smoothed"])
    if sorted(found) != list(range(len(paths))):
        where = "the maps of the pairings"
        raise InputError(f"the pairings 0 to {len(paths) - 1}", f"{sorted(found)}", where, "Give each of them once.")
    return found[0], [found[number] for number in range(1, len(paths))]
