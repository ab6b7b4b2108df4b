"""A convolutional encoder of MEG or EEG, trained to tell which stretch of text was heard: sensors to text features.

After Défossez et al. 2023 (Nature Machine Intelligence 5:1097): a mixture of the sensors by 1 x 1 convolution, then
convolutions in time, trained by the contrastive loss of windows (CLIP; `decoders.decoding.bottleneck.info_nce`).
Smaller than theirs, and its candidates are features of the words, not of the sound. It reads a run of any length, and
sees of the sensors no more than the answer to a moment: from the moment to `response` samples after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import gelu

from decoders.config import MegDecodingSettings
from decoders.decoding.bottleneck import info_nce
from decoders.decoding.meg_runs import Stretch
from decoders.decoding.splits_meg import SETTING
from decoders.errors import InputError
from decoders.models.trainer import one_cycle

BATCH = 64
DILATIONS = (1, 2, 4, 8)
_DROPOUT, _DECAY, _CLIP = 0.2, 0.01, 1.0


class WindowEncoder(nn.Module):
    """Sensors to text features.

    Parameters
    ----------
    n_sensors, n_features, width : int
    factor : int
        Samples of the sensors per sample of the features.
    response : int
        Samples of the features after a moment that are read for it.

    Attributes
    ----------
    log_scale : Parameter of shape (n_features,)
        Of the features on both sides: those that sensors say nothing of must not outweigh the others.
    """

    def __init__(self, n_sensors: int, n_features: int, width: int, factor: int, response: int) -> None:
        super().__init__()
        self.spatial = nn.Conv1d(n_sensors, width, 1)
        self.patches = nn.Conv1d(width, width, factor, stride=factor)
        self.linear = nn.Conv1d(width, n_features, response + 1)
        self.blocks, rest = nn.ModuleList(), response
        for dilation in DILATIONS:
            if 2 * dilation <= rest:
                self.blocks.append(nn.Conv1d(width, width, 3, dilation=dilation))
                rest -= 2 * dilation
        self.head = nn.Conv1d(width, n_features, rest + 1)
        self.dropout = nn.Dropout(_DROPOUT)
        self.log_scale = nn.Parameter(torch.zeros(n_features))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_sensors, n_samples * factor) to (n, n_samples - response, n_features)."""
        mixed = self.dropout(self.patches(self.spatial(x)))
        hidden = mixed
        for block in self.blocks:
            crop = block.dilation[0]  # type: ignore[index]
            hidden = hidden[..., crop:-crop] + gelu(block(hidden))
        found: Tensor = self.linear(mixed) + self.head(self.dropout(hidden))
        return found.transpose(1, 2)


@dataclass(frozen=True)
class Encoder:
    """A trained encoder.

    Attributes
    ----------
    network : WindowEncoder
    sensors : array of int
        Those that it reads.
    scale : array of shape (n_features,)
    curve : array of shape (n_epochs,)
        Mean contrastive loss in nats.
    """

    network: WindowEncoder
    sensors: NDArray[np.int64]
    scale: NDArray[np.float32]
    curve: NDArray[np.float64]

    def predict(self, runs: Sequence[Stretch]) -> list[NDArray[np.float32]]:
        """Return the scaled features of each run, shape (n_samples - response, n_features)."""
        with torch.no_grad():
            found = [self.network(_series(run, self.sensors)[None])[0].numpy() for run in runs]
        return [run * self.scale for run in found]


def train_encoder(
    train: Sequence[Stretch], sensors: NDArray[np.int64], settings: MegDecodingSettings, seed: int
) -> Encoder:
    """Train an encoder on windows of runs, cut anew in every epoch.

    Parameters
    ----------
    train : sequence of Stretch
        With their text.
    sensors : array of int
        At least one.
    settings : MegDecodingSettings
    seed : int
        Of weights, dropout, offsets and order; equal seeds give equal bits.

    Raises
    ------
    InputError
        A loss that is not finite.
    """
    response, length = round(settings.response_s * settings.text_hz), round(settings.window_s * settings.text_hz)
    n_features = train[0].text.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = WindowEncoder(len(sensors), n_features, settings.encoder_width, train[0].factor, response)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, weight_decay=_DECAY)
        series, texts = [_series(run, sensors) for run in train], [torch.from_numpy(run.text) for run in train]
        network.train()
        curve = []
        for epoch in range(settings.encoder_epochs):
            cuts = _cuts([len(text) for text in texts], length, response)
            steps = cuts.split(BATCH)
            losses = []
            for step, rows in enumerate(part for part in steps if len(part) > 1):
                rate, _ = one_cycle(
                    epoch * len(steps) + step, settings.encoder_epochs * len(steps), settings.encoder_lr
                )
                losses.append(_update(network, optimizer, rate, series, texts, rows, length, response))
            curve.append(float(np.mean(losses)))
    scale = network.log_scale.detach().exp().numpy()
    return Encoder(network.eval(), sensors, scale, np.array(curve))


def _cuts(lengths: Sequence[int], length: int, response: int) -> Tensor:
    """Return (run, first sample) of windows without overlap, from a random offset on, in random order."""
    found = []
    for run, n in enumerate(lengths):
        offset = int(torch.randint(length, (1,)))
        starts = torch.arange(offset, n - response - length + 1, length)
        found.append(torch.stack([torch.full_like(starts, run), starts], 1))
    cuts = torch.cat(found)
    return cuts[torch.randperm(len(cuts))]


def _update(
    network: WindowEncoder, optimizer: torch.optim.Optimizer, rate: float, series: Sequence[Tensor],
    texts: Sequence[Tensor], rows: Tensor, length: int, response: int,
) -> float:  # fmt: skip
    factor = network.patches.stride[0]
    places = [(int(run), int(first)) for run, first in rows]
    x = torch.stack([series[run][:, first * factor : (first + length + response) * factor] for run, first in places])
    y = torch.stack([texts[run][first : first + length] for run, first in places])
    scale = network.log_scale.exp()
    loss = info_nce(network(x) * scale, y * scale)
    if not torch.isfinite(loss):
        remedy = "Look for recordings with values that are not finite, or lower the learning rate."
        raise InputError("a finite loss of the encoder", f"{loss.item():g}", f"{SETTING}.encoder_lr", remedy)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
    optimizer.step()
    return float(loss.detach())


def _series(run: Stretch, sensors: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(run.fast[:, sensors].T))
