import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from decoders.errors import IntegrityError
from decoders.store.arrays import Array, read_arrays, write_arrays


def _write(path, values, **attributes):
    axes = tuple(f"axis{i}" for i in range(np.ndim(values)))
    write_arrays(path, {"group/a": Array(np.asarray(values), axes, "mm")}, attributes)


@given(
    values=hnp.arrays(
        hnp.scalar_dtypes().filter(lambda t: t.kind in "iuf"), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)
    )
)
def test_numbers_survive(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("a") / "a.h5"
    _write(path, values)
    found = read_arrays(path)
    np.testing.assert_array_equal(found["group/a"], values)
    # The order of bytes is the machine's own after reading.
    assert found["group/a"].dtype.newbyteorder("=") == values.dtype.newbyteorder("=")
    assert found.arrays["group/a"].unit == "mm"
    assert found.arrays["group/a"].axes == tuple(f"axis{i}" for i in range(values.ndim))


@given(values=st.lists(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), max_size=5))
def test_text_of_any_script_survives(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("a") / "a.h5"
    _write(path, np.array(values, dtype=object))
    assert read_arrays(path)["group/a"].tolist() == values


def test_attributes_survive(tmp_path):
    _write(tmp_path / "a.h5", np.zeros(2), name="ρ", list=[1, 2.5, None])
    assert read_arrays(tmp_path / "a.h5").attributes == {"name": "ρ", "list": [1, 2.5, None]}


def test_equal_content_gives_equal_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        _write(tmp_path / name, np.arange(1000.0), x=1)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize("values", [np.arange(4096, dtype=np.float32), np.array(["word"] * 500, dtype=object)])
def test_a_flipped_bit_is_noticed(tmp_path, values):
    path = tmp_path / "a.h5"
    _write(path, values)
    with h5py.File(path) as file:
        offset = file["group/a"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"a\.h5.*Delete the file and run again"):
        read_arrays(path)


def test_without_fletcher32_the_flipped_bit_goes_unnoticed(tmp_path):
    """The named mutation: dropping the checksum makes the test above fail."""
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a", data=np.arange(4096, dtype=np.float32), chunks=(4096,))
        offset = data.id.get_chunk_info(0).byte_offset if data.id.get_num_chunks() else None
    with h5py.File(path) as file:
        offset = file["a"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 100] ^= 1
    path.write_bytes(content)
    with h5py.File(path) as file:
        assert not np.array_equal(file["a"][()], np.arange(4096))


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    _write(path, np.arange(100000.0))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(IntegrityError, match="readable HDF5"):
        read_arrays(path)


def test_a_foreign_or_missing_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["a"] = [1]
    with pytest.raises(IntegrityError, match="corticode-arrays-1"):
        read_arrays(tmp_path / "foreign.h5")
    with pytest.raises(IntegrityError, match="No such file"):
        read_arrays(tmp_path / "none.h5")


def test_a_missing_array_is_named(tmp_path):
    _write(tmp_path / "a.h5", np.zeros(1))
    with pytest.raises(IntegrityError, match="no \\['b'\\]"):
        read_arrays(tmp_path / "a.h5", ["b"])


def test_axes_must_be_named():
    with pytest.raises(ValueError, match="axes"):
        Array(np.zeros((2, 2)), ("x",))
