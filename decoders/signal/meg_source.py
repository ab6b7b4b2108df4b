"""Source estimates on a template head, averaged to regions of an atlas in MNI space.

The head is fsaverage's, which comes with mne: its inner skull (a single shell, which is enough for MEG) and its
fiducials. It is scaled in all directions alike and turned so that its fiducials fit those of the subject. A template
is no MRI: regions are blurred, and neighbours share their signal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decoders.config.meg import SourceSettings
from decoders.errors import InputError
from decoders.signal.events import read_text_table
from decoders.signal.steps import Steps, parameter_of
from decoders.signal.whitening import numerical_rank, whitener
from decoders.store.recording import Recording

# Fewest sources of a region, and how far fiducials may miss the template's.
_LEAST_SOURCES, _FAR_M = 2, 0.02
_INNER_M = 0.007
# Of the skull's surface in the boundary-element model.
_VERTICES = 642
# Shape of the depth weighting (Lin et al. 2006): 0 would leave deep sources too weak, 1 make them equal.
_DEPTH = 0.8
_BLOCK = 20_000


@dataclass(frozen=True)
class Template:
    """fsaverage's head, fitted to a subject.

    Attributes
    ----------
    skull : dict
        mne's surface of the inner skull, in metres, MRI coordinates of the scaled template.
    to_head : mne.Transform
        Scaled template to the subject's head.
    scale : float
        Size relative to fsaverage.
    misfit_mm : float
        Largest distance of a fiducial after the fit.
    """

    skull: dict[str, Any]
    to_head: Any
    scale: float
    misfit_mm: float


def fit_template(info: Any, where: object) -> Template:
    """Fit fsaverage to the fiducials of a subject: one scale, a rotation and a shift.

    Raises
    ------
    InputError
        The fiducials are not known, or no head of this shape.
    """
    import mne

    folder = Path(mne.__file__).parent / "data" / "fsaverage"
    points, _ = mne.io.read_fiducials(folder / "fsaverage-fiducials.fif")
    template = np.array([point["r"] for point in sorted(points, key=lambda point: int(point["ident"]))])
    own = {int(p["ident"]): np.asarray(p["r"], dtype=float) for p in info["dig"] or () if int(p["kind"]) == 1}
    if not {1, 2, 3} <= set(own):
        remedy = "Digitise nasion and both ears, or leave preprocess.meg.source out."
        raise InputError("nasion and both preauricular points", f"{len(own)} of them", str(where), remedy)
    subject = np.array([own[ident] for ident in (1, 2, 3)])
    scale = float(_spread(subject) / _spread(template))
    rotation, shift = _rigid(template * scale, subject)
    misfit = float(np.linalg.norm(template * scale @ rotation.T + shift - subject, axis=1).max())
    if misfit > _FAR_M or not 0.7 < scale < 1.4:
        remedy = "Check the digitised points: they should be those of a human head."
        found = f"fiducials that miss it by {misfit * 1000:.0f} mm at a scale of {scale:.2f}"
        raise InputError("fiducials that fit a template head", found, str(where), remedy)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, shift
    skull = mne.read_bem_surfaces(folder / "fsaverage-inner_skull-bem.fif", verbose="ERROR")[0]
    skull["rr"] = skull["rr"] * scale
    mne.surface.complete_surface_info(skull, copy=False, verbose="ERROR")
    return Template(skull, mne.transforms.Transform("mri", "head", matrix), scale, misfit * 1000)


def _spread(points: NDArray[np.float64]) -> float:
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum()))


def _rigid(source: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation and shift that bring points onto others with least squares (Kabsch 1976)."""
    a, b = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((source - a).T @ (target - b))
    turn = vt.T @ np.diag([1.0, 1.0, np.linalg.det(vt.T @ u.T)]) @ u.T
    return turn, b - turn @ a


def grid(template: Template, spacing_mm: float) -> NDArray[np.float64]:
    """Return places inside the inner skull, 7 mm from it, in metres of the unscaled template (n, 3)."""
    import mne

    step, skull = spacing_mm / 1000, template.skull["rr"] / template.scale
    axes = [
        np.arange(np.floor(low / step) * step, high, step) for low, high in zip(skull.min(0), skull.max(0), strict=True)
    ]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    surface = {**template.skull, "rr": skull}
    mne.surface.complete_surface_info(surface, copy=False, verbose="ERROR")
    inside = _inside(places, skull, surface["nn"])
    return places[inside]


