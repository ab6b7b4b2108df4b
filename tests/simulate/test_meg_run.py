import numpy as np
import pytest
from pydantic import ValidationError
from scipy.signal import welch
from scipy.spatial.distance import pdist

from decoders.config import PhantomSettings
from decoders.config.phantom_meg import PhantomMegSettings
from decoders.errors import InputError
from decoders.simulate.meg_artefacts import ECG_V, EOG_V
from decoders.simulate.meg_courses import raised_cosine, superpose
from decoders.simulate.meg_dipoles import TEMPORAL, VENTRAL, VISUAL
from decoders.simulate.meg_head import magnetometers
from decoders.simulate.meg_noise import noise_covariance, sensor_density, white_levels
from decoders.simulate.meg_run import draw_meg_run
from decoders.simulate.meg_sources import draw_sources
from decoders.simulate.meg_tasks import CATCH, FIRST_PICTURE, picture_codes
from decoders.simulate.meg_truth import channel_table, source_table
from decoders.simulate.pictures import draw_pictures, picture_features
from decoders.simulate.story import draw_stories

MEG = PhantomMegSettings(repeats=2, story_subjects=1, story_runs=1, story_s=40.0, head_shift_mm=0.0)
SETTINGS = PhantomSettings(story_runs=3, n_pictures=12, meg=MEG)
SHOWN = draw_pictures(SETTINGS)


def _changed(**changes):
    return SETTINGS.model_copy(update={"meg": MEG.model_copy(update=changes)})


@pytest.fixture(scope="module")
def pictures():
    return draw_meg_run(SETTINGS, "pictures")


@pytest.fixture(scope="module")
def story():
    return draw_meg_run(SETTINGS, "story")


def _epochs(run, data, kind=None, before=0.0, after=0.45):
    """Return the noise-free trials of one kind of event, (n, channels, times)."""
    sfreq = run.info["sfreq"]
    at = run.events["sample"][run.events["trial_type"] == kind] if kind else run.events["sample"]
    first, last = round(before * sfreq), round(after * sfreq)
    return np.stack([data[:, sample + first : sample + last] for sample in at])


def test_a_bump_has_its_onset_and_peak():
    times = np.arange(-100, 500) / 1000
    bump = raised_cosine(times, 0.065, 0.1, 0.22)
    assert times[np.flatnonzero(bump > 0)[0]] == pytest.approx(0.066)
    assert times[bump.argmax()] == 0.1
    assert bump.max() == 1
    assert (bump[times >= 0.22] == 0).all()


def test_sums_over_events_are_evaluated_between_samples():
    times = np.arange(200) / 100
    kernel = lambda t: raised_cosine(t, 0.05, 0.1, 0.3)  # noqa: E731
    events, values = np.array([0.203, 0.3171]), np.array([[1.0], [2.0]])
    expected = kernel(times - 0.203) + 2 * kernel(times - 0.3171)
    np.testing.assert_allclose(superpose(times, events, values, kernel, (0.05, 0.3))[0], expected, atol=1e-15)


def test_planted_latencies_are_read_off_the_evoked_response(pictures):
    truth = source_table(SETTINGS, "pictures", 0).drop_duplicates("source").set_index("source")
    times = np.arange(round(0.45 * 250)) / 250
    for name in ("visual", "ventral"):
        strength = _epochs(pictures, pictures.parts[name].data, SHOWN.names[0]).std(axis=1)[0]
        onset = times[np.flatnonzero(strength > 1e-6 * strength.max())[0]]
        assert 0 <= onset - truth["onset_s"][name] < 1 / 250 + 0.002
        assert abs(times[strength.argmax()] - truth["peak_s"][name]) <= 0.5 / 250 + 1e-9
    assert truth["peak_s"]["visual"] == pytest.approx(VISUAL.peak_s, abs=2 * MEG.jitter_s)
    assert truth["peak_s"]["ventral"] == pytest.approx(VENTRAL.peak_s, abs=2 * MEG.jitter_s)


def _patterns(run, part, peak):
    shape = lambda name: _epochs(run, run.parts[part].data, name, peak, peak + 0.004).mean(axis=(0, 2))  # noqa: E731
    return np.stack([shape(name) for name in SHOWN.names])


