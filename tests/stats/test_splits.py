import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoders.errors import InputError
from decoders.stats.splits import Split, audit_split, contiguous_blocks, leave_one_run_out


@given(n_samples=st.integers(30, 400), n_blocks=st.integers(2, 6), gap=st.integers(0, 6))
def test_blocks_cover_all_samples_once_and_keep_the_gap(n_samples, n_blocks, gap):
    splits = contiguous_blocks(n_samples, n_blocks, gap)
    assert np.concatenate([split.test for split in splits]).tolist() == list(range(n_samples))
    for split in splits:
        assert np.abs(split.train[:, None] - split.test).min() == gap + 1
        assert len(split.train) >= n_samples - len(split.test) - 2 * gap
        audit_split(split, gap=gap)


def test_leave_one_run_out_holds_out_each_run():
    runs = ["b", "b", "a", "a", "a", "c"]
    splits = leave_one_run_out(runs)
    assert [split.name for split in splits] == ["run-b", "run-a", "run-c"]
    for split in splits:
        assert sorted([*split.train, *split.test]) == list(range(6))
        audit_split(split, groups=runs)


@pytest.mark.parametrize(
    ("split", "arguments"),
    [
        (Split("x", np.array([0, 1, 2]), np.array([2, 3])), {}),
        (Split("x", np.array([0, 1]), np.array([4, 5])), {"gap": 3}),
        (Split("x", np.array([8, 9]), np.array([4, 5])), {"gap": 3}),
        (Split("x", np.array([0, 2]), np.array([1, 3])), {"groups": ["a", "a", "b", "b"]}),
    ],
)
def test_the_audit_refuses_a_leak(split, arguments):
    with pytest.raises(InputError, match="split x"):
        audit_split(split, **arguments)


@pytest.mark.parametrize("arguments", [(3, 4), (10, 1), (10, 2, 9), (10, 2, -1)])
def test_impossible_blocks_are_refused(arguments):
    with pytest.raises(InputError):
        contiguous_blocks(*arguments)


def test_one_run_cannot_be_left_out():
    with pytest.raises(InputError, match="two or more runs"):
        leave_one_run_out(["1", "1"])
