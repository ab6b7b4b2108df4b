"""Trials of sensors of people whose geometry over time is known."""

from __future__ import annotations

import numpy as np

from decoders.store.recording import Recording

TIMES = np.round(np.arange(-0.1, 0.4001, 0.01), 6)


def rise_and_fall(times, onset, peak, end):
    rise, fall = (np.clip((times - a) / (b - a), 0, 1) for a, b in ((onset, peak), (peak, end)))
    return (1 - np.cos(np.pi * rise)) / 2 * (1 + np.cos(np.pi * fall)) / 2


def coloured(rng, shape, rho=0.8):
    """Return noise of unit variance that is correlated in time (first order)."""
    from scipy.signal import lfilter

    noise = rng.standard_normal(shape)
    noise[..., 1:] *= np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], noise, axis=-1)


def sensor_names(n):
    return np.array([f"MEG{number:04d}" for number in range(n)], dtype=object)


def sensor_trials(
    rng, names, subject="01", run="1", repeats=4, n_channels=12, times=TIMES, codes=(), courses=(), unit=1e-13, **more
):
    """Return a run: each name `repeats` times; each code (n_names, n_channels) follows its course over time."""
    order = rng.permutation(np.repeat(np.arange(len(names)), repeats))
    data = coloured(rng, (len(order), n_channels, len(times)))
    for code, course in zip(codes, courses, strict=True):
        data += code[order][:, :, None] * course
    fields = {
        "task": "pictures", "axis": "trial", "conditions": np.array(names, dtype=object)[order],
        "time": np.arange(len(order), dtype=float), "groups": np.arange(len(order)), "sfreq": 100.0,
        "epoch_time": times, "names": sensor_names(n_channels), "unit": "SI",
        "channel_types": np.array(["mag"] * n_channels, dtype=object),
        "positions": rng.standard_normal((n_channels, 3)) * 0.05, "noise_covariance": np.eye(n_channels) * unit**2,
        **more,
    }  # fmt: skip
    return Recording((unit * data).astype(np.float32), "sensor", subject, run=run, **fields)