@pytest.mark.parametrize(("part", "patch", "number"), [("visual", VISUAL, 0), ("ventral", VENTRAL, 1)])
def test_distances_between_evoked_patterns_are_the_planted_geometry(pictures, part, patch, number):
    peak = patch.peak_s - patch.peak_s % 0.004
    patterns = _patterns(pictures, part, peak)
    covariance = noise_covariance(SETTINGS, 0)
    white = patterns @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    planted = pdist(picture_codes(SHOWN)[number], "sqeuclidean")
    assert np.corrcoef(pdist(white, "sqeuclidean"), planted)[0, 1] > 0.999
    assert np.corrcoef(planted, pdist(picture_features(SHOWN)[number], "sqeuclidean"))[0, 1] > 0.99
    other = pdist(picture_codes(SHOWN)[1 - number], "sqeuclidean")
    # The mutant: geometries swapped.
    assert np.corrcoef(pdist(white, "sqeuclidean"), other)[0, 1] < 0.5
    # d' of the settings at the peak.
    centred = white - white.mean(axis=0)
    assert np.sqrt((centred**2).sum(axis=1).mean()) == pytest.approx(MEG.geometry_snr, rel=0.1)


def test_people_share_the_geometry_and_not_the_patterns():
    one, two = (draw_sources(SETTINGS, "pictures", subject)[0] for subject in (0, 1))
    assert abs(np.corrcoef(one.weights[:, 0], two.weights[:, 0])[0, 1]) < 0.8
    assert one.peak_s != two.peak_s


@pytest.mark.parametrize("null", ["geometry", "response"])
def test_a_null_has_no_geometry(null):
    run = draw_meg_run(_changed(null=null), "pictures")
    trials = _epochs(run, run.evoked)
    shown = trials[run.events["value"].to_numpy() >= FIRST_PICTURE]
    # Sample positions agree to rounding: all pictures evoke the same.
    assert np.abs(shown - shown[0]).max() <= 1e-9 * max(np.abs(shown).max(), 1e-30)
    assert (np.abs(shown).max() > 0) == (null == "geometry")


def test_sensor_noise_has_its_spectrum(pictures):
    good = np.setdiff1d(np.arange(306), pictures.noisy)
    frequencies, density = welch(pictures.sensor_noise[good].astype(float), 250.0, nperseg=1000)
    relative = density / white_levels(SETTINGS)[good, None] ** 2
    for low, high in ((2, 5), (8, 30), (60, 110)):
        band = (frequencies >= low) & (frequencies <= high)
        assert relative[:, band].mean() == pytest.approx(sensor_density(frequencies[band]).mean(), rel=0.05)


def test_brain_noise_has_its_level_and_covariance():
    run = draw_meg_run(_changed(repeats=8), "pictures")
    frequencies, density = welch(run.parts["brain"].data[magnetometers()], 250.0, nperseg=1000)
    at = (frequencies >= 9) & (frequencies <= 11)
    assert np.sqrt(np.median(density[:, at].mean(axis=1))) == pytest.approx(MEG.brain_noise * 1e-15, rel=0.1)
    rows = np.setdiff1d(np.arange(306), np.concatenate([run.flat, run.noisy]))
    measured = np.cov((run.brain_noise + run.sensor_noise)[rows])
    planned = noise_covariance(SETTINGS, 0)[np.ix_(rows, rows)]
    assert np.median(np.diag(measured) / np.diag(planned)) == pytest.approx(1, abs=0.1)
    assert np.corrcoef(measured.ravel(), planned.ravel())[0, 1] > 0.97


def test_parts_add_up_and_each_has_a_stream_of_its_own(pictures):
    total = pictures.clean + pictures.sum_of("blinks", "heart", "line")
    alive = np.setdiff1d(np.arange(306), pictures.flat)
    np.testing.assert_allclose(pictures.data[alive], total[alive], atol=1e-18)
    assert (pictures.data[pictures.flat] == 0).all()
    without = draw_meg_run(_changed(blinks_per_s=0.0, line_hz=None), "pictures")
    np.testing.assert_array_equal(without.clean, pictures.clean)
    assert not without.sum_of("blinks", "line").any()


