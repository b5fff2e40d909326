"""The examples of docs/proofs.md, in fractions."""

from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.dec_mdp import falsify, generators
from tf_marl.dec_mdp.statements import READINGS, Case
from tf_marl.dec_mdp.statements.theorem_2 import REPAIRED_EPS, REPAIRED_SURROGATE


def slack(case: Case, name: str, stratum: str = "") -> float:
    (reading,) = [entry for entry in READINGS if entry.key[1:] == (name, stratum)]
    return float(reading.check(case).slack[0])


def test_two_agents_gain_alone_and_lose_together():
    mdp = generators.matrix_game(np.array([[0.0, 1.0], [1.0, 0.0]]))
    before, after = (np.log([[[1 - p, p]]] * 2) for p in (1 / 4, 3 / 4))
    case = Case(generators.Instances(mdp, tf.constant(before[None]), tf.constant(after[None])))
    assert float(case.gain[0]) == pytest.approx(0.0, abs=1e-12)
    assert float(case.independent_surrogate[0]) == pytest.approx(float(2 * (Fraction(5, 8) - Fraction(3, 8))))
    refuted = "surrogate: others old; alpha: largest joint TV; eps: joint"
    assert slack(case, refuted, "whole state, r(s, a)") == pytest.approx(-0.5)
    assert slack(case, REPAIRED_SURROGATE) >= 0.0


def switch_game() -> Case:
    """Returns two states in which what both agents do pays or costs, and makes the other sign of state likelier."""
    of_actions = np.array([-1.0, 0.0, 0.0, 1.0])  # of the joint actions (0, 0), (0, 1), (1, 0), (1, 1) in state +
    to_minus = np.array([0.0, 0.5, 0.5, 1.0])
    tables = {
        "probability": np.broadcast_to(np.stack([1 - to_minus, to_minus], axis=-1), [2, 4, 2]),
        "successor": np.broadcast_to(np.arange(2), [2, 4, 2]),
        "reward": np.stack([of_actions, -of_actions]),
        "start": np.array([0.5, 0.5]),
        "gamma": np.array(0.1),
        "observation": np.array([[0, 0], [1, 1]]),
        "old": np.full([2, 2, 2], 0.5),
        "new": np.broadcast_to([0.4, 0.6], [2, 2, 2]),
    }
    return Case(falsify.instances(tables))


def test_one_agent_s_advantage_is_too_small():
    case = switch_game()
    gamma, alpha, sum_tv = Fraction(1, 10), Fraction(9, 25) - Fraction(1, 4), Fraction(1, 5)
    penalty = 4 * Fraction(1, 2) * gamma / (1 - gamma) ** 2 * alpha**2
    repaired = penalty * sum_tv / alpha
    gain = Fraction(-1, 25) * gamma / (1 - gamma)
    assert (penalty, gain, repaired) == (Fraction(121, 40500), Fraction(-1, 225), Fraction(11, 2025))
    assert float(case.alpha[0]) == pytest.approx(float(alpha))
    assert float(case.new.eta[0] - case.old.eta[0]) == pytest.approx(float(gain))
    assert float(case.joint_surrogate(case.states)[0]) == pytest.approx(0.0, abs=1e-12)
    horizon = 1 - float(gamma)  # the checks multiply returns by it
    for surrogate in ("joint", "in sequence", "in sequence, any order"):
        name = f"surrogate: {surrogate}; alpha: largest joint TV; eps: in sequence"
        assert slack(case, name, "whole state, r(s, a)") == pytest.approx(horizon * float(penalty + gain))
    assert slack(case, REPAIRED_EPS) == pytest.approx(horizon * float(repaired + gain))
