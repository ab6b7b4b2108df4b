"""What was planted in a person's MEG, as tables: dipoles with their latencies, and what each sensor sees of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decoders.config import PhantomSettings
from decoders.simulate.meg_artefacts import bad_sensors
from decoders.simulate.meg_dipoles import dipole_fields
from decoders.simulate.meg_noise import noise_covariance
from decoders.simulate.meg_sensors import sensor_types, sites
from decoders.simulate.meg_sources import Source, draw_sources

# A sensor is planted where it sees this share of what the best one sees of a source, in units of its noise.
PLANTED_SHARE = 0.3


def source_table(settings: PhantomSettings, task: str, subject: int) -> pd.DataFrame:
    """Return the dipoles of a task, one row each.

    Returns
    -------
    DataFrame
        source, dipole, x, y, z (head coordinates in m), ox, oy, oz (unit vector), onset_s, peak_s, end_s, geometry,
        shared_am (moment at the peak of what all events share) and weight_am (root mean square over dimensions).
    """
    return pd.concat([_dipoles(source) for source in draw_sources(settings, task, subject)], ignore_index=True)


def channel_table(settings: PhantomSettings, task: str, subject: int) -> pd.DataFrame:
    """Return what each sensor sees of the sources, where the head rests.

    Returns
    -------
    DataFrame
        name, type, one column gain_<source> per source: size at its peak in standard deviations of the sensor's noise
        (what tells events apart, root mean square; of a source without geometry, what all events share), and
        planted: 1 where any gain of a source with geometry (of the word rate, of its own) is at least .3 times the
        largest. Bad sensors see nothing.
    """
    fields = dipole_fields(settings, subject)
    noise = np.sqrt(np.diag(noise_covariance(settings, subject)))
    table = pd.DataFrame({"name": sites()[0], "type": sensor_types()})
    planted = np.zeros(len(noise), dtype=bool)
    for source in draw_sources(settings, task, subject):
        gain = source_gain(source, fields[source.patch.name]) / noise
        gain[np.concatenate(bad_sensors(settings, subject))] = 0.0
        table[f"gain_{source.patch.name}"] = gain
        if source.patch.n_dimensions or task == "story":
            planted |= (gain >= PLANTED_SHARE * gain.max()) & (gain > 0)
    return table.assign(planted=planted.astype(int))


def source_gain(source: Source, field: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the size of a source in each sensor at its peak, in T or T/m, shape (306,)."""
    if source.patch.n_dimensions:
        per_dimension = field @ source.weights
        # Codes have unit norm on average: every dimension has 1 over their number of it.
        return np.sqrt((per_dimension**2).mean(axis=1))
    return np.abs(field @ source.shared)


def _dipoles(source: Source) -> pd.DataFrame:
    n = len(source.places)
    sizes = np.sqrt((source.weights**2).mean(axis=1)) if source.weights.size else np.zeros(n)
    return pd.DataFrame(
        {
            "source": source.patch.name,
            "dipole": np.arange(1, n + 1),
            **dict(zip("xyz", source.places.T, strict=True)),
            **dict(zip(("ox", "oy", "oz"), source.directions.T, strict=True)),
            "onset_s": source.onset_s,
            "peak_s": source.peak_s,
            "end_s": source.end_s,
            "geometry": source.patch.geometry,
            "shared_am": source.shared,
            "weight_am": sizes,
        }
    )
