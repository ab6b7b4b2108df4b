"""Peak memory and time of preprocessing an MEG run of 306 channels at 1 kHz, against its length.

Each length runs in a process of its own, so that its peak is its own. The file is short integers (2 bytes a sample):
an hour of it is 2.2 GB, so that shorter runs and the slope between them tell of it where the disk is small.

    python benchmarks/bench_meg_memory.py 15 30
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import write_result

SFREQ, PIECE_S = 1000.0, 60
LIMIT_GB = 4.0


def write_run(folder: Path, minutes: float) -> Path:
    """Write noise, blinks and a hum on the helmet of the tests: a minute, repeated without being held in memory."""
    import mne

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
    from made_up_meg import recording_info

    rng = np.random.default_rng(0)
    info = recording_info(SFREQ, eog=True, ecg=True, head=True)
    for channel, kind in zip(info["chs"], info.get_channel_types(), strict=True):
        channel["cal"] = {"mag": 5e-16, "grad": 1e-14, "eog": 1e-7, "ecg": 1e-7, "stim": 1.0}[kind]
    n = round(PIECE_S * SFREQ)
    t = np.arange(n) / SFREQ
    kinds = np.array(info.get_channel_types())
    size = {"mag": 1e-13, "grad": 5e-12, "eog": 1e-5, "ecg": 1e-5, "stim": 0.0}
    data = rng.standard_normal((len(kinds), n)) * np.array([size[kind] for kind in kinds])[:, None]
    blink = sum(np.exp(-0.5 * ((t - at) / 0.08) ** 2) for at in np.arange(2.0, PIECE_S, 3.7))
    sensors = np.isin(kinds, ["mag", "grad"])
    scale = np.array([size[kind] for kind in kinds[sensors]])
    data[sensors] += np.outer(rng.standard_normal(sensors.sum()) * 5 * scale, blink)
    data[sensors] += np.outer(rng.standard_normal(sensors.sum()) * 5 * scale, np.sin(2 * np.pi * 50 * t))
    data[kinds == "eog"] += 2e-4 * blink
    piece = folder / "piece_raw.fif"
    mne.io.RawArray(data, info, verbose="ERROR").save(piece, fmt="short", verbose="ERROR")
    del data
    whole = mne.concatenate_raws([mne.io.read_raw_fif(piece, verbose="ERROR") for _ in range(round(minutes))])
    whole.set_annotations(None)
    path = folder / "sub-01" / "meg" / "sub-01_task-rest_meg.fif"
    path.parent.mkdir(parents=True)
    whole.save(path, fmt="short", split_naming="bids", verbose="ERROR")
    piece.unlink()
    return path


def prepare(folder: Path) -> dict[str, float]:
    """Preprocess and write the run of a folder with the default settings, in this process."""
    from decoders.config import DataSettings, PreprocessSettings
    from decoders.data.stage import list_runs
    from decoders.signal.meg import prepare_sensor_run
    from decoders.store.recording import write_recording

    runs = list_runs(DataSettings(source="bids", root=str(folder)))
    start = time.perf_counter(), time.process_time()
    recording = prepare_sensor_run(runs[0], runs, PreprocessSettings())
    write_recording(folder / "recording.h5", recording)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    return {
        "peak_gb": round(peak, 3),
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "shape": list(recording.data.shape),
    }


def measure(minutes: float) -> dict[str, float]:
    """Write a run, preprocess it in another process, and return what it took."""
    with tempfile.TemporaryDirectory() as name:
        for command in ("write", "prepare"):
            script = [sys.executable, __file__, "--folder", name, "--do", command, str(minutes)]
            done = subprocess.run(script, check=True, stdout=subprocess.PIPE, text=True)
        return {"minutes": minutes, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    """Measure some lengths, and say what an hour takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", nargs="+", type=float)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--do", choices=["write", "prepare"])
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.do == "write":
        write_run(options.folder, options.minutes[0])
        return
    if options.do == "prepare":
        print(json.dumps(prepare(options.folder)))
        return
    found = [measure(minutes) for minutes in options.minutes]
    first, last = found[0], found[-1]
    slope = (last["peak_gb"] - first["peak_gb"]) / max(last["minutes"] - first["minutes"], 1e-9)
    # The peak of a short run may lie in a part whose need does not grow: a line must not promise less than was seen.
    hour = max(last["peak_gb"] + slope * (60 - last["minutes"]), *(run["peak_gb"] for run in found))
    result = {"channels": 306, "sfreq": SFREQ, "runs": found, "peak_gb_of_an_hour": round(hour, 3),
              "limit_gb": LIMIT_GB, "measured": last["minutes"] >= 60, "passed": hour < LIMIT_GB}  # fmt: skip
    command = f"python benchmarks/bench_meg_memory.py {' '.join(f'{minutes:g}' for minutes in options.minutes)}"
    write_result("meg_memory", command, result)


if __name__ == "__main__":
    main()
