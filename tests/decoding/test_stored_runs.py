"""Runs on disk: the same bits as in memory, and never more of them in memory than one batch."""

import numpy as np
import pytest

from decoders.decoding import maps
from decoders.decoding.bottleneck import Answers, largest_batch, train_gate
from decoders.decoding.common_grid import on_common_grid
from decoders.decoding.rate import halves_agreement
from decoders.decoding.refit import decode_runs
from decoders.decoding.stored_runs import StoredRuns, lengths_of, n_voxels_of, some_runs, voxel_blocks
from decoders.errors import IntegrityError
from decoders.models import ridge
from decoders.models.ridge import fit_ridge, fit_ridge_by_run
from decoders.store.recording import Recording, read_recording, read_recording_header, write_recording
from tests.decoding.test_bottleneck import MASK, SETTINGS, brain

ALPHAS = (1.0, 1e2, 1e3, 1e4)
SHORT = SETTINGS.model_copy(update={"epochs": 2, "folds": 2, "n_null_gates": 1})
LARGER = np.pad(MASK, 1, constant_values=True)  # files hold voxels that other runs lack


def written(folder, x, lost=3):
    """Write runs with further voxels, which one run lacks; return the headers and what lies on the common voxels."""
    rng = np.random.default_rng(9)
    common, headers = LARGER.copy(), []
    common[0, 0, :lost] = False
    inside = np.zeros(LARGER.shape, bool)
    inside[1:-1, 1:-1, 1:-1] = True
    for number, run in enumerate(x):
        mask = common if number == 1 else LARGER
        data = rng.normal(size=(len(run), int(mask.sum()))).astype(np.float32)
        data[:, inside[mask]] = run
        time = 2.0 * np.arange(len(run))
        recording = Recording(data, "volume", "01", run=f"{number}", time=time, tr=2.0, mask=mask, affine=np.eye(4))
        write_recording(folder / f"{number}.h5", recording)
        headers.append(read_recording_header(folder / f"{number}.h5"))
    stored = on_common_grid(headers, common)
    in_memory = on_common_grid([read_recording(header.path) for header in headers], common)
    return stored, in_memory, common


@pytest.fixture
def runs(tmp_path):
    x, targets = brain(n_runs=8, n=60)
    return *written(tmp_path, x), targets