def test_artefacts_are_of_the_size_that_was_asked_for(pictures):
    mags = magnetometers()
    line = pictures.parts["line"].data[mags]
    assert np.sqrt((line**2).mean()) == pytest.approx(MEG.line * 1e-15, rel=0.4)
    frequencies, density = welch(line, 250.0, nperseg=1000)
    peaks = frequencies[np.argsort(density.mean(axis=0))[-3:]]
    assert np.abs(peaks - 50).max() <= 0.5
    blinks = pictures.parts["blinks"]
    course = blinks.courses[0]
    assert pictures.eog @ course / (course @ course) == pytest.approx(EOG_V, rel=0.15)
    beat = pictures.parts["heart"].courses[0]
    assert pictures.ecg @ beat / (beat @ beat) == pytest.approx(ECG_V, rel=0.15)
    assert np.abs(pictures.parts["heart"].fields[mags]).max() == pytest.approx(MEG.heart * 1e-15)
    beats = np.flatnonzero(np.diff((pictures.parts["heart"].courses[0] > 0.5).astype(int)) == 1)
    assert np.diff(beats).mean() / 250 == pytest.approx(0.85, abs=0.03)


def test_events_and_triggers_tell_the_same(pictures, story):
    for run in (pictures, story):
        channel = run.timeline.triggers(250.0)
        rise = np.flatnonzero((np.diff(channel, prepend=0) != 0) & (channel > 0))
        sent = run.events.dropna(subset="value")
        np.testing.assert_array_equal(rise, sent["sample"])
        np.testing.assert_array_equal(channel[rise], sent["value"].astype(float))
        assert np.abs(run.events["sample"] / 250 - run.events["onset"]).max() <= 0.5 / 250 + 1e-9
    shown = pictures.events[pictures.events["value"] >= FIRST_PICTURE]
    assert (shown["trial_type"].value_counts() == 2).all()
    assert [SHOWN.names[v - FIRST_PICTURE] for v in shown["value"]] == list(shown["trial_type"])
    assert (pictures.events["value"] == CATCH).sum() == 2


def test_words_evoke_what_their_vectors_say(story):
    """Taking the answer of the temporal source apart gives back a linear map of the words' vectors."""
    source = draw_sources(SETTINGS, "story", 0)[2]
    assert source.patch is TEMPORAL
    words = story.events[story.events["trial_type"] == "word"]
    onsets, times = words["onset"].to_numpy(), np.arange(story.timeline.n_times) / 250
    design = superpose(times, onsets, np.eye(len(words)), source.course, (source.onset_s, source.end_s))
    moments = np.linalg.lstsq(design.T, story.parts["temporal"].courses.T, rcond=None)[0] - source.shared
    vectors = draw_stories(SETTINGS).embedding
    looked = np.column_stack([np.ones(len(words)), vectors.lookup(tuple(words["word"]))])
    fitted = looked @ np.linalg.lstsq(looked, moments, rcond=None)[0]
    assert ((moments - fitted) ** 2).sum() < 1e-4 * (moments**2).sum()


def test_planted_channels_are_those_that_tell_pictures_apart(pictures):
    table = channel_table(SETTINGS, "pictures", 0)
    assert 10 < table["planted"].sum() < 200
    noise = np.sqrt(np.diag(noise_covariance(SETTINGS, 0)))
    spread = np.max([_patterns(pictures, p, k).std(axis=0) for p, k in (("visual", 0.1), ("ventral", 0.172))], axis=0)
    alive = np.setdiff1d(np.arange(306), np.concatenate([pictures.flat, pictures.noisy]))
    planted = table["planted"].to_numpy().astype(bool)[alive]
    ranks = (spread / noise)[alive].argsort().argsort()
    auc = (ranks[planted].sum() - planted.sum() * (planted.sum() - 1) / 2) / (planted.sum() * (~planted).sum())
    assert auc > 0.95
    assert not table["planted"].to_numpy()[np.concatenate([pictures.flat, pictures.noisy])].any()


def test_settings_that_cannot_be_are_sentences():
    with pytest.raises(ValidationError, match="less than 150 Hz"):
        PhantomMegSettings(sfreq=100.0)
    with pytest.raises(ValidationError, match="neither 50 nor 60"):
        PhantomMegSettings(line_hz=55.0)
    with pytest.raises(InputError, match=r"data\.phantom\.meg\.story_runs"):
        draw_meg_run(_changed(story_runs=4), "story")
    with pytest.raises(InputError, match=r"data\.phantom\.meg"):
        draw_meg_run(PhantomSettings(), "pictures")
