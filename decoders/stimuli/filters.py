"""Filter responses of pictures: Gabor energy, a GIST-like summary, and averages on a grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_ORIENTATIONS = 8
WAVELENGTHS = (4.0, 8.0, 16.0, 32.0)
# Standard deviation of the Gaussian per wavelength: a bandwidth of one octave.
_SIGMA = 0.56


def grey(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return luma .299 R + .587 G + .114 B (ITU-R BT.601) in 0..1, array of shape (n_pictures, n_rows, n_columns)."""
    return np.asarray(pictures[..., :3] @ np.array([0.299, 0.587, 0.114]) / 255)


def wavelengths(n_rows: int, n_columns: int) -> tuple[float, ...]:
    """Return the wavelengths in pixels that fit at least twice into the shorter edge."""
    return tuple(wave for wave in WAVELENGTHS if 2 * wave <= min(n_rows, n_columns))


def gabor_energy(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the amplitude of quadrature pairs of Gabor filters at every pixel.

    Parameters
    ----------
    picture : array of shape (n_rows, n_columns)

    Returns
    -------
    array of shape (n_filters, n_rows, n_columns)
        Wavelengths (4, 8, 16 and 32 pixels, as far as they fit) by 8 orientations; square root of the summed
        squares of the even and the odd response. The picture is mirrored at its edges.
    """
    n_rows, n_columns = picture.shape
    pad = min(32, n_rows - 1, n_columns - 1)
    padded = np.pad(picture - picture.mean(), pad, mode="reflect")
    spectrum = np.fft.fft2(padded)
    responses = []
    for wave in wavelengths(n_rows, n_columns):
        for orientation in range(N_ORIENTATIONS):
            transfer = _transfer(padded.shape, wave, np.pi * orientation / N_ORIENTATIONS)
            responses.append(np.abs(np.fft.ifft2(spectrum * transfer))[pad : pad + n_rows, pad : pad + n_columns])
    return np.array(responses)


def _transfer(shape: tuple[int, ...], wave: float, angle: float) -> NDArray[np.float64]:
    """Return a Gaussian around one spatial frequency: its complex response holds the even and the odd filter."""
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None]
    width = 1 / (2 * np.pi * _SIGMA * wave)
    distance = (rows - np.sin(angle) / wave) ** 2 + (columns - np.cos(angle) / wave) ** 2
    transfer = np.exp(-distance / (2 * width**2))
    # No response to a uniform picture.
    transfer[0, 0] = 0.0
    return np.asarray(transfer)


def grid_means(maps: NDArray[np.float64], n_cells: int) -> NDArray[np.float64]:
    """Average maps (n_maps, n_rows, n_columns) over a grid of n_cells x n_cells; returns them flattened."""
    rows, columns = (np.array_split(np.arange(edge), n_cells) for edge in maps.shape[1:])
    return np.array([maps[:, r][:, :, c].mean(axis=(1, 2)) for r in rows for c in columns]).T.ravel()


def normalised(picture: NDArray[np.float64], cycles: float = 4.0) -> NDArray[np.float64]:
    """Remove slow changes of luminance and equalise local contrast, as before GIST (Oliva & Torralba 2001).

    Parameters
    ----------
    picture : array of shape (n_rows, n_columns)
        0..1.
    cycles : float
        Cut-off of the Gaussian low-pass, in cycles per picture.
    """
    from scipy.ndimage import gaussian_filter

    sigma = min(picture.shape) / (2 * np.pi * cycles) * np.sqrt(np.log(2)) * 2
    logged = np.log1p(255 * picture)
    detail = logged - gaussian_filter(logged, sigma, mode="reflect")
    contrast = np.sqrt(gaussian_filter(detail**2, sigma, mode="reflect"))
    return np.asarray(detail / (0.2 + contrast))
