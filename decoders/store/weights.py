"""Network weights as safetensors: nothing is pickled, a checksum is verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decoders.errors import IntegrityError
from decoders.store.atomic import atomic_path

if TYPE_CHECKING:
    import torch

_METADATA = "corticode"


def write_weights(path: str | Path, weights: Mapping[str, torch.Tensor], attributes: Mapping[str, Any]) -> None:
    """Write a state dict with attributes (as JSON) in one step; equal content gives equal bytes."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(weights.items())}
    # One key only: safetensors writes several in an order that changes from call to call.
    metadata = json.dumps({"attributes": dict(attributes), "sha256": _digest(tensors)}, sort_keys=True)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_METADATA: metadata})


def read_weights(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a state dict and its attributes, verified.

    Files of other origin hold no checksum; their attributes are then empty.

    Raises
    ------
    IntegrityError
        The file is not safetensors, or its content does not match its checksum.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(json.loads((file.metadata() or {}).get(_METADATA, "{}")))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise IntegrityError("a safetensors file", f"'{error}'", path, "Check the path, or train again.") from error
    stated = metadata.get("sha256")
    if stated is not None and _digest(tensors) != stated:
        raise IntegrityError("weights that match their checksum", "others", path, "Delete the file and train again.")
    return tensors, metadata.get("attributes", {})


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()
