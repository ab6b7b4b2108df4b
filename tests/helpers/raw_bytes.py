"""Writes small recordings as the systems do, byte by byte: CTF .ds, BTi/4D folders, BrainVision, EDF."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

# Head coils in CTF head coordinates (cm): nasion on +x, ears on ±y.
_NASION, _LEFT, _RIGHT = (10.0, 0.0, 0.0), (0.0, 7.5, 0.0), (0.0, -7.5, 0.0)
_REFERENCES = ("BG1-1609", "BG2-1609", "BG3-1609")


class _Bytes:
    """Big-endian bytes, with the gaps that readers skip."""

    def __init__(self) -> None:
        self.data = bytearray()

    def put(self, kind: str, *values: float) -> None:
        self.data += struct.pack(f">{kind}", *values)

    def text(self, value: str, size: int) -> None:
        self.data += value.encode()[: size - 1].ljust(size, b"\x00")

    def skip(self, size: int) -> None:
        self.data += bytes(size)

    def align(self, size: int = 8) -> None:
        self.data += bytes(-len(self.data) % size)


def shell(n: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Places on the upper half of a sphere, and their outward normals."""
    k = np.arange(n) + 0.5
    polar, turn = np.arccos(1 - 0.9 * k / n), np.pi * (1 + 5**0.5) * k
    unit = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)
    return radius * unit, unit


def write_ctf(folder: Path, data: np.ndarray, stim: np.ndarray, sfreq: float) -> Path:
    """Write axial gradiometers (n, n_times) in T and a trigger channel into a folder that ends with .ds.

    Head and dewar coincide but for the 45 degrees that lie between their axes.
    """
    folder.mkdir(parents=True)
    n, n_times = data.shape
    gain, qgain = 1e9, 2.0**20
    places, normals = shell(n, 0.12)
    name = folder.name[:-3]
    (folder / f"{name}.res4").write_bytes(_res4(n, n_times, sfreq, places * 100, normals, gain, qgain))
    references = np.zeros((len(_REFERENCES), n_times))
    digital = np.concatenate([np.round(-data * gain * qgain), references, stim[None]]).astype(">i4")
    (folder / f"{name}.meg4").write_bytes(b"MEG41CP\x00" + digital.tobytes())
    (folder / f"{name}.hc").write_text(_head_coils())
    return folder


def _head_coils() -> str:
    lines = []
    for frame in ("dewar", "head"):
        for coil, place in (("nasion", _NASION), ("left ear", _LEFT), ("right ear", _RIGHT)):
            lines.append(f"measured {coil} coil position relative to {frame} (cm):")
            lines += [f"\t{axis} = {value}" for axis, value in zip("xyz", place, strict=True)]
    return "\n".join(lines) + "\n"


def _res4(n: int, n_times: int, sfreq: float, places: np.ndarray, normals: np.ndarray, gain: float, qgain: float) -> bytes:
    out = _Bytes()
    out.text("MEG41RS", 8)
    for _ in range(3):
        out.text("made up", 256)
    out.put("h", 0)
    out.text("12:00:00", 255)
    out.text("01/02/2020", 255)
    out.put("i", n_times)
    out.put("h", n + len(_REFERENCES) + 1)
    out.align(8)
    out.put("dd", sfreq, n_times / sfreq)
    out.put("h", 1)
    out.align(4)
    out.put("ihh", 0, 1, 0)
    out.align(4)
    out.put("i", 1)
    out.skip(10)
    out.put("h", 0)
    out.align(4)
    out.put("ih", 0, 0)
    out.align(4)
    out.put("i", 0)
    out.align(4)
    out.put("ii", 0, 0)
    for size in (32, 256, 32, 32, 32, 32, 60):
        out.text("x", size)
    out.align(4)
    out.put("i", 0)
    out.skip(1844 - len(out.data))
    out.put("h", 0)
    sensors = [f"MLC{i + 1:02d}-1609" for i in range(n)]
    for name in [*sensors, *_REFERENCES, "UPPT001"]:
        out.text(name, 32)
    for place, normal in zip(places, normals, strict=True):
        # A positive gain would turn the normal around: the convention of the system.
        _ctf_channel(out, 5, -gain, qgain, [(place, normal), (place + 5 * normal, -normal)])
    for row in range(len(_REFERENCES)):
        _ctf_channel(out, 0, -gain, qgain, [(np.array([0.0, 0.0, 30.0]), np.eye(3)[row])])
    _ctf_channel(out, 11, 1.0, 1.0, [])
    # First-order gradients, as the system offers them; the data are not compensated (order 0).
    out.put("h", n)
    for name in sensors:
        out.text(name, 32)
        out.put("iih", int.from_bytes(b"G1BR", "big"), 0, len(_REFERENCES))
        for reference in [*_REFERENCES, *[""] * (50 - len(_REFERENCES))]:
            out.text(reference, 31)
        out.put("50d", *[0.01] * len(_REFERENCES), *[0.0] * (50 - len(_REFERENCES)))
    return bytes(out.data)