def _inside(
    places: NDArray[np.float64], vertices: NDArray[np.float64], normals: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether a place lies behind its nearest vertices, and away from them: the inner skull is nearly convex."""
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(vertices).query(places, k=6)
    outward = np.einsum("nkc,nkc->nk", places[:, None] - vertices[nearest], normals[nearest])
    return np.asarray((outward < 0).all(axis=1) & (distance[:, 0] > _INNER_M))


def to_mni(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return fsaverage's surface coordinates (m) in MNI305, and from there in MNI152 (mm): FreeSurfer's own matrix."""
    matrix = np.array(
        [[0.9975, -0.0073, 0.0176, -0.0429], [0.0146, 1.0009, -0.0024, 1.5496], [-0.0130, -0.0093, 0.9971, 1.1840]]
    )
    millimetres = places * 1000
    return np.asarray(millimetres @ matrix[:, :3].T + matrix[:, 3])


def regions_of(places: NDArray[np.float64], settings: SourceSettings) -> tuple[list[str], list[NDArray[np.int64]], int]:
    """Return the regions of an atlas that hold sources.

    Parameters
    ----------
    places : array of shape (n, 3)
        Metres, coordinates of fsaverage.
    settings : SourceSettings

    Returns
    -------
    names : list of str
    members : list of array of int
        Sources of each region.
    left_out : int
        Regions with fewer than two sources.

    Raises
    ------
    InputError
        The atlas cannot be read, or none of its regions holds a source.
    """
    import nibabel

    path = Path(settings.atlas)
    try:
        image: Any = nibabel.load(path)
        labels = np.asanyarray(image.dataobj)
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        remedy = "Correct preprocess.meg.source.atlas."
        raise InputError("a label image in MNI space (NIfTI)", f"'{error}'", path, remedy) from error
    if labels.ndim != 3:
        raise InputError("a label image with 3 axes", f"{labels.ndim}", path, "Give one number per voxel.")
    index = np.round((to_mni(places) - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T).astype(int)
    within = ((index >= 0) & (index < labels.shape)).all(axis=1)
    own = np.zeros(len(places), dtype=np.int64)
    own[within] = np.round(labels[tuple(index[within].T)]).astype(np.int64)
    numbers = [int(number) for number in np.unique(np.round(labels).astype(np.int64)) if number]
    members = {number: np.flatnonzero(own == number) for number in numbers}
    kept = [number for number in numbers if len(members[number]) >= _LEAST_SOURCES]
    if not kept:
        remedy = "The atlas must be in MNI space; a smaller preprocess.meg.source.spacing_mm gives more sources."
        raise InputError("regions that hold sources", f"none of {len(numbers)}", path, remedy)
    names = _names(settings, kept)
    return names, [members[number] for number in kept], len(numbers) - len(kept)


def _names(settings: SourceSettings, numbers: list[int]) -> list[str]:
    if settings.labels is None:
        return [str(number) for number in numbers]
    table = read_text_table(settings.labels, "a table of regions with the columns index and name")
    if not {"index", "name"} <= set(table.columns):
        found = ", ".join(map(str, table.columns))
        raise InputError("the columns index and name", found, settings.labels, "Name the columns so.")
    known = dict(zip(table["index"], table["name"], strict=True))
    return [str(known.get(str(number), number)) for number in numbers]


def lead_field(info: Any, template: Template, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the field of three unit dipoles at each place (n_channels, 3 * n_places), in a single shell."""
    import mne

    model = mne.make_bem_solution([_shell(template)], verbose="ERROR")
    sources = mne.setup_volume_source_space(
        pos={"rr": places * template.scale, "nn": np.tile([0.0, 0.0, 1.0], (len(places), 1))}, verbose="ERROR"
    )
    forward = mne.make_forward_solution(
        info, template.to_head, sources, model, meg=True, eeg=False, mindist=0.0, verbose="ERROR"
    )
    if forward["nsource"] != len(places):
        raise ValueError(f"{len(places)} sources were made, and mne took {forward['nsource']}")
    return np.asarray(forward["sol"]["data"])


def _shell(template: Template) -> dict[str, Any]:
    """Return the skull with fewer triangles: the first 642 vertices of a subdivided icosahedron are a coarser one."""
    import mne
    from scipy.spatial import ConvexHull

    rr = template.skull["rr"][:_VERTICES]
    spokes = rr - rr.mean(axis=0)
    tris = ConvexHull(spokes / np.linalg.norm(spokes, axis=1, keepdims=True)).simplices.astype(np.int32)
    outward = np.einsum("tc,tc->t", np.cross(*(rr[tris[:, k]] - rr[tris[:, 0]] for k in (1, 2))), spokes[tris[:, 0]])
    tris[outward < 0] = tris[outward < 0][:, ::-1]
    surface = {key: template.skull[key] for key in ("id", "coord_frame")}
    surface |= {"rr": rr, "tris": tris, "np": len(rr), "ntri": len(tris), "sigma": 0.3}
    return dict(mne.surface.complete_surface_info(surface, copy=False, verbose="ERROR"))


def minimum_norm(
    field: NDArray[np.float64], covariance: NDArray[np.float64], rank: int, settings: SourceSettings
) -> NDArray[np.float64]:
    """Return the kernel that turns sensors into sources (3 * n_places, n_channels).

    Minimum norm with depth weighting, regularised by the noise covariance; dSPM divides by the noise of each place
    (Hämäläinen & Ilmoniemi 1994; Dale et al. 2000, Neuron 26, 55-67; Lin et al. 2006, NeuroImage 31, 160-171).

    Parameters
    ----------
    field : array of shape (n_channels, 3 * n_places)
    covariance : array of shape (n_channels, n_channels)
    rank : int
    settings : SourceSettings
    """
    W = whitener(covariance, rank)
    white = W @ field
    strength = (white**2).reshape(len(white), -1, 3).sum(axis=(0, 2))
    prior = np.repeat(np.maximum(strength, strength.max() * 1e-4) ** -_DEPTH, 3)
    gram = (white * prior) @ white.T
    gram *= rank / np.trace(gram)
    prior = prior * rank / ((white**2) * prior).sum()
    kernel = prior[:, None] * (white.T @ np.linalg.inv(gram + np.eye(rank) / settings.snr**2))
    if settings.method == "dSPM":
        noise = np.sqrt((kernel**2).reshape(-1, 3, rank).sum(axis=(1, 2)) / 3)
        kernel = kernel / np.repeat(noise, 3)[:, None]
    return np.asarray(kernel @ W)


def region_kernel(
    kernel: NDArray[np.float64], members: list[NDArray[np.int64]], covariance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the matrix from sensors to regions: the mean of sources that point the same way.

    Each source is taken in the direction of its largest variance; its sign is that of its correlation with the first
    principal component of the region, so that the two sides of a fold do not cancel. A region's own sign is free: its
    largest weight is positive.

    Parameters
    ----------
    kernel : array of shape (3 * n_places, n_channels)
    members : list of array of int
        Places of each region.
    covariance : array of shape (n_channels, n_channels)
        Of the data.

    Returns
    -------
    regions : array of shape (n_regions, n_channels)
    """
    found = []
    for rows in members:
        own = kernel.reshape(-1, 3, kernel.shape[1])[rows]
        power = np.einsum("nac,cd,nbd->nab", own, covariance, own, optimize=True)
        direction = np.linalg.eigh(power)[1][:, :, -1]
        single = np.einsum("na,nac->nc", direction, own)
        joint = single @ covariance @ single.T
        first = np.linalg.eigh(joint)[1][:, -1]
        mean = (single * np.sign(first + 1e-300)[:, None]).mean(axis=0)
        found.append(mean * np.sign(mean[np.argmax(np.abs(mean))]))
    return np.stack(found)


def to_regions(recording: Recording, info: Any, settings: SourceSettings, where: object, steps: Steps) -> Recording:
    """Turn a run of sensors into one of regions.

    Parameters
    ----------
    recording : Recording
        Kind "sensor", axis "time".
    info : mne.Info
        Of the same channels, with the fiducials of the head.
    settings : SourceSettings
    where : object
        For messages.
    steps : Steps

    Returns
    -------
    recording : Recording
        Kind "region"; unit "1" for dSPM, "Am" for MNE.

    Raises
    ------
    InputError
        There is no MEG, no noise covariance, or the head's place is unknown.
    """
    meg = np.flatnonzero(np.isin(recording.channel_types.astype(str), ["mag", "grad"]))
    if not meg.size or info["dev_head_t"] is None:
        found = "no MEG channels" if not meg.size else "no place of the head"
        remedy = "EEG needs a head of three shells, which the template lacks: leave preprocess.meg.source out."
        raise InputError("MEG with a known place of the head, for source estimates", found, str(where), remedy)
    import mne

    template = fit_template(info, where)
    places = grid(template, settings.spacing_mm)
    names, members, left_out = regions_of(places, settings)
    used = np.unique(np.concatenate(members))
    members = [np.searchsorted(used, rows) for rows in members]
    covariance = recording.noise_covariance[np.ix_(meg, meg)]
    rank = min(int(parameter_of(recording.steps, "rank", "rank", meg.size)), numerical_rank(covariance))
    kernel = minimum_norm(lead_field(mne.pick_info(info, meg), template, places[used]), covariance, rank, settings)
    weights = region_kernel(kernel, members, _data_covariance(recording, meg))
    data = np.empty((len(recording.data), len(names)), dtype=np.float32)
    for start in range(0, len(data), _BLOCK):
        data[start : start + _BLOCK] = recording.data[start : start + _BLOCK, meg].astype(np.float64) @ weights.T
    steps.add(
        "source estimates", "template head fsaverage, scaled to the fiducials; mean over the sources of each region",
        method=settings.method, n_sources=len(used), n_regions=len(names), regions_left_out=left_out,
        scale=round(template.scale, 4), misfit_mm=round(template.misfit_mm, 2), rank=rank,
    )  # fmt: skip
    return replace(
        recording, data=data, kind="region", names=np.array(names, dtype=object),
        unit="1" if settings.method == "dSPM" else "Am", channel_types=np.zeros(0, dtype=object),
        positions=np.zeros((0, 3)), noise_covariance=weights @ covariance @ weights.T,
        quality={"bad": recording.quality["bad"]}, steps=steps.entries,
    )  # fmt: skip


def _data_covariance(recording: Recording, meg: NDArray[np.int64]) -> NDArray[np.float64]:
    sample = recording.data[:: max(1, len(recording.data) // _BLOCK)][:, meg].astype(np.float64)
    return np.asarray(np.cov(sample.T))
