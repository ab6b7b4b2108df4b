"""What the voxel maps cost: seconds of a gate, and the peak of memory with 13 runs and with four times as many.

``python benchmarks/bench_voxel_cost.py`` writes made-up recordings of noise at 32x40x32 (17,320 voxels, 150 volumes a
run) to a temporary folder (0.6 GB) and runs every part in a process of its own, whose peak resident memory the system
counts. One thread. Peaks are measured over a few epochs: further ones hold no more. About four CPU-minutes.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import write_result
from numpy.typing import NDArray

from decoders.config import VoxelMapSettings
from decoders.decoding import maps
from decoders.decoding.bottleneck import lags_in_volumes, train_gate
from decoders.decoding.common_grid import common_mask, on_common_grid
from decoders.decoding.refit import decode_runs
from decoders.simulate.brain import brain_mask
from decoders.stage import fix_threads
from decoders.store.recording import Recording, read_recording, read_recording_header, write_recording

GRID, TR, N_VOLUMES, N_FEATURES, N_RUNS, N_TEST = (32, 40, 32), 2.0, 150, 25, 13, 1
EPOCHS_OF_PEAKS = 2
PARTS = ("start", "gate", "encoding", "refit")
# Its kernel has as many rows as all runs have moments, so that four times the runs take minutes: once is enough.
BASELINE = "ridge on all voxels"


def write_runs(folder: Path, n_runs: int) -> None:
    """Write recordings of noise."""
    mask = brain_mask(GRID)
    for run in range(n_runs):
        rng = np.random.default_rng(run)
        data = rng.standard_normal((N_VOLUMES, int(mask.sum())), dtype=np.float32)
        write_recording(
            folder / f"{run:03d}.h5",
            Recording(
                data, "volume", "01", run=f"{run:03d}", time=TR * np.arange(N_VOLUMES), tr=TR, mask=mask,
                affine=np.diag([3.0, 3.0, 3.0, 1.0]),
            ),
        )  # fmt: skip


def part(name: str, folder: Path, n_runs: int, epochs: int, stored: bool) -> dict[str, float]:
    """Run one part; return its CPU-seconds and the peak of the process in MB."""
    fix_threads(1)
    paths = sorted(folder.glob("*.h5"))[: n_runs + N_TEST]
    recordings = [(read_recording_header if stored else read_recording)(path) for path in paths]
    mask = common_mask(recordings, "the benchmark")
    x = on_common_grid(recordings, mask)
    rng = np.random.default_rng(0)
    text = [rng.standard_normal((N_VOLUMES, N_FEATURES)).astype(np.float32) for _ in paths]
    settings, lags = VoxelMapSettings(epochs=epochs), lags_in_volumes(TR)
    train, test, heard = x[:n_runs], x[n_runs:], text[:n_runs]
    chosen = np.arange(round(settings.select_share * int(mask.sum())))

    def decode(voxels: NDArray[np.int64]) -> Any:
        return decode_runs(train, heard, test, voxels, lags, settings.folds)

    does: dict[str, Callable[[], Any]] = {
        "start": lambda: None,
        "gate": lambda: train_gate(train, heard, mask, settings, TR, seed=0),
        "encoding": lambda: maps.encoding_map(train, heard, [1, N_FEATURES - 1], settings.folds, 0),
        "refit": lambda: decode(chosen),
        BASELINE: lambda: decode(np.arange(int(mask.sum()))),
    }
    start = time.process_time()
    does[name]()
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_seconds": round(seconds, 1), "peak_mb": round(peak)}


def measured(*arguments: object) -> dict[str, float]:
    """Run one part in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(*arguments[:1], *arguments[2:], figures, flush=True)
    return figures


def main() -> None:
    epochs = VoxelMapSettings().epochs
    figures: dict[str, Any] = {"grid": "x".join(map(str, GRID)), "n_voxels": int(brain_mask(GRID).sum())}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_runs(folder, 4 * N_RUNS + N_TEST)
        figures[f"gate, {N_RUNS} runs, linear head, {epochs} epochs"] = measured("gate", folder, N_RUNS, epochs, 1)
        for what in PARTS:
            few, many = (measured(what, folder, n, EPOCHS_OF_PEAKS, 1) for n in (N_RUNS, 4 * N_RUNS))
            figures[what] = {
                f"{N_RUNS} runs": few, f"{4 * N_RUNS} runs": many,
                "peak_ratio": round(many["peak_mb"] / few["peak_mb"], 3),
            }  # fmt: skip
            write_result("voxel_cost", "python benchmarks/bench_voxel_cost.py", figures)
        figures[f"gate, {4 * N_RUNS} runs in memory"] = measured("gate", folder, 4 * N_RUNS, EPOCHS_OF_PEAKS, 0)
        figures[f"{BASELINE}, {N_RUNS} runs"] = measured(BASELINE, folder, N_RUNS, EPOCHS_OF_PEAKS, 1)
    print(write_result("voxel_cost", "python benchmarks/bench_voxel_cost.py", figures))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        what, where, n, passes, lazily = sys.argv[1:]
        print(json.dumps(part(what, Path(where), int(n), int(passes), lazily == "1")))
    else:
        main()
