"""Encoding models of runs and subjects that lack different regions."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from decoders.decoding.stage_encode import with_common_features
from decoders.store.recording import Recording

LOG = logging.getLogger("corticode")


def listener(subject, names, run="1"):
    """A subject whose region r0 holds 0, r1 holds 1, …"""
    data = np.tile(np.array([float(name[1:]) for name in names], np.float32), (4, 1))
    return Recording(data, "region", subject, run=run, stimulus="s", names=np.array(names, dtype=object), tr=2.0)


def test_a_region_that_one_subject_lacks_does_not_cost_the_group(caplog):
    with caplog.at_level(logging.WARNING, logger="corticode"):
        runs = with_common_features([listener("1", ["r0", "r1", "r2"]), listener("2", ["r2", "r0"])], LOG)
    assert [run.names.tolist() for run in runs] == [["r0", "r2"], ["r0", "r2"]]
    assert all((run.data == [0, 2]).all() for run in runs)
    assert "sub-1: left out, as other runs lack them: r1" in caplog.text


def test_subjects_with_regions_of_their_own_keep_them():
    runs = with_common_features([listener("1", ["r0", "r1"]), listener("1", ["r1"], "2"), listener("2", ["r5"])], LOG)
    assert [run.names.tolist() for run in runs] == [["r1"], ["r1"], ["r5"]]
    assert with_common_features([], LOG) == []


@pytest.mark.parametrize("same", [True, False])
def test_voxels_are_matched_within_a_subject_only(caplog, same):
    full = np.ones((2, 2, 1), dtype=bool)
    hole = full.copy()
    hole[0, 0, 0] = same
    base = Recording(np.arange(12, dtype=np.float32).reshape(3, 4), "volume", "1", mask=full, affine=np.eye(4), tr=2.0)
    other = replace(base, run="2", mask=hole, data=base.data[:, hole.ravel()])
    with caplog.at_level(logging.WARNING, logger="corticode"):
        runs = with_common_features([base, other, replace(base, subject="2")], LOG)
    assert [run.data.shape[1] for run in runs] == ([4, 4, 4] if same else [3, 3, 4])
    assert np.array_equal(runs[0].data, runs[1].data)
    assert ("1 features left out" in caplog.text) != same
