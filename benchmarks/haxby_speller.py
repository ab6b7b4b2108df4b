"""Names from the Haxby slice, all twelve folds: the study's own settings, its figures and CPU seconds.

Run ``python benchmarks/haxby_speller.py RECORDING.h5 …`` with the preprocessed runs of the study
``config/studies/haxby2001.yaml`` (results/haxby2001/preprocessed/*_recording.h5). Takes about five minutes.
"""

from __future__ import annotations

import argparse
import logging
import time
import zlib
from pathlib import Path

import numpy as np
from common import write_result

from decoders.config import load_settings
from decoders.decoding.names_study import decode_names
from decoders.stage import fix_threads
from decoders.store.recording import read_recording

STUDY = Path(__file__).resolve().parents[1] / "config" / "studies" / "haxby2001.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recordings", nargs="+", type=Path)
    paths = sorted(parser.parse_args().recordings)
    logging.basicConfig(level="INFO")
    study = load_settings(STUDY)
    fix_threads(study.threads)

    def draw(*keys: str | int) -> np.random.Generator:
        return np.random.default_rng([study.seed, *[zlib.crc32(str(key).encode()) for key in keys]])

    start = time.process_time()
    assert study.decoding is not None
    assert study.decoding.names is not None
    recordings = [read_recording(path) for path in paths]
    outcome = decode_names(recordings, study.decoding.names, draw, logging.getLogger("benchmark"))
    seconds = time.process_time() - start
    table = outcome.scores_table(recordings[0].subject)
    shuffled = table[table.model == "control:shuffled"]
    models = table[~table.model.str.startswith("control:")]
    figures = {f"{row.task} {row.model} {row.metric}": row.score for row in models.itertuples()}
    figures |= {f"{row.task} shuffled {row.control_of} {row.metric}": row.score for row in shuffled.itertuples()}
    gates = {key: value for key, value in outcome.attributes.items() if key.startswith("gate")}
    command = "python benchmarks/haxby_speller.py results/haxby2001/preprocessed/*_recording.h5"
    path = write_result("haxby_speller", command, {**figures, **gates, "cpu_seconds": seconds})
    print(table.to_string())
    print(f"written: {path}")


if __name__ == "__main__":
    main()