def _ctf_channel(out: _Bytes, kind: int, gain: float, qgain: float, coils: list[tuple[np.ndarray, np.ndarray]]) -> None:
    out.put("hhi", kind, 0, 0)
    out.put("dddd", gain, qgain, 1.0, 0.0)
    out.put("hhi", len(coils), 0, 0)
    for _ in range(2):
        for place, normal in [*coils, *[(np.zeros(3), np.zeros(3))] * (8 - len(coils))]:
            out.put("dddd", *place, 0.0)
            out.put("dddd", *normal, 0.0)
            out.put("hihd", 1, 0, 0, 1.0)


def write_bti(folder: Path, data: np.ndarray, stim: np.ndarray, sfreq: float) -> Path:
    """Write magnetometers (n, n_times) in T and a trigger channel as a folder of 4D: c,rfDC, config, hs_file."""
    folder.mkdir(parents=True)
    n, n_times = data.shape
    names = [*(f"A{i + 1}" for i in range(n)), "TRIGGER"]
    (folder / "config").write_bytes(_bti_config(names, n))
    (folder / "hs_file").write_bytes(_bti_head())
    samples = np.concatenate([data, stim[None]]).T.astype(">f4").tobytes()
    header = _bti_header(names, n_times, sfreq)
    pad = bytes(-len(samples) % 8)
    position = len(samples) + len(pad)
    (folder / "c,rfDC").write_bytes(samples + pad + header + struct.pack(">Q", position))
    return folder


def _bti_head() -> bytes:
    """Index points (left, right, nasion, coils) and the head shape, in 4D head coordinates (x to the nose)."""
    out = _Bytes()
    out.put("hhiiii", 1, 0, 0, 0, 0, 0)
    out.data = bytearray(struct.pack(">iiiii", 1, 0, 0, 40, 5))[:16]
    points = [(0, 0.075, 0), (0, -0.075, 0), (0.1, 0, 0), (0.05, 0, 0.09), (-0.05, 0, 0.09)]
    for point in points:
        out.put("ddd", *point)
    for place in shell(40, 0.095)[0]:
        out.put("ddd", *place)
    return bytes(out.data)


def _bti_config(names: list[str], n: int) -> bytes:
    out = _Bytes()
    out.put("h", 2)
    out.text("made up", 32)
    out.text("host", 16)
    out.put("hihhff", 1, 0, 50, len(names), 1.0, 1.0)
    out.put("hhh", 1, 2, 0)
    out.skip(2)
    out.put("I", 0)
    out.skip(32)
    # The last row of a transform holds the scales of its columns.
    _matrix(out, np.vstack([np.eye(4)[:3], np.ones(4)]))
    _bti_block(out, "B_E_table_used", _bti_table())
    _bti_block(out, "B_weights_used", _bti_weights())
    places, normals = shell(n, 0.12)
    for number, name in enumerate(names):
        meg = name.startswith("A")
        out.text(name, 16)
        out.put("hHh", number + 1, 1 if meg else 5, 0)
        out.skip(2)
        out.put("ff", 1.0, 1.0)
        out.text("T" if meg else "V", 16)
        out.put("di", 0.0, 0)
        out.skip(32)
        out.align()
        if meg:
            _bti_coil(out, places[number], normals[number])
        else:
            out.put("ii", 0, 0)
            out.skip(32)
            out.put("i", 0)
            out.skip(34)
        out.align()
    return bytes(out.data)


def _matrix(out: _Bytes, values: np.ndarray) -> None:
    out.put("16d", *np.asarray(values).ravel())


def _bti_block(out: _Bytes, kind: str, body: bytes) -> None:
    out.put("I", len(body))
    out.text(kind, 20)
    out.put("i", 0)
    out.text("user", 32)
    out.put("II", 0, len(body))
    out.skip(32)
    out.align()
    out.data += body
    out.align()


def _bti_table() -> bytes:
    out = _Bytes()
    out.put("iii", 2, 0, 0)
    out.text("", 16)
    out.put("i", 0)
    out.skip(28)
    return bytes(out.data)


