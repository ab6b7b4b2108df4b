"""The voxel information bottleneck, cross-fitted over runs: which voxels respond to the text.

Loss = InfoNCE of windows + beta * mean KL per voxel (decoding.md, section 2; `kl_weight` for many voxels). The gate
takes its gradient only from runs that the read-out of that fold has not seen: on seen runs the read-out fits the noise
of any voxel, and a jointly trained gate opens where overfitting is easiest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from decoders.config import VoxelMapSettings
from decoders.decoding.frontend import FrontEnd
from decoders.decoding.gate import GatedReadout, VoxelGate, capacity_nats, parameter_groups
from decoders.decoding.stored_runs import StoredRuns, lengths_of
from decoders.decoding.volume_gate import VolumeGate
from decoders.errors import InputError

TEMPERATURE = 0.1
BATCH_RUNS = 2  # runs per fold and step
VOXELS_OF_BETA = 2000
LAG_SECONDS = (2.0, 4.0, 6.0, 8.0)
Gate = VoxelGate | VolumeGate


@dataclass(frozen=True)
class GateFit:
    """A trained gate.

    Attributes
    ----------
    logits : array of shape (n_voxels,)
        Smoothed logits: the gate map.
    m : array of shape (n_voxels,)
        Openness in 0..1 (of a gate per volume: at the mean logit); it has no absolute meaning, only beside null gates.
    kl : array of shape (n_voxels,)
        Upper bound of the information passed, nats per voxel and volume.
    capacity : array of shape (n_voxels,)
        Exact Gaussian capacity, nats per voxel and volume.
    curve : array of shape (n_epochs, 3)
        Held-out loss, training loss (nats, InfoNCE), mean KL.
    """

    logits: NDArray[np.float32]
    m: NDArray[np.float32]
    kl: NDArray[np.float32]
    capacity: NDArray[np.float32]
    curve: NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """When the brain answers, where samples are no volumes of fMRI.

    Attributes
    ----------
    lags : tuple of int
        Samples after the text that answer to it.
    setting : str
        Block of the study that errors name.
    """

    lags: tuple[int, ...]
    setting: str


@dataclass(frozen=True)
class GatePrior:
    """What other people's gates say about a new person.

    Attributes
    ----------
    logits : array of shape (n_voxels,)
        The gate starts here, and is pulled back here.
    weight : float
        Of the mean squared difference of the logits in the loss (nats).
    """

    logits: NDArray[np.floating]
    weight: float


class TextPredictor(nn.Module):
    """Gated volumes to target features: a read-out per volume, then a temporal convolution over the lags.

    Parameters
    ----------
    mask : array of shape (x, y, z), bool, or int
        Voxels on the grid, or the number of features.
    hidden, n_targets, n_lags : int
    head : {"linear", "patchify", "k7"}
        The linear read-out draws its noise by the local reparametrisation, the others per voxel.
    generator : torch.Generator
        Draws the initial weights of the linear read-out and of the convolution.
    """

    def __init__(
        self,
        mask: NDArray[np.bool_] | int,
        hidden: int,
        n_targets: int,
        n_lags: int,
        head: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        n_voxels = int(mask) if isinstance(mask, int | np.integer) else int(np.sum(mask))
        self.linear = GatedReadout(n_voxels, hidden, generator) if head == "linear" else None
        self.front = None if head == "linear" else FrontEnd(mask, hidden, head)  # type: ignore[arg-type]
        start = torch.randn(n_lags * hidden, n_targets, generator=generator) / (n_lags * hidden) ** 0.5
        self.convolution = nn.Parameter(start)

    def forward(self, x: Sequence[Tensor], gate: Gate, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        """Predict windows of target features.

        Parameters
        ----------
        x : sequence of Tensor of shape (n_volumes, n_voxels)
            One per run.
        gate : VoxelGate or VolumeGate
        rows : Tensor of shape (n_windows, length, n_lags)
            Row of the joined runs for each moment of each window at each lag.
        generator : torch.Generator, optional
            Source of the noise; without it the expectation is returned.

        Returns
        -------
        Tensor of shape (n_windows, length, n_targets)
        """
        brain = self._read(x, gate, generator)
        return brain[rows].flatten(2) @ self.convolution

    def _read(self, runs: Sequence[Tensor], gate: Gate, generator: torch.Generator | None) -> Tensor:
        if self.linear is not None and isinstance(gate, VoxelGate):
            return self.linear(runs, gate, generator)
        x = torch.cat(list(runs))
        passed = gate.mean(x) if generator is None else gate.sample(x, generator)
        if self.linear is not None:
            return passed @ self.linear.weight
        assert self.front is not None
        return self.front(passed)


def lags_in_volumes(tr: float) -> tuple[int, ...]:
    """Return the lags at which a volume answers to text: 2 to 8 s, rounded up to volumes.

    TR 2 gives 1, 2, 3, 4; 1.5 gives 2, 3, 4, 6; .71 gives 3, 6, 9, 12.
    """
    return tuple(int(np.ceil(seconds / tr - 1e-9)) for seconds in LAG_SECONDS)


def train_gate(
    x: Sequence[NDArray[np.float32]],
    targets: Sequence[NDArray[np.floating]],
    mask: NDArray[np.bool_] | int | VoxelGate,
    settings: VoxelMapSettings,
    tr: float,
    seed: int,
    cross_fit: bool = True,
    beta: float | None = None,
    prior: GatePrior | None = None,
    answers: Answers | None = None,
) -> GateFit:
    """Train the gate by cross-fitting over runs.

    Parameters
    ----------
    x : sequence of array of shape (n_volumes, n_voxels)
        One per run, z-scored per run. Of `StoredRuns` only those of one step are in memory.
    targets : sequence of array of shape (n_volumes, n_targets)
        Features of the text at the volumes' own times, z-scored over runs.
    mask : array of shape (x, y, z), bool, or int, or VoxelGate
        The voxels on the grid; their number where there is no grid (then the gate is not smoothed); or a gate of
        one's own, which is trained where it lies.
    settings : VoxelMapSettings
    tr : float
        Seconds per volume.
    seed : int
        Of weights, noise, order of runs and offsets of windows.
    cross_fit : bool
        False trains gate and read-out on the same runs, to show what cross-fitting is for.
    beta : float, optional
        In place of that of the settings.
    prior : GatePrior, optional
        Of gates per voxel.
    answers : Answers, optional
        In place of the lags of fMRI.

    Returns
    -------
    GateFit

    Raises
    ------
    InputError
        Fewer runs than folds, runs too short for two windows, or a loss that is not finite.
    """
    window = max(1, round(settings.window_s / tr))
    answers = answers or Answers(lags_in_volumes(tr), "decoding.voxels")
    _check(lengths_of(x), settings.folds, window, answers)
    if isinstance(x, StoredRuns):
        x = x.part(range(len(x)), largest_batch(len(x), settings.folds))
    beta = settings.beta if beta is None else beta
    trainer = _Trainer(x, targets, mask, settings, answers, window, seed, cross_fit, beta, prior)
    curve = [trainer.epoch() for _ in range(settings.epochs)]
    with torch.no_grad():
        logits, kl = trainer.gate.maps(trainer.x)
        values = [logits, torch.sigmoid(logits), kl, capacity_nats(logits)]
    logits_, m, kl_, capacity = (value.detach().numpy().astype(np.float32) for value in values)
    return GateFit(logits_, m, kl_, capacity, np.array(curve))


def kl_weight(beta: float, n_voxels: int) -> float:
    """Return the weight of the mean KL per voxel: beta up to 2,000 voxels, growing with their number beyond.

    More voxels repeat the same text, so that the task needs less of each: with the weight of 2,000 voxels a gate over
    17,320 overfits (AUC .983 and AP .82 instead of .991 and .87 on phantom seed 100, where the smoothed encoding map
    has .991 and .88). The growth makes the price of a nat that any voxel passes the same on all grids.
    """
    return beta * max(1.0, n_voxels / VOXELS_OF_BETA)


def null_pairing(lengths: Sequence[int], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw which run's text, rolled by how much, stands in for the text of each run.

    The text keeps its statistics and its autocorrelation; only the pairing with the brain is lost. Runs are
    permuted among runs of the same length, and none keeps its place where that can be; the roll is between
    a quarter and three quarters of the run.

    Returns
    -------
    list of (run, shift)
    """
    order = np.arange(len(lengths))
    for length in sorted(set(lengths)):
        # A random cyclic order is a permutation without fixed points.
        cycle = rng.permutation(np.flatnonzero(np.asarray(lengths) == length))
        order[cycle] = np.roll(cycle, 1)
    return [(int(source), int(rng.integers(n // 4, 3 * n // 4 + 1))) for source, n in zip(order, lengths, strict=True)]


def paired(runs: Sequence[NDArray[np.floating]], pairing: Sequence[tuple[int, int]]) -> list[NDArray[np.floating]]:
    """Return the runs of a null pairing (`null_pairing`)."""
    return [np.roll(runs[source], shift, axis=0) for source, shift in pairing]


def info_nce(predicted: Tensor, target: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the symmetric InfoNCE loss of windows in nats (van den Oord et al. 2018, arXiv:1807.03748).

    Parameters
    ----------
    predicted, target : Tensor of shape (n_windows, ...)
        Compared by cosine; the other windows are the negatives. Chance is log(n_windows).
    """
    similarity = normalize(predicted.flatten(1), dim=1) @ normalize(target.flatten(1), dim=1).T / temperature
    truth = torch.arange(len(similarity), device=similarity.device)
    return (cross_entropy(similarity, truth) + cross_entropy(similarity.T, truth)) / 2


class _Trainer:
    """The state of one training: gate, one predictor per fold, optimisers, random generators."""

    def __init__(
        self, x: Sequence[NDArray[np.float32]], targets: Sequence[NDArray[np.floating]],
        mask: NDArray[np.bool_] | int | VoxelGate,
        settings: VoxelMapSettings, answers: Answers, window: int, seed: int, cross_fit: bool,
        beta: float,
        prior: GatePrior | None = None,
    ) -> None:  # fmt: skip
        self.x, self.lengths = _Tensors(x), lengths_of(x)
        self.y = [torch.from_numpy(np.ascontiguousarray(run, dtype=np.float32)) for run in targets]
        self.lags, self.setting, self.window, self.cross_fit = answers.lags, answers.setting, window, cross_fit
        self.generator = torch.Generator().manual_seed(seed)
        self.gate = self._make_gate(mask, settings, seed)
        self.kl_weight = kl_weight(beta, self.gate.theta.numel())
        self._start_from(prior)
        # Interleaved folds: slow changes over the session fall on both sides.
        self.fold = np.arange(len(x)) % settings.folds
        n_targets = self.y[0].shape[1]
        grid = self.gate.theta.numel() if isinstance(mask, VoxelGate) else mask
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # layers of the convolutional heads draw from the global generator
            self.predictors = nn.ModuleList(
                TextPredictor(grid, settings.hidden, n_targets, len(self.lags), settings.head, self.generator)
                for _ in range(settings.folds)
            )
        self.weights = list(self.predictors.parameters())
        self.gate_weights = list(self.gate.parameters())
        # Logits of voxels do not move at the rate of weights; weights of a CNN break at that of logits.
        layers = [weight for weight in self.gate_weights if weight is not self.gate.theta]
        groups = parameter_groups([self.gate.theta], layers, settings.gate_lr, settings.readout_lr)
        self.gate_optimizer = torch.optim.Adam(groups)
        self.optimizer = torch.optim.Adam(self.weights, lr=settings.readout_lr)

    @staticmethod
    def _make_gate(mask: NDArray[np.bool_] | int | VoxelGate, settings: VoxelMapSettings, seed: int) -> Gate:
        if isinstance(mask, VoxelGate):
            return mask
        if isinstance(mask, int | np.integer):
            if settings.gate == "volume":
                raise InputError(
                    "voxels on a grid", "features without a grid", "decoding.voxels.gate", "Choose the gate 'voxel'."
                )
            return VoxelGate(mask, 0.0)
        if settings.gate == "voxel":
            return VoxelGate(mask, settings.sigma_voxels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return VolumeGate(mask, settings.sigma_voxels)

    def _start_from(self, prior: GatePrior | None) -> None:
        self.prior = None if prior is None else torch.from_numpy(np.asarray(prior.logits, dtype=np.float32))
        self.pull = 0.0 if prior is None else prior.weight
        if self.prior is None:
            return
        if not isinstance(self.gate, VoxelGate):
            expected = "a gate per voxel, where a prior is given"
            raise InputError(expected, "a gate per volume", "decoding.voxels.gate", "Choose the gate 'voxel'.")
        with torch.no_grad():
            self.gate.theta.copy_(self.prior)

    def _strain(self) -> Tensor:
        """Return what it costs the gate to leave the prior."""
        if self.prior is None or not isinstance(self.gate, VoxelGate):
            return torch.zeros(())
        return self.pull * (self.gate.logits() - self.prior).square().mean()

    def epoch(self) -> tuple[float, float, float]:
        """Pass over all runs once; return mean held-out loss, training loss and KL."""
        steps = [self._step(batch) for batch in self._batches()]
        held, seen, kl = np.mean(steps, axis=0)
        return float(held), float(seen), float(kl)

    def _batches(self) -> list[list[list[int]]]:
        """Return steps; each holds the runs of every fold."""
        folds = [np.flatnonzero(self.fold == k) for k in range(len(self.predictors))]
        orders = [runs[torch.randperm(len(runs), generator=self.generator).numpy()] for runs in folds]
        n_steps = _n_steps([len(runs) for runs in folds])
        return [[order[step::n_steps].tolist() for order in orders] for step in range(n_steps)]

    def _step(self, batch: list[list[int]]) -> tuple[float, float, float]:
        offset = int(torch.randint(self.window, (1,), generator=self.generator))
        held, seen = torch.zeros(()), torch.zeros(())
        for k, predictor in enumerate(self.predictors):
            others = [run for j, runs in enumerate(batch) if j != k for run in runs]
            held = held + self._loss(predictor, batch[k] if self.cross_fit else others, offset)
            seen = seen + self._loss(predictor, others, offset)
        kl = self.gate.cost(self.x.part([run for runs in batch for run in runs]))
        if not torch.isfinite(held + seen + kl):
            raise InputError(
                "a finite loss of the gate", f"{held.item():g} on held-out and {seen.item():g} on training runs",
                self.setting, "Look for recordings with values that are not finite, or lower the learning rates.",
            )  # fmt: skip
        # Two gradients of two losses: the gate from held-out runs, the read-outs from their training runs.
        strained = held + self.kl_weight * kl + self._strain()
        for weights, loss in ((self.gate_weights, strained), (self.weights, seen)):
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.grad = gradient
        self.gate_optimizer.step()
        self.optimizer.step()
        n = len(self.predictors)
        return held.item() / n, seen.item() / n, kl.item()

    def _loss(self, predictor: nn.Module, runs: Sequence[int], offset: int) -> Tensor:
        lengths = [self.lengths[run] for run in runs]
        starts = _window_starts(lengths, self.window, offset, max(self.lags))
        moments = starts[:, None] + torch.arange(self.window)
        rows = moments[:, :, None] + torch.tensor(self.lags)
        predicted = predictor(self.x.part(runs), self.gate, rows, self.generator)
        return info_nce(predicted, torch.cat([self.y[run] for run in runs])[moments])


class _Tensors(Sequence[Tensor]):
    """Runs as tensors, each read when it is asked for."""

    def __init__(self, runs: Sequence[NDArray[np.float32]], indices: Sequence[int] | None = None) -> None:
        self.runs, self.indices = runs, list(range(len(runs)) if indices is None else indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        return torch.from_numpy(np.ascontiguousarray(self.runs[self.indices[index]], dtype=np.float32))

    def part(self, indices: Sequence[int]) -> _Tensors:
        """Return some of the runs; none of them is read."""
        return _Tensors(self.runs, [self.indices[i] for i in indices])


def largest_batch(n_runs: int, folds: int) -> int:
    """Return the number of runs that one step of training reads at most."""
    sizes = [len(range(k, n_runs, folds)) for k in range(folds)]
    n_steps = _n_steps(sizes)
    return sum(len(range(0, size, n_steps)) for size in sizes)


def _n_steps(sizes: Sequence[int]) -> int:
    """Return the steps per epoch, from the number of runs per fold."""
    return max(1, min(sizes) // BATCH_RUNS)


def _window_starts(lengths: Sequence[int], window: int, offset: int, longest_lag: int) -> Tensor:
    """Return the first rows of windows without overlap in joined runs; windows and their lags stay in a run."""
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    starts = [
        start + np.arange(offset, length - longest_lag - window + 1, window)
        for start, length in zip(first, lengths, strict=True)
    ]
    return torch.from_numpy(np.concatenate(starts))


def _check(lengths: Sequence[int], folds: int, window: int, answers: Answers) -> None:
    longest_lag = max(answers.lags)
    if len(lengths) < folds:
        raise InputError(
            f"at least {folds} training runs, one per fold", f"{len(lengths)}", f"{answers.setting}.folds",
            "The gate is cross-fitted over runs: add runs, or lower 'folds' or 'test_runs'.",
        )  # fmt: skip
    shortest = min(lengths)
    if shortest < 3 * window + longest_lag:
        raise InputError(
            f"runs of at least {3 * window + longest_lag} volumes", f"{shortest}", f"{answers.setting}.window_s",
            "Shorten the window, or leave that run out.",
        )  # fmt: skip