def test_runs_on_disk_are_those_in_memory(runs):
    stored, in_memory, mask, _ = runs
    assert isinstance(stored, StoredRuns)
    assert (lengths_of(stored), n_voxels_of(stored)) == (lengths_of(in_memory), int(mask.sum()))
    for one, other in zip(stored, in_memory, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(some_runs(stored, [5, 1]), some_runs(in_memory, [5, 1]), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(stored[-1], in_memory[-1])
    np.testing.assert_array_equal(stored[2:4][1], in_memory[3])


def test_blocks_of_voxels_cover_all_of_them_within_their_bytes(runs):
    stored, in_memory, mask, _ = runs
    n_volumes = sum(lengths_of(stored))
    found = [np.zeros((n, 0), np.float32) for n in lengths_of(stored)]
    for (where, block), (_, same) in zip(
        voxel_blocks(stored, 4 * n_volumes * 50), voxel_blocks(in_memory, 4 * n_volumes * 50), strict=True
    ):
        assert block[0].shape[1] == len(range(*where.indices(int(mask.sum())))) <= 50
        assert all(np.array_equal(one, other) for one, other in zip(block, same, strict=True))
        found = [np.concatenate([run, part], axis=1) for run, part in zip(found, block, strict=True)]
    assert all(np.array_equal(one, other) for one, other in zip(found, in_memory, strict=True))


def test_training_and_maps_have_the_same_bits(runs, monkeypatch):
    stored, in_memory, mask, targets = runs
    for module in ("stored_runs", "refit"):
        monkeypatch.setattr(f"decoders.decoding.{module}.BLOCK_BYTES", 1 << 16)
    for settings in (SHORT, SHORT.model_copy(update={"head": "patchify"}), SHORT.model_copy(update={"gate": "volume"})):
        fits = [train_gate(x, targets, mask, settings, 2.0, seed=0) for x in (stored, in_memory)]
        np.testing.assert_array_equal(fits[0].logits, fits[1].logits)
        np.testing.assert_array_equal(fits[0].curve, fits[1].curve)
    r = [maps.encoding_map(x, targets, [1, 5], 2, 0) for x in (stored, in_memory)]
    np.testing.assert_array_equal(*r)
    for voxels in (np.arange(5), np.arange(int(mask.sum()))):
        answers = [decode_runs(x[:6], targets[:6], x[6:], voxels, (1, 2), 2) for x in (stored, in_memory)]
        np.testing.assert_array_equal(*(np.concatenate(parts) for parts in answers))
    tables = [halves_agreement(x, targets, mask, SHORT, 2.0, 0, np.random.default_rng(0)) for x in (stored, in_memory)]
    assert tables[0].equals(tables[1])


def test_many_runs_are_never_in_memory_at_once(tmp_path, monkeypatch):
    x, targets = brain(n_runs=24, n=60)
    stored, _, mask = written(tmp_path, x)
    held = []
    read = StoredRuns.__getitem__

    def spy(self, index):
        run = read(self, index)
        held.append(len(self._kept))
        return run

    monkeypatch.setattr(StoredRuns, "__getitem__", spy)
    train_gate(stored, targets, mask, SHORT, 2.0, seed=0)
    assert largest_batch(24, 2) == 4
    assert max(held) == 4
    # A mutation: a trainer that keeps what it has read holds all runs, and the same check sees it.
    monkeypatch.setattr("decoders.decoding.bottleneck.largest_batch", lambda n_runs, folds: n_runs)
    train_gate(stored, targets, mask, SHORT, 2.0, seed=0)
    assert max(held) == 24


@pytest.mark.parametrize(("n_runs", "folds"), [(4, 2), (9, 2), (13, 4), (52, 4), (5, 3), (11, 4)])
def test_the_largest_batch_is_that_of_the_trainer(n_runs, folds):
    from decoders.decoding.bottleneck import _Trainer

    x, targets = brain(n_runs=n_runs, n=25)
    trainer = _Trainer(
        x,
        targets,
        MASK,
        SHORT.model_copy(update={"folds": folds}),
        Answers((1, 2), "decoding.voxels"),
        5,
        0,
        True,
        10.0,
    )
    batches = trainer._batches()
    assert max(sum(map(len, batch)) for batch in batches) == largest_batch(n_runs, folds)
    assert sorted(run for batch in batches for runs in batch for run in runs) == list(range(n_runs))


def test_a_broken_run_is_found_when_it_is_read(runs, tmp_path):
    stored, *_ = runs
    data = (tmp_path / "3.h5").read_bytes()
    (tmp_path / "3.h5").write_bytes(data[: len(data) // 2] + bytes(64) + data[len(data) // 2 + 64 :])
    with pytest.raises(IntegrityError, match="run again"):
        _ = stored[3]


def test_the_kernel_of_blocks_gives_the_same_decoder(monkeypatch):
    x, targets = brain(n_runs=4, n=40)
    lags, voxels = (1, 2, 3), np.arange(120)
    length = 40 - max(lags)
    X = [np.concatenate([run[lag : lag + length, :120] for lag in lags], 1) for run in x]
    rows = np.repeat(np.arange(3) % 2, length)
    folds = [(np.flatnonzero(rows != k), np.flatnonzero(rows == k)) for k in (0, 1)]
    Y = np.concatenate([run[:length] for run in targets[:3]])
    whole = fit_ridge(np.concatenate(X[:3]), Y, (1e2, 1e3, 1e4, 1e5, 1e6, 1e7), folds).predict(X[3])
    monkeypatch.setattr("decoders.decoding.refit.BLOCK_BYTES", 1 << 14)
    found = decode_runs(x[:3], targets[:3], x[3:], voxels, lags, 2)
    np.testing.assert_allclose(found[0], whole, atol=1e-4)
    # A mutation: with half of the voxels the decoder is another one.
    assert np.abs(decode_runs(x[:3], targets[:3], x[3:], voxels[:60], lags, 2)[0] - whole).max() > 1e-2


# ---- ridge, run by run ----------------------------------------------------------------------------------------------


def joined_and_by_run(length=90, n_voxels=20, n_runs=5):
    """Answers of runs of unequal length, more of them than voxels; the decoder of the joined runs, and its rows."""
    rng = np.random.default_rng(3)
    X = [rng.normal(2.0, 3.0, (length + 7 * run, n_voxels)).astype(np.float32) for run in range(n_runs)]
    for run in X:
        run[:, 4] = 5.0  # constant: without weight
    weights = rng.normal(size=(n_voxels, 6))
    noise = np.linspace(1, 60, 6)  # some targets want other penalties than others
    Y = [(run @ weights + noise * rng.normal(size=(len(run), 6)) + 4).astype(np.float32) for run in X]
    fold = np.arange(n_runs) % 2
    folds = maps.run_folds([len(run) for run in X], fold)
    return X, Y, fold, fit_ridge(np.concatenate(X), np.concatenate(Y), ALPHAS, folds)


def test_ridge_by_run_is_that_of_the_joined_runs():
    X, Y, fold, whole = joined_and_by_run()
    found = fit_ridge_by_run(X, Y, ALPHAS, fold)
    assert len(set(found.alphas)) > 1
    np.testing.assert_array_equal(found.alphas, whole.alphas)
    for name in ("mean", "scale", "intercept", "weights"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(found.predict(X[0]), whole.predict(X[0]), atol=1e-3)


@pytest.mark.parametrize("bug", ["scaled by the first run", "a fold validates on itself", "the last run is lost"])
def test_a_named_bug_of_ridge_by_run_is_noticed(bug, monkeypatch):
    X, Y, fold, whole = joined_and_by_run()
    if bug == "scaled by the first run":
        original = ridge._standard_by_run
        monkeypatch.setattr(ridge, "_standard_by_run", lambda X: original(X[:1]))
    elif bug == "a fold validates on itself":
        every = np.arange(len(X))
        monkeypatch.setattr(ridge, "_folds_of_runs", lambda fold: [(every, every)])
    else:
        original = ridge._decomposed_parts
        monkeypatch.setattr(ridge, "_decomposed_parts", lambda parts: original(list(parts)[:-1]))
    found = fit_ridge_by_run(X, Y, ALPHAS, fold)
    off = np.abs(found.predict(X[0]) - whole.predict(X[0])).max()
    assert off > 1e-2 or not np.array_equal(found.alphas, whole.alphas)


def test_ridge_by_run_never_joins_the_runs(tmp_path, monkeypatch):
    x, targets = brain(n_runs=9, n=60)
    stored, in_memory, _ = written(tmp_path, x)
    rows = []
    original = ridge._add_products
    monkeypatch.setattr(ridge, "_add_products", lambda gram, Z: rows.append(len(Z)) or original(gram, Z))
    voxels, lags = np.arange(5), (1, 2)
    found = decode_runs(stored[:8], targets[:8], stored[8:], voxels, lags, 4)
    assert max(rows) == 58  # one run: 60 volumes less the longest lag
    same = decode_runs(in_memory[:8], targets[:8], in_memory[8:], voxels, lags, 4)
    np.testing.assert_array_equal(found[0], same[0])
