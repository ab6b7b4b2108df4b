"""The phantom in the MEG: how long eight people take, how large the files are, and what was planted in them.

``python benchmarks/bench_meg_phantom.py FOLDER`` writes the phantom (eight people, two runs of pictures, the defaults
of `data.phantom.meg`) as BIDS into FOLDER and prints, per person, processor seconds, megabytes, latencies of planted
sources and the number of planted sensors. ``… FOLDER geometry`` and ``… FOLDER response`` write the null phantoms.
Recovery of the latencies is measured by the stages that read the folder.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

from decoders.config import PhantomSettings
from decoders.config.phantom_meg import PhantomMegSettings
from decoders.simulate.write import write_phantom

N_PEOPLE = 8


def settings_of(null: Any = None) -> PhantomSettings:
    """Return the settings of the phantom of the benchmark."""
    meg = PhantomMegSettings(picture_subjects=N_PEOPLE, null=null)
    return PhantomSettings(story_subjects=0, picture_subjects=0, meg=meg)


def planted(root: Path) -> pd.DataFrame:
    """Return latencies in seconds and planted sensors per person."""
    rows = []
    for path in sorted(root.glob("derivatives/truth/sub-*/meg/*_task-pictures_desc-planted_sources.tsv")):
        sources = pd.read_csv(path, sep="\t").drop_duplicates("source").set_index("source")
        channels = pd.read_csv(path.with_name(path.name.replace("_sources", "_channels")), sep="\t")
        latencies = {f"{name}_{key}": sources[key][name] for name in sources.index for key in ("onset_s", "peak_s")}
        rows.append({"subject": path.name.split("_")[0], **latencies, "planted": int(channels["planted"].sum())})
    return pd.DataFrame(rows)


def main() -> None:
    """Write the phantom and print what it holds."""
    root, null = Path(sys.argv[1]), (sys.argv[2] if len(sys.argv) > 2 else None)
    start = time.process_time()
    write_phantom(root, settings_of(null))
    seconds = time.process_time() - start
    megabytes = sum(path.stat().st_size for path in root.rglob("*_meg.fif")) / 1e6
    print(f"{seconds / N_PEOPLE:.1f} CPU s and {megabytes / N_PEOPLE:.0f} MB per person")
    print(planted(root).to_string(index=False))


if __name__ == "__main__":
    main()
