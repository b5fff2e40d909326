"""Exact evaluation, against arithmetic by hand and loops in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tf_marl.dec_mdp import exact, generators, model
from tf_marl.dec_mdp.statements import Case
from tf_marl.ops import surrogate


@pytest.fixture
def two_states():
    """At state 0: action 0 stays and pays 1, action 1 leaves for state 1 and pays 0; state 1 pays 2 for ever."""
    return model.check(
        model.DecMDP(
            probability=tf.ones([1, 2, 2, 1], tf.float64),
            successor=np.array([[[0], [1]], [[1], [1]]]),
            reward=tf.constant([[[1.0, 0.0], [2.0, 2.0]]], tf.float64),
            start=tf.constant([[1.0, 0.0]], tf.float64),
            gamma=tf.constant([0.5], tf.float64),
            observation=np.array([[0], [1]]),
        )
    )


def test_two_states_by_hand(two_states):
    team = model.team_logits(two_states, tf.zeros([1, 1, 2, 2], tf.float64))  # both actions alike
    evaluation = exact.evaluate(two_states, team)
    # V(1) = 2 / (1 - 1/2) = 4; V(0) = 1/2 (1 + V(0) / 2) + 1/2 (0 + 4 / 2), so V(0) = 2
    np.testing.assert_allclose(evaluation.value[0], [2.0, 4.0])
    assert float(evaluation.eta[0]) == pytest.approx(2.0)
    # Q(0, stay) = 1 + 2 / 2 = 2 and Q(0, leave) = 0 + 4 / 2 = 2
    np.testing.assert_allclose(evaluation.advantage[0], np.zeros([2, 2]), atol=1e-14)
    # rho(0) = 1 + 1/4 + 1/16 + ... = 4/3, and both add up to 1 / (1 - gamma) = 2
    np.testing.assert_allclose(evaluation.visits[0], [4 / 3, 2 / 3])


@pytest.mark.parametrize(("whole", "branches"), [(False, None), (False, 2), (True, 1)])
def test_evaluation_matches_loops(whole, branches, draw):
    mdp, policy, _ = draw(1, agents=3, actions=2, local_states=2, whole=whole, branches=branches, batch=2)
    mdp = mdp._replace(gamma=tf.constant([0.3, 0.7], tf.float64))
    evaluation = exact.evaluate(mdp, model.team_logits(mdp, policy))
    probabilities, branching, rewards = tf.nn.softmax(policy).numpy(), mdp.probability.numpy(), mdp.reward.numpy()
    for b in range(2):
        gamma = float(mdp.gamma[b])
        states, actions = mdp.num_states, model.joint_actions(3, 2)
        joint = np.ones([states, 8])
        for s in range(states):
            for j, action in enumerate(actions):
                for k in range(3):
                    joint[s, j] *= probabilities[b, k, mdp.observation[s, k], action[k]]
        value, visits, at = np.zeros(states), np.zeros(states), mdp.start[b].numpy()
        for t in range(100):
            visits += gamma**t * at
            q, after = rewards[b].copy(), np.zeros(states)
            for s in range(states):
                for j in range(8):
                    for there, p in zip(mdp.successor[s, j], branching[b, s, j], strict=True):
                        q[s, j] += gamma * p * value[there]
                        after[there] += at[s] * joint[s, j] * p
            value, at = (joint * q).sum(axis=1), after
        np.testing.assert_allclose(evaluation.value[b], value, atol=1e-9)
        np.testing.assert_allclose(evaluation.visits[b], visits, atol=1e-9)
        np.testing.assert_allclose(evaluation.advantage[b], q - value[:, None], atol=1e-9)
        assert float(evaluation.eta[b]) == pytest.approx(mdp.start[b].numpy() @ value, abs=1e-9)


def test_visits_add_up_to_the_horizon(draw):
    mdp, policy, _ = draw(2)
    visits = exact.evaluate(mdp, model.team_logits(mdp, policy)).visits
    np.testing.assert_allclose(tf.reduce_sum(visits, axis=1), 1.0 / (1.0 - mdp.gamma))


def test_performance_difference_is_the_new_visits_times_the_old_advantage(draw):
    mdp, *policies = draw(3, agents=3, batch=50)
    old, new = (exact.evaluate(mdp, model.team_logits(mdp, policy)) for policy in policies)
    difference = tf.reduce_sum(new.visits[..., None] * new.policy * old.advantage, axis=[1, 2])
    np.testing.assert_allclose(new.eta - old.eta, difference, atol=1e-10)


def test_surrogate_by_training_s_joint_ratio_is_that_by_probabilities(draw):
    case = Case(draw(4, agents=3))
    weight = case.states[..., None] * case.old.policy * case.old.advantage
    by_ratio = tf.reduce_sum(weight * surrogate.joint_ratio(*case.log_probs), axis=[1, 2])
    np.testing.assert_allclose(by_ratio, case.joint_surrogate(case.states), atol=1e-12)


def test_shift_is_the_difference_of_kernels(draw):
    mdp, *policies = draw(5)
    old, new = (model.team_logits(mdp, policy) for policy in policies)
    difference = exact.evaluate(mdp, new).kernel - exact.evaluate(mdp, old).kernel
    np.testing.assert_allclose(exact.transition_shift(mdp, old, new), difference, atol=1e-14)
    np.testing.assert_array_equal(exact.moved(old, new, [0, 1]), new)
    np.testing.assert_array_equal(exact.moved(old, new, []), old)


def test_marginal_kernels_are_stochastic_and_marginals_are_means(draw):
    mdp, policy, _ = draw(6, agents=3)
    evaluation = exact.evaluate(mdp, model.team_logits(mdp, policy))
    given = exact.local(mdp, evaluation, evaluation.visits, 1)
    np.testing.assert_allclose(tf.reduce_sum(given.kernel, axis=-1), np.ones([8, 2]))
    assert np.min(given.kernel) >= 0
    for o in range(2):
        seen = np.flatnonzero(mdp.observation[:, 1] == o)
        weight = evaluation.visits.numpy()[:, seen]
        mean = (weight * evaluation.value.numpy()[:, seen]).sum(axis=1) / weight.sum(axis=1)
        np.testing.assert_allclose(given.value[:, o], mean)


def test_who_sees_the_whole_state_has_nothing_averaged_out(draw):
    mdp, policy, _ = draw(7, whole=True, local_states=3)
    evaluation = exact.evaluate(mdp, model.team_logits(mdp, policy))
    given = exact.local(mdp, evaluation, evaluation.visits, 0)
    np.testing.assert_allclose(given.value, evaluation.value)
    np.testing.assert_allclose(given.kernel, evaluation.kernel)
    value, advantage = exact.bootstrapped(mdp, evaluation, evaluation.visits, 0)
    np.testing.assert_allclose(value, evaluation.value, atol=1e-10)
    np.testing.assert_allclose(advantage, given.advantage, atol=1e-10)


@pytest.mark.parametrize(
    ("game", "best"),
    [
        (generators.climbing_game(), 11.0),
        (generators.climbing_game(3), 11.0),
        (generators.penalty_game(3), 10.0),
        (generators.volunteer_game(4), 1.0),
        # 0 for the step to the right, then 1 for ever: 0 + 1/2 (1 / (1 - 1/2)) = 1; the left end pays 0.1 / (1 - 1/2)
        (generators.chain(2, length=2, gamma=0.5, slip=0.0), 1.0),
        # to the right at once: the mean of 1, 0.3, -0.2 and -0.2, and 1 for ever from the next step on
        (generators.grid(2, length=2, gamma=0.5, slip=0.0), 0.225 + 1.0),
    ],
)
def test_games_have_the_optimum_that_is_known(game, best):
    assert generators.optimum(game) == pytest.approx(best)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"observation": np.zeros([2, 1], int)}, "two states look alike"),
        ({"gamma": tf.constant([1.0], tf.float64)}, "gamma"),
        ({"start": tf.constant([[0.5, 0.4]], tf.float64)}, "start holds what is no distribution"),
        ({"successor": np.full([2, 2, 1], 2)}, "outside 0 to 1"),
        ({"reward": tf.zeros([1, 2, 3], tf.float64)}, "reward has shape"),
    ],
)
def test_what_is_no_dec_mdp_is_refused(change, says, two_states):
    with pytest.raises(ValueError, match=says):
        model.check(two_states._replace(**change))
