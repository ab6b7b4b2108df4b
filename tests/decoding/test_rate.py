"""Rate falls and distortion grows with beta; halves of the runs agree where there is signal, and only there."""

import numpy as np
import pytest
from scipy.stats import rankdata

from decoders.decoding.rate import agreement, halves_agreement, rate_distortion
from decoders.errors import InputError
from tests.decoding.test_bottleneck import MASK, PLANTED, SETTINGS, brain

SHORT = SETTINGS.model_copy(
    update={"epochs": 25, "folds": 2, "betas": (0.1, 100.0), "select_share": 0.08, "n_null_gates": 3}
)


def test_agreement_is_rank_correlation_and_dice():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 50))
    rho, dice = agreement(one, other, 0.2)
    assert rho == pytest.approx(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
    highest = [set(np.argsort(-values)[:10]) for values in (one, other)]
    assert dice == pytest.approx(len(highest[0] & highest[1]) / 10)
    assert agreement(one, one, 0.2) == (pytest.approx(1), 1)


def test_rate_falls_with_beta_and_the_map_is_the_same_gate():
    x, targets = brain()
    table = rate_distortion(x, targets, MASK, SHORT, 2.0, 0, PLANTED[MASK])
    assert table.beta.tolist() == [0.1, 10.0, 100.0]
    assert (np.diff(table.rate) < 0).all()
    assert table.distortion.iloc[-1] > table.distortion.iloc[1]
    chosen = table[table.beta == 10.0].iloc[0]
    assert (chosen.rho_to_map, chosen.dice_to_map) == (pytest.approx(1), 1)
    assert chosen.auc > 0.9


def test_halves_agree_above_the_equally_smooth_null():
    x, targets = brain(n_runs=8)
    table = halves_agreement(x, targets, MASK, SHORT, 2.0, 0, np.random.default_rng(0)).set_index("pairing")
    assert table.rho["data"] > table.rho["null"] + 0.2
    assert table.rho["data"] > table.rho["null_maximum"] > table.rho["null"]
    assert table.dice["data"] > table.dice["null"]
    assert table.n_runs["data"] == 4
    assert table.n_pairings.tolist() == [1, 3, 3]


def test_without_null_gates_the_halves_stand_alone():
    x, targets = brain(n_runs=4)
    alone = SHORT.model_copy(update={"n_null_gates": 0, "epochs": 1})
    table = halves_agreement(x, targets, MASK, alone, 2.0, 0, np.random.default_rng(0))
    assert table.pairing.tolist() == ["data"]


def test_without_signal_the_halves_agree_no_more_than_the_null():
    found = []
    for seed in range(3):
        x, targets = brain(seed, signal=0.0)
        table = halves_agreement(x, targets, MASK, SHORT, 2.0, 0, np.random.default_rng(0)).set_index("pairing")
        found.append(table.rho["data"] - table.rho["null"])
    assert abs(np.mean(found)) < 0.35


def test_halves_need_runs_for_their_folds():
    x, targets = brain(n_runs=3)
    with pytest.raises(InputError, match="one per fold"):
        halves_agreement(x, targets, MASK, SHORT, 2.0, 0, np.random.default_rng(0))
