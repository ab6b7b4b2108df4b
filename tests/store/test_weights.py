import pytest
import torch
from safetensors.torch import save_file

from decoders.errors import IntegrityError
from decoders.store.weights import read_weights, write_weights


def test_weights_survive_with_their_attributes(tmp_path):
    weights = {
        "b": torch.randn(3, 4).to(torch.bfloat16),
        "a": torch.arange(3),
        "e": torch.zeros(0, 2),
        "s": torch.tensor(1.5),
    }
    write_weights(tmp_path / "w.safetensors", weights, {"rule": "backprop", "seed": 1})
    found, attributes = read_weights(tmp_path / "w.safetensors")
    assert attributes == {"rule": "backprop", "seed": 1}
    assert set(found) == set(weights)
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_a_changed_weight_is_noticed(tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(path, {"a": torch.ones(100)}, {})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="checksum"):
        read_weights(path)


def test_weights_of_other_origin_are_read_and_other_files_refused(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "own.safetensors")
    assert read_weights(tmp_path / "own.safetensors")[1] == {}
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(IntegrityError, match="safetensors"):
        read_weights(tmp_path / "bad.safetensors")
