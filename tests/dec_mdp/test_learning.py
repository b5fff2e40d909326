"""Exact updates."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.dec_mdp import generators, learning
from tf_marl.dec_mdp.generators import Instances
from tf_marl.dec_mdp.learning import Rule
from tf_marl.dec_mdp.statements import Case
from tf_marl.ops import total_variation

NO_CLIPPING = Rule("fixed", np.inf)


def test_with_one_agent_the_algorithms_are_one():
    mdp = learning.task("random", 1, 3, 0)
    ippo, *others = (learning.learn(mdp, name, [Rule("fixed", 0.2)], 2, 0) for name in learning.ALGORITHMS)
    for other in others:
        np.testing.assert_allclose(other.eta, ippo.eta, atol=1e-6)


@functools.cache
def first_update(algorithm, seed):
    """Returns the first update of two agents in eight Dec-MDPs, without clipping and with a clip range of 0.2."""
    mdp, rules = learning.task("random", 2, 8, 0), [NO_CLIPPING, Rule("fixed", 0.2)]
    policy = tf.constant(learning.learn(mdp, algorithm, rules, 1, seed).policy, tf.float64)
    return Case(Instances(generators.repeat(mdp, len(rules)), *policy))


def first_in_turn(seed):
    """Returns the agent that learns first in HAPPO's first update: the only one that moves as in MAPPO's.

    An agent's terms of MAPPO's objective do not depend on how the others change, and nothing reweights the first one's.
    """
    happo, mappo = (first_update(name, seed).new_policy for name in ("happo", "mappo"))
    same = np.isclose(happo, mappo, atol=1e-4).all(axis=(0, 2, 3))
    assert same.sum() == 1
    return int(np.argmax(same))


def turns(algorithm, seed):
    """Returns what the first and the second agent in HAPPO's order add to the joint surrogate, [B] each."""
    case, first = first_update(algorithm, seed), first_in_turn(seed)
    weight = case.states[..., None] * case.old.policy * case.old.advantage  # of a state and joint action
    before, after = case.ratio[..., first], case.ratio[..., 1 - first]
    return [np.sum(weight * term, axis=(1, 2)) for term in (before - 1.0, before * (after - 1.0))]


def test_one_agent_learns_after_the_other_in_an_order_that_depends_on_the_seed():
    assert {first_in_turn(seed) for seed in (0, 4)} == {0, 1}


def test_each_agent_in_its_turn_raises_the_joint_surrogate():
    first, second = turns("happo", 0)
    assert first.min() > 0
    assert second.min() > 0
    _, at_once = turns("mappo", 0)
    assert at_once.min() < -0.1


def test_what_agents_lose_by_moving_at_once_they_do_not_lose_one_after_another():
    mdp = learning.task("volunteer", 3, 8, 0)
    ippo, mappo, happo = (
        learning.learn(mdp, name, [NO_CLIPPING], 3, 0).lowered(np.ones(8)) for name in ("ippo", "mappo", "happo")
    )
    assert ippo.any()
    assert mappo.any()
    assert not happo.any()


def test_backtracking_holds_alpha_where_clipping_to_alpha_over_n_does_not():
    mdp = learning.task("volunteer", 3, 2, 0)
    history = learning.learn(mdp, "ippo", [Rule("per_agent", 0.1), Rule("backtrack", 0.1)], 3, 0)
    clipped, back = history.joint_tv[:, 0::2], history.joint_tv[:, 1::2]
    assert clipped.max() > 0.1
    assert 0 < back.max() <= 0.1 + 1e-6
    assert (history.eta[-1] > history.eta[0]).all()


def test_rules_give_the_clip_ranges_of_training():
    assert Rule("per_agent", 0.3).epsilon(3) == pytest.approx(0.1)
    assert Rule("fixed", 0.3).epsilon(3) == 0.3
    of_joint_tv = Rule("per_sqrt_agents", 0.3).epsilon(3)
    assert float(total_variation.joint_tv_bound_of_ratios(of_joint_tv, 3.0)) == pytest.approx(0.3)
    assert Rule("backtrack", 0.3).epsilon(3) == np.inf


def test_many_samples_come_near_the_exact_update():
    mdp = learning.task("random", 2, 2, 0)
    exact, sampled = (learning.learn(mdp, "mappo", [Rule("fixed", 0.2)], 1, 0, count) for count in (0, 50_000))
    np.testing.assert_array_equal(sampled.eta[0], exact.eta[0])
    np.testing.assert_allclose(sampled.eta[1] - exact.eta[0], exact.eta[1] - exact.eta[0], rtol=0.1, atol=0.005)


def test_what_lowers_the_return_is_counted():
    history = learning.History(
        np.zeros([3, 2, 1, 1, 2]), np.array([[0.0, 0.0], [1.0, -1e-9], [0.5, 0.0]]), *[np.zeros([2, 2])] * 3
    )
    np.testing.assert_array_equal(history.lowered(np.ones(2)), [[False, False], [True, False]])


def test_an_unknown_task_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="unknown task 'chess'; choose one of: random, climbing"):
        learning.task("chess", 2, 1, 0)
