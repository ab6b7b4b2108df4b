"""The maps of one subject: of the text as it was heard, of null pairings, and what is above the nulls' maximum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from decoders.config import VoxelMapSettings
from decoders.decoding import maps
from decoders.decoding.bottleneck import GateFit, null_pairing, paired, train_gate
from decoders.decoding.listening import Listening
from decoders.decoding.stored_runs import lengths_of


@dataclass(frozen=True)
class PairingMaps:
    """Maps of one pairing of recording and text.

    Attributes
    ----------
    gate : GateFit
    encoding_r, encoding : array of shape (n_voxels,)
        Held-out r, and the same smoothed within the mask.
    """

    gate: GateFit
    encoding_r: NDArray[np.float32]
    encoding: NDArray[np.float32]

    @property
    def parts(self) -> list[NDArray[np.float32]]:
        """What the combined map is made of.

        The gate and the smoothed r gather evidence over neighbours, and leak into them: on phantoms all false voxels
        above the nulls touched planted ones. The r of the voxel itself decides at the border of a site.
        """
        return [self.gate.logits, self.encoding, self.encoding_r]


@dataclass
class VoxelMaps:
    """Maps of one subject and their nulls.

    Attributes
    ----------
    gate : GateFit
    encoding_r, encoding, combined : array of shape (n_voxels,)
        Held-out r, the same smoothed within the mask, and the mean z of gate logits, smoothed r and r.
    nulls : dict of str to list of array
        The three maps of each null pairing.
    """

    gate: GateFit
    encoding_r: NDArray[np.float32]
    encoding: NDArray[np.float32]
    combined: NDArray[np.float32]
    nulls: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)

    @property
    def shown(self) -> dict[str, NDArray[np.float32]]:
        """The maps that are written, by name."""
        return {"gate": self.gate.kl, "encoding": self.encoding, "combined": self.combined}


def map_pairing(training: Listening, settings: VoxelMapSettings, seed: int) -> PairingMaps:
    """Train the gate and fit the encoding model to training runs, with the text that they are paired with.

    Parameters
    ----------
    training : Listening
    settings : VoxelMapSettings
    seed : int
        Of the gate and of the search over band penalties.
    """
    gate = train_gate(training.x, training.targets, training.mask, settings, training.tr, seed)
    bands = [1, training.features[0].shape[1] - 1]  # word count, word vectors
    r = maps.encoding_map(training.x, training.features, bands, settings.folds, seed)
    return PairingMaps(gate, r, maps.smooth_in_mask(r, training.mask, settings.sigma_voxels))


def with_null_text(training: Listening, rng: np.random.Generator) -> Listening:
    """Return the runs with the text of other runs, rolled in time (`null_pairing`)."""
    pairing = null_pairing(lengths_of(training.x), rng)
    targets, features = paired(training.targets, pairing), paired(training.features, pairing)
    return replace(training, targets=targets, features=features)


def gather(heard: PairingMaps, nulls: Sequence[PairingMaps]) -> VoxelMaps:
    """Put the maps of a subject and of its null pairings together.

    Parameters
    ----------
    heard : PairingMaps
        Of the text as it was heard.
    nulls : sequence of PairingMaps
        The combined maps of nulls are put on the scale of the real one, so that their maximum is a cut for it.
    """
    found = {
        "gate": [null.gate.kl for null in nulls],
        "encoding": [null.encoding for null in nulls],
        "combined": [maps.combine(null.parts, heard.parts) for null in nulls],
    }
    return VoxelMaps(heard.gate, heard.encoding_r, heard.encoding, maps.combine(heard.parts), found)


def locate(training: Listening, settings: VoxelMapSettings, seed: int, rng: np.random.Generator) -> VoxelMaps:
    """Compute all maps of training runs at once; the workflow has a job for each pairing instead.

    Parameters
    ----------
    training : Listening
    settings : VoxelMapSettings
    seed : int
        Of the gates and of the search over band penalties.
    rng : Generator
        Draws the null pairings.
    """
    heard = map_pairing(training, settings, seed)
    return gather(
        heard,
        [map_pairing(with_null_text(training, rng), settings, seed) for _ in range(settings.n_null_gates)],
    )