def _bti_weights() -> bytes:
    out = _Bytes()
    out.put("iII", 2, 0, 0)
    out.text("none", 32)
    out.text("none", 80)
    out.put("II", 0, 0)
    out.skip(72)
    return bytes(out.data)


def _bti_coil(out: _Bytes, place: np.ndarray, normal: np.ndarray) -> None:
    x = np.cross([0.0, 1.0, 0.0], normal)
    x /= np.linalg.norm(x)
    transform = np.eye(4)
    transform[:3, :3] = np.stack([x, np.cross(normal, x), normal], axis=1)
    transform[:3, 3] = place
    transform[3, :3] = 1.0
    out.put("ii", 0, 0)
    out.skip(32)
    out.put("f", 1.0)
    out.skip(4)
    _matrix(out, transform)
    out.put("hh", 0, 0)
    out.skip(4)
    out.skip(32)


def _bti_header(names: list[str], n_times: int, sfreq: float) -> bytes:
    out = _Bytes()
    out.put("h", 1)
    out.text("pdf", 5)
    out.skip(1)
    out.put("hhiiii", 3, 1, 1, 1, 0, 0)
    out.put("f", 1 / sfreq)
    out.text("s", 16)
    out.put("ih", 1, len(names))
    out.skip(2)
    out.put("iihhi", 0, 0, 0, 0, 0)
    out.skip(20)
    out.align()
    out.put("ifffiii", n_times, n_times / sfreq, 0.0, 0.0, 0, 0, 0)
    out.skip(28)
    for number, name in enumerate(names):
        out.text(name, 16)
        out.put("hhf", number + 1, 0, 1.0)
        out.text("T", 16)
        out.put("h", 0)
        out.skip(6)
        out.put("ddii", 0.0, 0.0, number, 0)
        out.text("", 4)
        out.put("f", 0.0)
        out.skip(24)
    # One processing step, whose time is that of the recording: 1 February 2020, noon.
    out.put("i", 0)
    out.text("BTi_defaults", 20)
    out.put("i", 0)
    out.text("user", 32)
    out.put("i", 1580558400)
    out.text("", 256)
    out.put("i", 0)
    out.skip(32)
    out.align()
    return bytes(out.data)


def write_brainvision(path: Path, data: np.ndarray, names: list[str], sfreq: float) -> Path:
    """Write EEG (n, n_times) in V as .vhdr, .vmrk and .eeg (32-bit floats, microvolts)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = path.name.removesuffix(".vhdr")
    channels = "\n".join(f"Ch{i + 1}={name},,1,µV" for i, name in enumerate(names))
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem}.eeg\nMarkerFile={stem}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels={len(names)}\nSamplingInterval={1e6 / sfreq:g}\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n"
        f"[Channel Infos]\n{channels}\n",
        encoding="utf-8",
    )
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem}.eeg\n[Marker Infos]\nMk1=New Segment,,1,1,0,20200201120000000000\n",
        encoding="utf-8",
    )
    path.with_suffix(".eeg").write_bytes((data * 1e6).T.astype("<f4").tobytes())
    return path


def write_edf(path: Path, data: np.ndarray, names: list[str], sfreq: int) -> Path:
    """Write EEG (n, n_times) in V as EDF, records of 1 s, 16 bits over ±1 mV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    n, records = len(names), data.shape[1] // sfreq

    def fields(values: list[object], size: int) -> bytes:
        return b"".join(str(value).encode("ascii")[:size].ljust(size) for value in values)

    head = fields(["0"], 8) + fields(["X X X X", "Startdate 01-FEB-2020 X X X"], 80)
    head += fields(["01.02.20", "12.00.00", 256 * (n + 1)], 8) + fields([""], 44) + fields([records, 1], 8) + fields([n], 4)
    head += fields(list(names), 16) + fields([""] * n, 80) + fields(["uV"] * n, 8)
    head += fields([-1000] * n, 8) + fields([1000] * n, 8) + fields([-32768] * n, 8) + fields([32767] * n, 8)
    head += fields([""] * n, 80) + fields([sfreq] * n, 8) + fields([""] * n, 32)
    scaled = np.round((data[:, : records * sfreq] * 1e6 + 1000) * 65535 / 2000 - 32768)
    digital = scaled.clip(-32768, 32767).astype("<i2").reshape(n, records, sfreq).transpose(1, 0, 2)
    path.write_bytes(head + digital.tobytes())
    return path
