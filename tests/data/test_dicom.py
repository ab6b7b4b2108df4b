"""Our reader of DICOM slices, against files built here and against what dcm2niix made of the real ones."""

import io
import struct
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from decoders.data import recipes
from decoders.data.dicom import Slice, join_slices, nifti_bytes, read_slice
from decoders.data.recipes import archived_slices
from decoders.data.registry import fetch
from decoders.errors import InputError

LONG = {"OB", "OW", "SQ"}


def element(group: int, number: int, kind: str, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    head = struct.pack("<HH2s", group, number, kind.encode())
    return head + (struct.pack("<HI", 0, len(value)) if kind in LONG else struct.pack("<H", len(value))) + value


def sequence(content: bytes) -> bytes:
    """Return a sequence of undefined length with one item."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
    return struct.pack("<HH2sHI", 0x0008, 0x1111, b"SQ", 0, 0xFFFFFFFF) + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def decimals(values: Sequence[float]) -> bytes:
    return "\\".join(repr(float(value)) for value in values).encode()


def encode(one: Slice, syntax: bytes = b"1.2.840.10008.1.2.1", bits: int = 16) -> bytes:
    rows, columns = one.pixels.shape
    return b"".join(
        [
            b"\0" * 128 + b"DICM",
            element(0x0002, 0x0010, "UI", syntax),
            sequence(sequence(element(0x0028, 0x0010, "US", b"\xff\xff"))),  # its elements must not count
            element(0x0018, 0x0080, "DS", repr(one.tr * 1000).encode()),
            element(0x0020, 0x0032, "DS", decimals(one.position)),
            element(0x0020, 0x0037, "DS", decimals(one.orientation.ravel())),
            element(0x0020, 0x0100, "IS", str(one.volume).encode()),
            element(0x0028, 0x0010, "US", struct.pack("<H", rows)),
            element(0x0028, 0x0011, "US", struct.pack("<H", columns)),
            element(0x0028, 0x0030, "DS", decimals(one.spacing)),
            element(0x0028, 0x0100, "US", struct.pack("<H", bits)),
            element(0x7FE0, 0x0010, "OW", one.pixels.astype("<u2").tobytes()),
        ]
    )


def slices(n_slices: int = 3, n_volumes: int = 2) -> list[Slice]:
    rng = np.random.default_rng(0)
    return [
        Slice(
            pixels=rng.integers(0, 4096, (4, 5)).astype(np.uint16),
            volume=volume,
            tr=2.0,
            position=np.array([-10.0, -20, 3.5 * index]),
            orientation=np.array([[1.0, 0, 0], [0, 1, 0]]),
            spacing=(2.0, 3.0),
        )
        for volume in range(1, n_volumes + 1)
        for index in range(n_slices)
    ]


def test_a_slice_is_read_as_it_was_written() -> None:
    (one,) = slices(1, 1)
    read = read_slice(encode(one), "x")
    np.testing.assert_array_equal(read.pixels, one.pixels)
    np.testing.assert_array_equal(read.position, one.position)
    np.testing.assert_array_equal(read.orientation, one.orientation)
    assert (read.volume, read.tr, read.spacing) == (one.volume, one.tr, one.spacing)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"no DICOM",
        lambda content: content[:-10],
        lambda content: content.replace(b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2"),
        lambda content: content.replace(struct.pack("<HH", 0x0020, 0x0100), struct.pack("<HH", 0x0020, 0x0101)),
        lambda content: content.replace(b"2000.0", b"two..."),
        lambda content: b"",
    ],
)
def test_other_files_are_refused(spoil: Callable[[bytes], bytes]) -> None:
    (one,) = slices(1, 1)
    with pytest.raises(InputError, match=r"x\.dcm: expected an uncompressed DICOM slice"):
        read_slice(spoil(encode(one)), "x.dcm")


def test_slices_are_joined_in_any_order() -> None:
    given = slices()
    data, affine, tr = join_slices([given[i] for i in np.random.default_rng(1).permutation(6)], "x")
    assert (data.shape, tr) == ((5, 4, 3, 2), 2.0)
    for one in given:
        index = round(one.position[2] / 3.5)
        for row, column in ((0, 0), (3, 1), (2, 4)):
            voxel = (column, 3 - row, index)
            assert data[(*voxel, one.volume - 1)] == one.pixels[row, column]
            place = one.position + one.orientation[0] * 3.0 * column + one.orientation[1] * 2.0 * row
            np.testing.assert_allclose((affine @ (*voxel, 1))[:3], place * [-1, -1, 1], atol=1e-4)


def spoilt(change: Callable[[list[Slice]], list[Slice]]) -> None:
    join_slices(change(slices()), "run")


@pytest.mark.parametrize(
    "change",
    [
        lambda given: given[1:],
        lambda given: given + given[:1],
        lambda given: [],
        lambda given: given[:1],
        lambda given: [replace(given[0], tr=1.8), *given[1:]],
        lambda given: [replace(given[0], position=given[0].position + 1), *given[1:]],
        lambda given: [replace(given[0], pixels=given[0].pixels + np.uint16(40000)), *given[1:]],
        lambda given: [replace(given[0], pixels=given[0].pixels[:2]), *given[1:]],
    ],
)
def test_runs_with_faults_are_refused(change: Callable[[list[Slice]], list[Slice]]) -> None:
    with pytest.raises(InputError, match="run: expected"):
        spoilt(change)


def test_the_nifti_is_one(tmp_path: Path) -> None:
    data, affine, tr = join_slices(slices(), "x")
    (tmp_path / "x.nii").write_bytes(nifti_bytes(data, affine, tr))
    image = nibabel.Nifti1Image.from_filename(tmp_path / "x.nii")
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), data)
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    assert image.header.get_zooms() == (3.0, 2.0, 3.5, 2.0)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.get_data_dtype() == np.int16


@pytest.mark.mirror
def test_our_conversion_is_that_of_dcm2niix(mirror: Path) -> None:
    """The 18 volumes of the sample are the first 18 of the converted run, voxel for voxel."""
    folder = mirror / "bold_studyforrest_localizer"
    data, affine, tr = join_slices(archived_slices(folder / "dicom_1block_18vol.tar.gz"), "sample")
    image = nibabel.Nifti1Image.from_filename(folder / "sub-02_task-oneback_run-1_bold.nii.gz")
    assert data.shape == (80, 80, 35, 18)
    np.testing.assert_array_equal(data, image.dataobj.get_unscaled()[..., :18])  # type: ignore[union-attr]
    np.testing.assert_allclose(affine, image.affine, atol=6e-5)
    assert tr == 2.0


@pytest.mark.mirror
def test_a_user_makes_the_registered_image(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole recipe: the archive that is downloaded gives the registered SHA-256 (values of the mirror, geometry of the sample)."""
    folder = mirror / "bold_studyforrest_localizer"
    monkeypatch.delenv("CORTICODE_MIRROR", raising=False)
    sample = [one for one in archived_slices(folder / "dicom_1block_18vol.tar.gz") if one.volume == 1]
    sample.sort(key=lambda one: float(np.cross(*one.orientation) @ one.position))
    image = nibabel.Nifti1Image.from_filename(folder / "sub-02_task-oneback_run-1_bold.nii.gz")
    stored: NDArray[np.int16] = image.dataobj.get_unscaled()  # type: ignore[union-attr]

    def send(url: str, path: Path, sha256: str | None) -> None:
        assert (url, sha256) == (recipes.LOCALIZER_ARCHIVE, None)
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            for volume in range(stored.shape[3]):
                for index, one in enumerate(sample):
                    pixels = stored[:, ::-1, index, volume].T.astype(np.uint16)
                    content = encode(replace(one, volume=volume + 1, pixels=pixels))
                    member = tarfile.TarInfo(f"example-dicom-functional-074ec8d/dicoms/MR.{volume}.{index}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))

    monkeypatch.setattr(recipes, "download", send)
    (tmp_path / "bold_studyforrest_localizer").mkdir()
    events = "sub-02_task-oneback_run-1_events.tsv"
    (tmp_path / "bold_studyforrest_localizer" / events).write_bytes((folder / events).read_bytes())
    made = fetch("bold_studyforrest_localizer", cache=tmp_path)
    assert sorted(path.name for path in made.iterdir()) == [
        "sub-02_task-oneback_run-1_bold.json", "sub-02_task-oneback_run-1_bold.nii", events,
    ]  # fmt: skip


def test_an_archive_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="a gzipped tar archive"):
        list(archived_slices(tmp_path / "x.tar.gz"))
