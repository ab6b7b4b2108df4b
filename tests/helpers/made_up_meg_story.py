"""Made-up listeners in the MEG: sensors on a helmet, of which some answer to words by a known response."""

from functools import cache

import numpy as np

from decoders.config import MegDecodingSettings
from decoders.decoding.meg_runs import stretch, with_text
from decoders.stats.declared import Rows
from decoders.stimuli.embedding import trigram_embedding
from decoders.stimuli.timings import Words
from decoders.store.recording import Recording

HZ, SECONDS, PEAK_S = 50.0, 80.0, 0.24
N_SITES = 14
SETTINGS = MegDecodingSettings(
    sfreq=50, text_hz=25, response_s=0.4, epochs=25, n_null_gates=2, encoder_epochs=12, encoder_width=16, hidden=8,
    smoothing_m=0.0,
)  # fmt: skip
LEXICON = tuple(a + b + c for a in "bdfgklmn" for b in "aeiou" for c in ("st", "r", "nk"))
EMBEDDING = trigram_embedding(LEXICON)


def layout(n_sites=N_SITES):
    """Sites on a half sphere of 10 cm, each with two gradiometers and a magnetometer."""
    k = np.arange(n_sites) + 0.5
    z = k / n_sites
    angle = np.pi * (1 + 5**0.5) * k
    sites = 0.1 * np.stack([np.sqrt(1 - z**2) * np.cos(angle), np.sqrt(1 - z**2) * np.sin(angle), z], 1)
    names = np.array([f"MEG{site + 1:03d}{kind}" for site in range(n_sites) for kind in "231"], dtype=object)
    types = np.array(["grad", "grad", "mag"] * n_sites, dtype=object)
    return np.repeat(sites, 3, 0), names, types


def story(rng, seconds=SECONDS):
    """Words of .15 to .35 s with pauses."""
    gaps = rng.uniform(0.2, 0.45, 1000) + 0.6 * (rng.random(1000) < 0.12)
    onset = np.cumsum(gaps)
    onset = onset[onset < seconds - 0.5]
    words = tuple(LEXICON[i] for i in rng.integers(len(LEXICON), size=len(onset)))
    return Words(onset, np.full(len(onset), 0.15), words, tuple(f"{word} " for word in words))


def response(weight, words, n, hz=HZ):
    """Word features at their onsets, convolved with a Gaussian of 40 ms at `PEAK_S`, times weights."""
    values = np.column_stack([np.ones(len(words)), EMBEDDING.lookup(words.word)]) @ weight
    times = np.arange(n) / hz
    shape = np.exp(-(((times[:, None] - words.onset[None] - PEAK_S) / 0.04) ** 2) / 2)
    return shape @ values


@cache
def truth(seed=0, n_sites=N_SITES):
    """Planted sensors (those near one site) and the weights of 1 + 24 word features per sensor."""
    rng = np.random.default_rng([seed, 1])
    positions, _, _ = layout(n_sites)
    centre = positions[3 * int(rng.integers(n_sites))]
    planted = np.linalg.norm(positions - centre, axis=1) < 0.075
    shared = rng.standard_normal((25, 3)) * np.r_[1.0, np.full(24, 0.8)][:, None]
    weight = shared @ rng.standard_normal((3, len(positions)))
    return planted, np.where(planted, weight, 0.0)


def recording(seed=0, run=1, strength=0.5, subject="01", n_sites=N_SITES, seconds=SECONDS, words=None, truth_seed=None):
    """One run and what was heard in it; `strength` 0 plants nothing."""
    rng = np.random.default_rng([seed, 100 + run])
    words = story(np.random.default_rng([77, run]), seconds) if words is None else words
    positions, names, types = layout(n_sites)
    planted, weight = truth(seed if truth_seed is None else truth_seed, n_sites)
    n = round(seconds * HZ)
    signal = response(weight, words, n)
    signal[:, planted] /= signal[:, planted].std(0)
    noise = ar1(rng, n, len(names))
    near = np.exp(-((np.linalg.norm(positions[:, None] - positions[None], axis=-1) / 0.04) ** 2) / 2)
    noise = 0.7 * noise + 0.7 * ar1(rng, n, len(names)) @ (near / np.linalg.norm(near, axis=0))
    unit = np.where(types == "mag", 1e-13, 3e-12)
    data = ((strength * signal + noise) * unit).astype(np.float32)
    covariance = np.cov((noise * unit).T)
    made = Recording(
        data, "sensor", subject, task="story", run=f"{run:02d}", stimulus=f"story{run:02d}", time=np.arange(n) / HZ,
        names=names, unit="SI", sfreq=HZ, channel_types=types, positions=positions, noise_covariance=covariance,
    )  # fmt: skip
    return made, words


def ar1(rng, n, k, phi=0.6):
    found = rng.standard_normal((n, k))
    for t in range(1, n):
        found[t] = phi * found[t - 1] + np.sqrt(1 - phi**2) * found[t]
    return found


@cache
def listened(seed=0, n_train=3, n_test=1, strength=0.5, settings=SETTINGS):
    """Training and test stretches with their text."""
    made = [recording(seed, run, strength) for run in range(1, n_train + n_test + 1)]
    cut = [stretch(r, Rows("", 0, len(r.data)), words, settings) for r, words in made]
    return with_text(cut[:n_train], cut[n_train:], EMBEDDING, settings.text_hz)
