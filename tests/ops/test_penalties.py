"""Penalties: sums over steps, their order, and that they hold in Dec-MDPs that are solved exactly."""

import itertools

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from tf_marl.dec_mdp import exact, generators
from tf_marl.dec_mdp.statements import Case
from tf_marl.ops import penalties

STEPS = np.arange(20_000)
TVS = strategies.lists(strategies.floats(0.0, 1.0), min_size=1, max_size=27)
GAMMAS = strategies.sampled_from([0.0, 0.5, 0.9, 0.99])


def step_by_step(advantage_max, alpha, unlike, gamma):
    """4 max|A| alpha (1 - (1 - S)^t) over all discounted steps, of one agent."""
    return 4 * advantage_max * alpha * np.sum(gamma**STEPS * (1 - (1 - min(unlike, 1.0)) ** STEPS))


def of(tvs):
    return tf.constant(tvs, tf.float64)


@pytest.mark.parametrize("tvs", [[0.1], [0.1, 0.3], [0.2, 0.0, 0.05], [0.9, 0.8, 0.7]])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99])
def test_penalties_are_sums_over_discounted_steps(tvs, gamma):
    expected = {
        penalties.happo_penalty: sum(step_by_step(2.0, tv, sum(tvs), gamma) for tv in tvs),
        penalties.a2po_penalty: sum(step_by_step(2.0, tv, sum(tvs[: k + 1]), gamma) for k, tv in enumerate(tvs)),
        penalties.mappo_penalty: sum(4 * 2.0 * tv / (1 - gamma) for tv in tvs),
    }
    for penalty, value in expected.items():
        np.testing.assert_allclose(penalty(2.0, of(tvs), gamma), value, rtol=1e-9, atol=1e-12)


def test_penalties_worked_by_hand():
    # 1 / (1 - 0.5) - 1 / (1 - 0.5 x 0.9) = 2 - 1 / 0.55, and 2 - 1 / (1 - 0.5 x 0.8) = 2 - 1 / 0.6
    first, both = 2 - 1 / 0.55, 2 - 1 / 0.6
    assert float(penalties.a2po_penalty(3.0, of([0.1, 0.1]), 0.5)) == pytest.approx(12 * 0.1 * (first + both))
    assert float(penalties.happo_penalty(3.0, of([0.1, 0.1]), 0.5)) == pytest.approx(12 * 0.1 * (both + both))
    assert float(penalties.mappo_penalty(3.0, of([0.1, 0.1]), 0.5)) == pytest.approx(12 * (0.1 + 0.1) / 0.5)
    assert float(penalties.joint_penalty(3.0, of(0.15), 0.5)) == pytest.approx(12 * 0.5 / 0.5**2 * 0.15**2)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(tvs=TVS, gamma=GAMMAS)
def test_a2po_is_at_most_happo_and_happo_at_most_mappo(tvs, gamma):
    a2po, happo, mappo = (
        float(penalty(2.0, of(tvs), gamma))
        for penalty in (penalties.a2po_penalty, penalties.happo_penalty, penalties.mappo_penalty)
    )
    assert 0.0 <= a2po <= happo * (1 + 1e-9) <= mappo * (1 + 2e-9)
    if len(tvs) == 1:
        assert a2po == happo
    # A team that counts as one agent has the penalty of Theorem 2 but for its last rounding.
    alpha = of([min(sum(tvs), 1.0)])
    as_one = penalties.happo_penalty(2.0, alpha, gamma) * (1 + gamma * alpha[0] / (1 - gamma))
    np.testing.assert_allclose(penalties.joint_penalty(2.0, alpha[0], gamma), as_one, rtol=1e-9)


def test_small_changes_do_not_cancel():
    tiny = penalties.happo_penalty(tf.constant(1.0), tf.constant([1e-6]), 0.99)
    np.testing.assert_allclose(tiny, step_by_step(1.0, 1e-6, 1e-6, 0.99), rtol=1e-4)


@pytest.mark.parametrize("agents", [1, 2, 3])
def test_penalties_hold_in_exact_dec_mdps(agents, rng):
    structure = generators.structure(rng, agents, 2, 2, False, None)
    case = Case(generators.realise(structure, generators.points(rng, structure, 2, 16)))
    # The teams on the way from the old policy to the new one, agent by agent.
    teams = [tf.concat([case.new_team[..., :k, :], case.old_team[..., k:, :]], axis=-2) for k in range(agents + 1)]
    ways = [exact.evaluate(case.mdp, team) for team in teams]
    gain = (ways[-1].eta - ways[0].eta).numpy()
    joint, independent = (
        surrogate.numpy() / case.horizon.numpy()
        for surrogate in (case.joint_surrogate(case.states), case.independent_surrogate)
    )
    a2po = sum(
        tf.reduce_sum(ways[0].visits[..., None] * after.policy * before.advantage, axis=[1, 2]).numpy()
        for before, after in itertools.pairwise(ways)
    )
    largest = case.advantage_max.numpy()
    on_the_way = np.max([tf.reduce_max(tf.abs(way.advantage), axis=[1, 2]) for way in ways[:-1]], axis=0)
    for b, gamma in enumerate(case.mdp.gamma.numpy()):
        tvs, alpha = case.agent_tv_max[b], case.alpha[b]
        assert abs(gain[b] - joint[b]) <= penalties.joint_penalty(largest[b], alpha, gamma) + 1e-9
        assert abs(gain[b] - joint[b]) <= penalties.happo_penalty(largest[b], alpha[None], gamma) + 1e-9
        assert abs(gain[b] - joint[b]) <= penalties.happo_penalty(largest[b], tvs, gamma) + 1e-9
        assert abs(gain[b] - a2po[b]) <= penalties.a2po_penalty(on_the_way[b], tvs, gamma) + 1e-9
        of_mappo = penalties.mappo_penalty(largest[b], tvs, gamma) + 1e-9
        assert max(2 * abs(gain[b]), 2 * abs(independent[b]), abs(gain[b] - independent[b])) <= of_mappo
        # What the certificate calls trivial is below the gain, and no surrogate is above its opposite.
        most = min(1.0, 2.0 * float(alpha)) * largest[b] / (1.0 - gamma) + 1e-9
        assert max(-gain[b], joint[b]) <= most
