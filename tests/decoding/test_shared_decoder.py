"""The shared decoder: edits that change nothing at the start, gradients that are reversed, and a person who is added."""

import numpy as np
import pytest
import torch
from made_up_people import LAGS, others

from decoders.decoding import shared_training
from decoders.decoding.shared_decoder import ScaleBias, SharedDecoder, Sizes, Teller, reverse_gradient
from decoders.decoding.shared_training import Training, add_person, train_shared
from decoders.errors import InputError

SIZES = Sizes(10, 3, 5, 6, (1, 2, 3))


VOXELS = (np.arange(4), np.arange(2, 9))


def model(voxels=VOXELS):
    return SharedDecoder(SIZES, voxels, torch.Generator().manual_seed(0))


def generator():
    return torch.Generator().manual_seed(1)


def test_edits_change_nothing_at_the_start():
    edit, h = ScaleBias(3, 7), torch.randn(5, 7, generator=generator())
    assert all(torch.equal(edit(h, person), h) for person in (None, 0, 1, 2))
    fresh, x = model(), torch.randn(20, 4, generator=generator())
    last = 3
    plain = x @ fresh.grid[:4]
    lagged = torch.cat([plain[lag : 20 - last + lag] for lag in (1, 2, 3)], 1)
    # At the start: a linear decoder of the lags, by the weights of the common grid.
    assert torch.allclose(fresh(x, 0), lagged @ fresh.time @ fresh.out, atol=1e-6)


def test_a_person_costs_two_numbers_per_unit_and_a_front_end():
    one, two = model((np.arange(4),)), model((np.arange(4), np.arange(7)))
    n_parameters = [sum(p.numel() for p in m.parameters()) for m in (one, two)]
    units = SIZES.width + 2 * SIZES.hidden + SIZES.n_targets
    assert n_parameters[1] - n_parameters[0] == 2 * units + 7 * SIZES.width
    assert sum(p.numel() for p in one.edits.parameters()) == 2 * units


def test_the_reversed_gradient_is_minus_the_weight_times_the_gradient():
    h = torch.randn(6, 4, dtype=torch.float64, generator=generator(), requires_grad=True)
    weight = torch.randn(4, dtype=torch.float64, generator=generator())
    assert torch.equal(reverse_gradient(h, 0.7), h)
    plain = torch.autograd.grad((h @ weight).tanh().sum(), h)[0]
    reverse = torch.autograd.grad((reverse_gradient(h, 0.7) @ weight).tanh().sum(), h)[0]
    assert torch.allclose(reverse, -0.7 * plain, atol=0, rtol=1e-15)


def test_the_new_person_starts_as_the_mean_of_the_others():
    old = model()
    with torch.no_grad():
        for edit in old.edits:
            edit.scale.normal_(generator=generator())
            edit.bias.normal_(generator=generator())
    front = torch.randn(3, SIZES.width, generator=generator())
    more, x = old.with_one_more(np.array([1, 5, 6]), front), torch.randn(20, 3, generator=generator())
    assert torch.allclose(more(x, 2), old(x, None, front), atol=1e-5)
    own = torch.randn(20, 4, generator=generator())
    assert torch.equal(more(own, 0), old(own, 0))


def test_the_mean_front_counts_unread_voxels_as_zero():
    fresh = model()
    mean = fresh.mean_front(lambda maps: maps)
    grid = fresh.grid.detach()
    assert torch.allclose(mean[:2], grid[:2] / 2)
    assert torch.allclose(mean[2:4], grid[2:4])
    assert not mean[9].any()


def test_adapting_leaves_the_shared_network_and_the_others_as_they_are():
    old = model()
    before = {name: value.clone() for name, value in old.state_dict().items()}
    rng = np.random.default_rng(0)
    x, text = [rng.standard_normal((30, 10))], [rng.standard_normal((30, 3))]
    more, person = add_person(old, x, text, np.array([0, 3, 9]), Training(1), lambda maps: maps, 0)
    assert all(torch.equal(value, before[name]) for name, value in old.state_dict().items())
    for name in ("grid", "time", "up", "down", "out"):
        assert torch.equal(getattr(more, name), getattr(old, name))
    assert all(torch.equal(a.scale[:2], b.scale) for a, b in zip(more.edits, old.edits, strict=True))
    assert not torch.equal(more.edits[0].scale[person], old.edits[0].scale.mean(0))


def test_the_pull_holds_the_new_person_at_the_mean():
    rng = np.random.default_rng(0)
    x, text = [rng.standard_normal((30, 10))], [rng.standard_normal((30, 3))]

    def moved(pull):
        more, person = add_person(model(), x, text, np.array([0, 3]), Training(1, pull=pull), lambda maps: maps, 0)
        start = model().mean_front(lambda maps: maps)[[0, 3]]
        return (more.front(person) - start).square().sum().item()

    assert moved(1e4) < 0.1 * moved(0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_the_training(value):
    x, text = [np.full((30, 10), value)], [np.zeros((30, 3))]
    with pytest.raises(InputError, match="a finite loss of the network across people"):
        add_person(model(), x, text, np.array([0, 3]), Training(1), lambda maps: maps, 0)
    sizes = Sizes(10, 3, 4, 8, LAGS)
    with pytest.raises(InputError, match="a finite loss of the network across people"):
        train_shared([x], [text], [np.array([0, 3])], sizes, Training(1), 0)


def test_a_seed_gives_the_same_weights():
    people = others().people
    sizes = Sizes(27, 4, 4, 8, LAGS)
    fits = [
        train_shared(
            [p.x for p in people], [p.targets for p in people], [p.voxels for p in people], sizes, Training(2), 3
        )
        for _ in range(2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(fits[0].parameters(), fits[1].parameters(), strict=True))


def told_apart(reversal):
    """How well a fresh network tells whose shared features are, after training with reversed gradients of a weight."""
    # One person's answers are twice as strong: the features tell people apart by their spread.
    people = others(noise=0.3).people
    x = [people[0].x, [3 * run for run in people[1].x]]
    sizes = Sizes(27, 4, 6, 8, LAGS)
    voxels = [p.voxels for p in people]
    fitted = train_shared(x, [p.targets for p in people], voxels, sizes, Training(60, reversal), 0)
    with torch.no_grad():
        h = [torch.cat([fitted.shared(torch.from_numpy(run), i) for run in runs]) for i, runs in enumerate(x)]
    teller = Teller(8, 2, generator())
    optimizer = torch.optim.Adam(teller.parameters(), lr=1e-2)
    train, test = [part[::2] for part in h], [part[1::2] for part in h]
    for _ in range(200):
        loss = sum(teller.loss(part, i) for i, part in enumerate(train))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(np.mean([(teller(part).argmax(1) == i).float().mean() for i, part in enumerate(test)]))


def test_reversed_gradients_make_people_harder_to_tell_apart():
    plain, reverse = told_apart(0.0), told_apart(0.3)
    assert plain > reverse + 0.05, (plain, reverse)


def test_a_gradient_that_is_not_reversed_is_noticed(monkeypatch):
    plain = told_apart(0.0)
    monkeypatch.setattr(shared_training, "reverse_gradient", lambda h, weight: weight * h)
    assert told_apart(0.3) > plain - 0.05, "the check above would pass without any reversal"


@pytest.mark.parametrize("n", [1, 3])
def test_a_run_loses_only_the_moments_whose_answer_lies_beyond_it(n):
    assert model()(torch.zeros(10 + n, 4), 0).shape == (7 + n, 3)
