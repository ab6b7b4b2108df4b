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


def test_equal_content_gives_equal_bytes(tmp_path):
    weights = {"b": torch.ones(3), "a": torch.zeros(2)}
    # Ten times: safetensors writes several metadata keys in an order of chance.
    for index in range(10):
        write_weights(tmp_path / f"{index}.safetensors", weights, {"z": 1, "a": 2})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_metadata_that_is_not_ours_is_refused(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "own.safetensors", metadata={"corticode": "[1, 2]"})
    with pytest.raises(IntegrityError, match="safetensors"):
        read_weights(tmp_path / "own.safetensors")
