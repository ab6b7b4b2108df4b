"""The character speller: voxel gate, front end, and a character decoder conditioned on the brain vector.

For a closed vocabulary the decoder's choices are masked by a trie, so that the probabilities of
all names sum to one and every text it writes is a name.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decoders.decoding.frontend import FrontEnd, Head
from decoders.decoding.gate import VoxelGate
from decoders.decoding.trie import END, Trie


class CharacterDecoder(nn.Module):
    """A GRU over characters; the brain vector sets its first state and stands beside every input.

    Parameters
    ----------
    n_symbols : int
        Characters and the end symbol.
    n_brain, n_hidden, n_embedding : int
        Lengths of the brain vector, the state, and the character embedding.
    """

    def __init__(self, n_symbols: int, n_brain: int, n_hidden: int = 64, n_embedding: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_symbols, n_embedding)
        self.start = nn.Linear(n_brain, n_hidden)
        self.cell = nn.GRU(n_embedding + n_brain, n_hidden, batch_first=True)
        self.readout = nn.Linear(n_hidden + n_brain, n_symbols)

    def forward(self, brain: Tensor, previous: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits of the next symbol, and the state.

        Parameters
        ----------
        brain : Tensor of shape (batch, n_brain)
        previous : Tensor of shape (batch, length), int64
            Symbols so far; the first one is the end symbol.
        state : Tensor of shape (1, batch, n_hidden), optional
            State before `previous`; from the brain vector when absent.

        Returns
        -------
        logits : Tensor of shape (batch, length, n_symbols)
        state : Tensor of shape (1, batch, n_hidden)
        """
        if state is None:
            state = torch.tanh(self.start(brain)).unsqueeze(0)
        beside = brain.unsqueeze(1).expand(-1, previous.shape[1], -1)
        output, state = self.cell(torch.cat([self.embedding(previous), beside], dim=2), state)
        return self.readout(torch.cat([output, beside], dim=2)), state


class Speller(nn.Module):
    """Volumes to the characters of a name.

    Parameters
    ----------
    mask : array of shape (x, y, z), bool, or int
        Voxels on the grid; or the number of features where there is no grid.
    trie : Trie
    head : {"linear", "patchify", "k7"}
    sigma_voxels : float
        Smoothing of the gate's logits; 0 without a grid.
    n_brain : int
        Length of the brain vector.
    dropout : float
        Share of the brain vector's entries that is dropped in training.
    """

    def __init__(
        self,
        mask: NDArray[np.bool_] | int,
        trie: Trie,
        head: Head = "patchify",
        sigma_voxels: float = 1.0,
        n_brain: int = 64,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.gate = VoxelGate(mask, sigma_voxels)
        self.front = FrontEnd(mask, n_brain, head)
        self.drop = nn.Dropout(dropout)
        self.decoder = CharacterDecoder(trie.n_symbols, n_brain)
        self.trie = trie
        self.register_buffer("targets", torch.from_numpy(trie.targets), persistent=False)
        self.register_buffer("allowed", torch.from_numpy(trie.allowed()), persistent=False)
        self.register_buffer("next_node", torch.from_numpy(trie.next_node), persistent=False)

    def brain(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return brain vectors (batch, n_brain) of volumes (batch, V); noisy with a generator, else expected."""
        z = self.gate.mean(x) if generator is None else self.gate.sample(x, generator)
        vector: Tensor = self.drop(torch.nn.functional.gelu(self.front(z)))
        return vector

    def log_probabilities(self, brain: Tensor, names: Tensor) -> Tensor:
        """Return log P(name | brain) of one name per brain vector, of shape (batch,).

        The sum over the name's characters and its end of the log-probabilities within the trie.
        """
        targets, allowed = self.targets[names], self.allowed[names]  # type: ignore[index]
        previous = torch.cat([torch.full_like(targets[:, :1], END), targets[:, :-1].clamp(min=0)], dim=1)
        logits, _ = self.decoder(brain, previous)
        steps = torch.log_softmax(logits.masked_fill(~allowed, -torch.inf), dim=2)
        chosen = steps.gather(2, targets.clamp(min=0).unsqueeze(2)).squeeze(2)
        return chosen.masked_fill(targets < 0, 0.0).sum(1)

    def score_names(self, brain: Tensor) -> Tensor:
        """Return log P(name | brain) of every name, of shape (batch, n_names); rows sum to one in P."""
        n_names = len(self.trie.names)
        every = torch.arange(n_names).repeat(len(brain))
        return self.log_probabilities(brain.repeat_interleave(n_names, dim=0), every).reshape(-1, n_names)

    @torch.no_grad()
    def spell(self, brain: Tensor, groups: NDArray[np.int64] | None = None) -> list[str]:
        """Write one text per group of volumes, character by character, the likeliest within the trie.

        Parameters
        ----------
        brain : Tensor of shape (n, n_brain)
        groups : array of int of shape (n,), optional
            Volumes that spell one text together: their log-probabilities are added at every character.
            Texts come in ascending order of group. Each volume on its own when absent.
        """
        members = np.arange(len(brain)) if groups is None else groups
        number = torch.from_numpy(np.unique(members, return_inverse=True)[1])
        node = torch.zeros(int(number.max()) + 1, dtype=torch.int64)
        written, symbol, state = [], torch.zeros(len(brain), 1, dtype=torch.int64), None
        for _ in range(self.trie.targets.shape[1]):
            logits, state = self.decoder(brain, symbol, state)
            steps = torch.log_softmax(logits[:, 0], dim=1)
            pooled = torch.zeros(len(node), steps.shape[1]).index_add(0, number, steps)
            chosen, node = self._choose(pooled, node)
            written.append(chosen)
            symbol = chosen[number].unsqueeze(1)
        return [self.trie.text(row) for row in torch.stack(written, dim=1).tolist()]

    def _choose(self, pooled: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best symbol that the trie allows at each node, and the node it leads to."""
        table: Tensor = self.next_node  # type: ignore[assignment]
        following = table[node]
        ended = following.max(dim=1).values < 0
        following[ended, END] = node[ended]  # a finished name stays finished
        chosen = pooled.masked_fill(following < 0, -torch.inf).argmax(dim=1)
        return chosen, following.gather(1, chosen.unsqueeze(1)).squeeze(1)
