"""Bias and spread of estimators of onset and peak, on courses of known latency: what the choice of ours rests on.

Run ``python benchmarks/bench_latencies.py``; about two minutes. Responses of four shapes (raised cosine, as in the
phantom, gamma, ramp, Gaussian) and two speeds, low-passed at 40 Hz as recordings are, squared as distances are, noise
correlated in time, eight subjects, 200 Hz. The stretch in which the peak is looked for is known, so that the
estimators alone are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import write_result

from decoders.alignment.timed import latencies
from decoders.alignment.timed.flips import flip_test, sign_patterns
from decoders.alignment.timed.latencies import amplitude, onset_times, peak_times
from decoders.stage import fix_threads

FINE_HZ, STEP, N_SUBJECTS, N_STUDIES, SERIAL = 1000, 5, 8, 100, 0.8
SPANS = ((0.065, 0.1, 0.22), (0.12, 0.17, 0.35))


def raised_cosine(t: np.ndarray, on: float, peak: float, end: float) -> np.ndarray:
    rise, fall = np.clip((t - on) / (peak - on), 0, 1), np.clip((t - peak) / (end - peak), 0, 1)
    return (1 - np.cos(np.pi * rise)) * (1 + np.cos(np.pi * fall)) / 4


def gamma(t: np.ndarray, on: float, peak: float, end: float) -> np.ndarray:
    x = np.clip((t - on) / (peak - on), 0, None)
    return x**2 * np.exp(2 * (1 - x))


def ramp(t: np.ndarray, on: float, peak: float, end: float) -> np.ndarray:
    return np.clip((t - on) / (peak - on), 0, 1) * (1 - np.clip((t - peak) / (end - peak), 0, 1))


def gaussian(t: np.ndarray, on: float, peak: float, end: float) -> np.ndarray:
    """Its onset is two standard deviations before the peak, where 13 % of it are reached."""
    return np.exp(-0.5 * ((t - peak) / ((peak - on) / 2)) ** 2)


SHAPES: dict[str, Callable[..., np.ndarray]] = {
    "raised cosine": raised_cosine, "gamma": gamma, "ramp": ramp, "Gaussian": gaussian,
}  # fmt: skip


def line_at(low: float, high: float, course: np.ndarray, times: np.ndarray, start: int, stop: int) -> float:
    peak = np.array([start + int(np.argmax(course[start:stop]))])
    level = course[peak]
    lower, upper = (latencies._last_crossing(course[None], times, peak, share * level)[0] for share in (low, high))
    return float(lower - low / (high - low) * (upper - lower)) if high > low else float(lower)


def polynomial_peak(degree: int, top: float, course: np.ndarray, times: np.ndarray, start: int, stop: int) -> float:
    """Return the largest point of a polynomial through the contiguous points above a share of the largest one."""
    peak = start + int(np.argmax(course[start:stop]))
    first, last = peak, peak
    while first > 0 and course[first - 1] >= top * course[peak]:
        first -= 1
    while last < len(course) - 1 and course[last + 1] >= top * course[peak]:
        last += 1
    first, last = max(min(first, peak - 1), 0), min(max(last, peak + 1), len(course) - 1)
    if last - first < degree:
        degree = 2
    place = times[first : last + 1] - times[peak]
    fitted = np.polyfit(place / 0.01, course[first : last + 1], degree)
    grid = np.linspace(place[0], place[-1], 201)
    return float(times[peak] + grid[np.argmax(np.polyval(fitted, grid / 0.01))])


def estimates(weights: np.ndarray, times: np.ndarray, start: int, stop: int) -> dict[str, float]:
    mean = weights.mean(axis=0)
    course = amplitude(mean)
    signs, exact = sign_patterns(N_SUBJECTS, 2**N_SUBJECTS, np.random.default_rng(0))
    tested = flip_test(weights[:, None], signs, 0.05, "max", "greater", exact)
    found = [item for item in tested.clusters if item.p <= 0.05 and item.stop > start and item.start < stop]
    return {
        "onset: ours": float(onset_times(course[None], times, start, stop)[0]),
        **{
            f"onset: line {low} to {high}": line_at(low, high, course, times, start, stop)
            for low, high in ((0.25, 0.75), (0.4, 0.8), (0.5, 0.8), (0.5, 0.9), (0.6, 0.9))
        },
        "onset: the same on the squares": line_at(0.25, 0.75, mean, times, start, stop),
        "onset: a fifth of the peak": line_at(0.2, 0.2, course, times, start, stop),
        "onset: half of the peak": line_at(0.5, 0.5, course, times, start, stop),
        "onset: first moment of the significant cluster": float(times[found[0].start]) if found else float("nan"),
        "peak: ours": float(peak_times(course[None], times, start, stop)[0]),
        "peak: largest point": float(times[start + int(np.argmax(course[start:stop]))]),
        **{
            f"peak: {name} above {top}": polynomial_peak(degree, top, course, times, start, stop)
            for degree, name in ((2, "parabola"), (3, "cubic"), (4, "quartic"), (5, "quintic"))
            for top in (0.6, 0.7, 0.8, 0.9)
        },
    }


def noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    from scipy.signal import lfilter

    white = rng.standard_normal(shape)
    white[:, 1:] *= np.sqrt(1 - SERIAL**2)
    return np.asarray(lfilter([1.0], [1.0, -SERIAL], white, axis=-1))


def main() -> None:
    import mne

    fix_threads(1)
    rng = np.random.default_rng(0)
    fine = np.arange(-0.3, 0.8, 1 / FINE_HZ)
    errors: dict[str, dict[str, list[float]]] = {}
    for shape, response in SHAPES.items():
        for on, peak, end in SPANS:
            course = mne.filter.filter_data(response(fine, on, peak, end), FINE_HZ, None, 40, verbose="ERROR")[::STEP]
            times = fine[::STEP]
            start, stop = (int(np.searchsorted(times, value)) for value in (on, end))
            for ratio in (10, 30):
                for _ in range(N_STUDIES):
                    drawn = noise(rng, (N_SUBJECTS, len(times))) * np.sqrt(N_SUBJECTS) / ratio
                    weights = np.sign(course) * course**2 + drawn
                    for name, value in estimates(weights, times, start, stop).items():
                        truth = on if name.startswith("onset") else peak
                        case = f"{shape}, signal to noise {ratio}"
                        errors.setdefault(name, {}).setdefault(case, []).append(1000 * (value - truth))
    figures: dict[str, Any] = {}
    for name, cases in errors.items():
        bias = {case: round(float(np.nanmean(values)), 1) for case, values in cases.items()}
        spread = [float(np.nanstd(values)) for values in cases.values()]
        figures[name] = {
            "bias_ms": bias,
            "mean_absolute_bias_ms": round(float(np.mean(np.abs(list(bias.values())))), 1),
            "mean_sd_ms": round(float(np.mean(spread)), 1),
            "rms_error_ms": round(float(np.sqrt(np.mean([np.nanmean(np.square(v)) for v in cases.values()]))), 1),
        }
        print(name, {key: value for key, value in figures[name].items() if key != "bias_ms"}, flush=True)
    print(write_result("latencies", "python benchmarks/bench_latencies.py", figures))


if __name__ == "__main__":
    main()
