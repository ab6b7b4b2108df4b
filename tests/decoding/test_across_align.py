"""Maps from one person's voxels to another's recover planted rotations; each check has a bug that it must notice."""

import numpy as np
import pytest
from made_up_people import COMMON, MASK, newcomer, others, person, rotation, stories

from decoders.decoding import across_align, across_methods
from decoders.decoding.across_align import (
    common_template,
    map_to_template,
    pieces,
    principal_axes,
    ridge_between,
    rotation_to,
)
from decoders.decoding.across_people import shared_rows, smooth_rows
from decoders.decoding.maps import smooth_in_mask
from decoders.errors import InputError


def test_a_planted_rotation_is_recovered():
    source, turn = np.random.default_rng(0).standard_normal((200, 12)), rotation(12, 1)
    assert np.allclose(rotation_to(source, source @ turn), turn, atol=1e-10)
    # The bug: the rotation the other way round.
    assert not np.allclose(rotation_to(source @ turn, source), turn, atol=0.1)


def test_a_narrow_source_gets_orthonormal_rows():
    rng = np.random.default_rng(0)
    turn = rotation_to(rng.standard_normal((50, 3)), rng.standard_normal((50, 8)))
    assert turn.shape == (3, 8)
    assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-10)


def aligned(turns, n=12, noise=0.1):
    """Planted people and a new one: common courses, in the spaces of 30 voxels each."""
    rng = np.random.default_rng(3)
    course = rng.standard_normal((300, n)) * np.linspace(3, 1, n)
    return course, [course @ turn[:n] + noise * rng.standard_normal((300, 30)) for turn in turns]


def test_hyperalignment_brings_planted_rotations_together():
    _, people = aligned([rotation(30, seed) for seed in range(4)])
    template = common_template(people[:3], 12)
    spaces = [x @ turn for x, turn in zip(people, template.maps, strict=False)]
    new = people[3] @ map_to_template(people[3][:100], template.course[:100])
    for space in (*spaces, new):
        assert np.corrcoef(space[100:].ravel(), template.course[100:].ravel())[0, 1] > 0.98
    # The bug: components without the rotation.
    plain = people[3] @ principal_axes(people[3], 12)
    assert abs(np.corrcoef(plain[100:].ravel(), template.course[100:].ravel())[0, 1]) < 0.9


def test_without_rotation_hyperalignment_fails(monkeypatch):
    _, people = aligned([rotation(30, seed) for seed in range(4)])
    monkeypatch.setattr(across_align, "rotation_to", lambda source, target: np.eye(source.shape[1])[:, ::-1])
    with pytest.raises(AssertionError):
        test_hyperalignment_brings_planted_rotations_together()
    del people


def test_ridge_between_people_recovers_the_map():
    _, (a, b) = aligned([rotation(30, 1), rotation(30, 2)], noise=0.3)
    model = ridge_between([a[:75], a[75:150]], [b[:75], b[75:150]])
    assert np.corrcoef(model.predict(a[150:]).ravel(), b[150:].ravel())[0, 1] > 0.95
    wrong = ridge_between([a[:75], a[75:150]], [b[75:150], b[:75]])  # the bug: other moments
    assert abs(np.corrcoef(wrong.predict(a[150:]).ravel(), b[150:].ravel())[0, 1]) < 0.3


def test_a_single_run_is_cut_for_its_inner_folds():
    parts = pieces([np.arange(10)[:, None]], 4)
    assert [len(part) for part in parts] == [3, 3, 2, 2]
    assert np.array_equal(np.concatenate(parts)[:, 0], np.arange(10))
    assert len(pieces([np.zeros((4, 1))] * 5, 4)) == 5


def test_smoothing_of_many_maps_is_that_of_one():
    mask = np.random.default_rng(0).random((6, 7, 5)) > 0.2
    values = np.random.default_rng(1).standard_normal((3, mask.sum()))
    expected = [smooth_in_mask(row, mask, 1.3) for row in values]
    assert np.allclose(smooth_rows(values, mask, 1.3), expected, atol=1e-5)


def test_runs_are_matched_by_what_they_tell():
    a, b = person(np.eye(27)), person(np.eye(27))
    swapped = type(b)(b.x[::-1], b.targets[::-1], list(b.told)[::-1], b.voxels)
    assert shared_rows([a, swapped]) == [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]]
    later = type(b)(b.x, b.targets, [(name, 10.0, n) for name, _, n in b.told], b.voxels)
    assert shared_rows([a, later]) == [[], []]


@pytest.mark.parametrize("method", ["ridge_to_reference", "hyperalignment"])
def test_without_shared_stories_a_sentence_is_given(method):
    given, _, _ = newcomer(2)
    told = [("another story", 0.0, 60), ("and another", 0.0, 60)]
    elsewhere = across_methods.Given(
        type(given.person)(given.person.x, given.person.targets, told, given.person.voxels), None
    )
    with pytest.raises(InputError, match="align"):
        across_methods.METHODS[method](others(), elsewhere)


def correlation(decode, x, texts):
    read = np.concatenate([decode(run) for run in x])
    true = np.concatenate([text[: len(run) - 4] for text, run in zip(texts, x, strict=True)])
    return np.corrcoef(read.ravel(), true.ravel())[0, 1]


@pytest.mark.parametrize("method", ["ridge_to_reference", "hyperalignment", "shared"])
def test_a_rotated_person_is_read_with_few_runs(method):
    """Voxels of the new person are a rotation of the others': nothing reads them as they are, every map does."""
    given, x, texts = newcomer(2, noise=0.5)
    known = others(noise=0.5)
    unadapted = [correlation(decode, x, texts) for decode in known.own]
    assert max(unadapted) < 0.4
    assert correlation(across_methods.METHODS[method](known, given), x, texts) > 0.6


def test_pooling_reads_people_who_are_alike_and_no_others():
    turn = rotation(27, 4)
    known = across_methods.Others([person(turn, seed=i) for i in range(2)], np.arange(27), COMMON, others().settings, 0)
    texts = stories(9)
    from made_up_people import listener

    alike = listener(texts, turn, 1.0, 77)[6:]
    rotated = listener(texts, rotation(27, 50), 1.0, 77)[6:]
    # Smoothing in space would mix voxels that stand for nothing near each other here.
    known._smoothed = lambda run: run  # type: ignore[method-assign]
    assert correlation(known.pooled, alike, texts[6:]) > 0.6
    assert correlation(known.pooled, rotated, texts[6:]) < 0.3
    assert MASK.all()
