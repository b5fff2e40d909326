"""The statements as checks."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies

from tf_marl.dec_mdp import generators, model, statements
from tf_marl.dec_mdp.statements import READINGS, Case

# Readings with a counterexample; every other one is a theorem, a lemma or an identity.
FAIL = {
    ("Proposition 1", "shift = sum of each agent's, the others as before"),
    ("Proposition 1", "local kernels, each its own state distribution"),
    ("Proposition 3", "state distributions, largest TV of one agent for the joint one"),
    ("Theorem 1", "alpha = mean of joint TV over states"),
    ("Theorem 2", "joint surrogate; alpha = largest TV of one agent"),
    ("Theorem 2", "independent surrogates; alpha = sum_k largest TV_k"),
    ("Theorem 2", "independent surrogates; alpha = largest joint TV, as certificate/lower_bound"),
    ("Theorem 2", "joint surrogate; max |A_k| of marginal advantages"),
    ("Theorem 2", "joint surrogate over undiscounted states, as PPO takes them"),
    ("Equation 9", "sum_k TV_k <= alpha on average over states"),
    ("Equation 9", "independent surrogates > penalty: the return rises"),
    ("Theorem 3", "ratios on average over states and actions"),
    ("Theorem 3", "ratios at the states and actions of 90% of the visits"),
    ("Section 6.3", "surrogates clipped at 0.1 equal, critics = marginals"),
    ("Section 6.3", "unclipped surrogates equal, IPPO's critic = its own Bellman fixed point"),
    ("Proposition 4", "marginal values solve the local Bellman equation"),
    ("Sharper facts", "ratios at most 1 + eps: TV_k <= eps / 2"),
}
HOLD = [reading for reading in READINGS if reading[:2] not in FAIL]


def reading(statement: str, start: str) -> statements.Reading:
    (found,) = [entry for entry in READINGS if entry.statement == statement and entry.name.startswith(start)]
    return found


def test_every_reading_has_a_name_of_its_own():
    assert len({entry[:2] for entry in READINGS}) == len(READINGS)
    assert {entry[:2] for entry in READINGS} >= FAIL


@given(
    seed=strategies.integers(0, 2**32 - 1),
    agents=strategies.sampled_from([1, 2, 3]),
    whole=strategies.booleans(),
    branches=strategies.sampled_from([None, 1, 2]),
)
@settings(max_examples=8, deadline=None)
def test_what_is_proved_holds(seed, agents, whole, branches, draw):
    case = Case(draw(seed, agents=agents, whole=whole, branches=branches, batch=16))
    for entry in HOLD:
        assert np.min(entry.check(case).slack) >= -statements.TOLERANCE, entry.name
    for entry in READINGS:
        if entry.condition:
            meets = entry.condition.holds(case).numpy()
            assert (entry.check(case).slack.numpy()[meets] >= -statements.TOLERANCE).all(), entry.name


def test_one_agent_s_theorem_1_is_schulman_s(draw):
    case = Case(draw(1, agents=1, local_states=3, actions=3))
    claim = reading("Theorem 1", "joint policy").check(case)
    mdp, old, new = case.mdp, *(tf.nn.softmax(policy)[:, 0].numpy() for policy in (case.old_policy, case.new_policy))
    for b in range(8):
        gamma, reward = float(mdp.gamma[b]), mdp.reward[b].numpy()
        moves = mdp.probability[b].numpy()  # dense: [S, A, S]
        kernels = [np.einsum("sa,sat->st", policy[b], moves) for policy in (old, new)]
        values = [
            np.linalg.inv(np.eye(3) - gamma * kernel) @ (policy[b] * reward).sum(axis=1)
            for kernel, policy in zip(kernels, (old, new), strict=True)
        ]
        advantage = reward + gamma * moves @ values[0] - values[0][:, None]
        start = mdp.start[b].numpy()
        rho = start @ np.linalg.inv(np.eye(3) - gamma * kernels[0])
        local_approximation = start @ values[0] + rho @ (new[b] * advantage).sum(axis=1)  # L(pi~)
        alpha = 0.5 * np.abs(new[b] - old[b]).sum(axis=1).max()
        penalty = 4 * np.abs(advantage).max() * gamma / (1 - gamma) ** 2 * alpha**2
        lhs = (1 - gamma) * (local_approximation - start @ values[1])
        np.testing.assert_allclose(claim.lhs[b], lhs, atol=1e-12)
        np.testing.assert_allclose(claim.rhs[b], (1 - gamma) * penalty, rtol=1e-9, atol=1e-12)
    of_the_team = reading("Theorem 2", "joint surrogate; alpha = sum_k").check(case)
    np.testing.assert_allclose(of_the_team.rhs, claim.rhs, atol=1e-12)


def test_independent_surrogates_promise_what_the_team_does_not_get():
    """One state, gamma 0, two agents: each gains by switching alone, both together do not, and the penalty is 0."""
    mdp = generators.matrix_game(np.array([[0.0, 1.0], [1.0, 0.0]]))
    near, far = np.log([[[0.9, 0.1]], [[0.9, 0.1]]]), np.log([[[0.1, 0.9]], [[0.1, 0.9]]])
    case = Case(generators.Instances(mdp, tf.constant(near[None]), tf.constant(far[None])))
    # P(exactly one switches) = 2 x 0.9 x 0.1, before and after; alone either would gain 0.82 - 0.18
    assert float(case.gain[0]) == pytest.approx(0.0)
    assert float(case.independent_surrogate[0]) == pytest.approx(2 * (0.82 - 0.18))
    assert float(reading("Theorem 2", "independent surrogates; alpha = sum_k").check(case).slack[0]) < -1.0
    assert float(reading("Theorem 2", "independent surrogates, less").check(case).slack[0]) >= 0.0


def test_a_claim_s_slack_is_its_worst_place():
    claim = statements.Claim(tf.constant([[1.0, 2.0], [0.0, 0.0]]), tf.constant([[2.0, 1.5], [0.0, 0.0]]))
    np.testing.assert_allclose(claim.slack, [-0.5, 0.0])
    np.testing.assert_allclose(claim.used, [2.0 / 1.5, np.nan])


def test_team_sees_what_its_agents_see(draw):
    mdp, policy, _ = draw(2, agents=2, local_states=3)
    team = model.team_logits(mdp, policy)
    np.testing.assert_array_equal(team[:, 5], tf.stack([policy[:, 0, 1], policy[:, 1, 2]], axis=1))  # 5 = (1, 2)
