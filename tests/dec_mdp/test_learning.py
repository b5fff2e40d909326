"""Exact updates."""

import numpy as np
import pytest

from tf_marl.dec_mdp import learning
from tf_marl.dec_mdp.learning import Rule


def test_with_one_agent_the_algorithms_are_one():
    mdp = learning.task("random", 1, 3, 0)
    ippo, *others = (learning.learn(mdp, name, [Rule("fixed", 0.2)], 2, 0) for name in learning.ALGORITHMS)
    for other in others:
        np.testing.assert_allclose(other.eta, ippo.eta, atol=1e-6)


def test_backtracking_holds_alpha_where_clipping_to_alpha_over_n_does_not():
    mdp = learning.task("volunteer", 3, 2, 0)
    history = learning.learn(mdp, "ippo", [Rule("per_agent", 0.1), Rule("backtrack", 0.1)], 3, 0)
    clipped, back = history.joint_tv[:, 0::2], history.joint_tv[:, 1::2]
    assert clipped.max() > 0.1
    assert 0 < back.max() <= 0.1 + 1e-6
    assert (history.eta[-1] > history.eta[0]).all()


def test_alpha_over_n_is_the_clip_range_of_training():
    assert Rule("per_agent", 0.3).epsilon(3) == pytest.approx(0.1)
    assert Rule("fixed", 0.3).epsilon(3) == 0.3
    assert Rule("backtrack", 0.3).epsilon(3) == np.inf


def test_many_samples_come_near_the_exact_update():
    mdp = learning.task("random", 2, 2, 0)
    exact, sampled = (learning.learn(mdp, "mappo", [Rule("fixed", 0.2)], 1, 0, count) for count in (0, 50_000))
    np.testing.assert_array_equal(sampled.eta[0], exact.eta[0])
    np.testing.assert_allclose(sampled.eta[1] - exact.eta[0], exact.eta[1] - exact.eta[0], rtol=0.1, atol=0.005)


def test_what_lowers_the_return_is_counted():
    history = learning.History(np.array([[0.0, 0.0], [1.0, -1e-9], [0.5, 0.0]]), *[np.zeros([2, 2])] * 3)
    np.testing.assert_array_equal(history.lowered(np.ones(2)), [[False, False], [True, False]])


def test_an_unknown_task_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="unknown task 'chess'; choose one of: random, climbing"):
        learning.task("chess", 2, 1, 0)
