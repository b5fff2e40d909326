"""The statements as checks."""

import itertools

import numpy as np
import tensorflow as tf
from hypothesis import given, settings, strategies

from tf_marl.dec_mdp import generators, model, statements
from tf_marl.dec_mdp.statements import READINGS, Case, theorem_2

# Readings with a counterexample; every other one is a theorem, a lemma or an identity.
FAIL = {
    ("Proposition 1", "shift = sum of each agent's, the others as before"),
    ("Proposition 1", "local kernels by each team's own visits: size <= largest sum_k TV_k"),
    ("Theorem 1", "alpha = mean of joint TV over states"),
    ("Equation 9", "sum_k TV_k <= alpha on average over states"),
    ("Theorem 3", "TV_k < eps_k, strictly"),
    ("Theorem 3", "its proof: a small gradient step makes actions with A_k > 0 likelier"),
    ("Theorem 3", "ratios on average over states and actions"),
    ("Theorem 3", "ratios at the states and actions of 90% of the visits"),
    ("Ours", "ratios at most 1 + eps: TV_k <= eps / 2"),
    ("Ours", "state distributions, largest TV of one agent for the joint one"),
    ("Theorem 2, its proof", "|sum_a (pi~ - pi) A| <= 2 joint TV max |A_k| in sequence"),
    ("Theorem 2, its proof", "shift summed over both states: |Delta| <= 2 alpha"),
    ("Theorem 2", "literal: k's local states under agent k' 's policy"),
    ("Theorem 2", "literal, all agents with one policy"),
    ("Theorem 2", "joint surrogate; alpha = largest TV of one agent"),
    ("Theorem 2", "joint surrogate over undiscounted states, as PPO takes them"),
    ("Theorem 2", "surrogates with others old > penalty: the return rises"),
    ("Proposition 4", "decentralised, by TD: the mean of Q over what the agent does not see"),
    ("Proposition 4", "marginal values solve the local Bellman equation"),
    ("Section 6.3", "V(s_k) = E[V(s)], critics by TD"),
    ("Section 6.3", "A_k(s_k, a_k) = A(s, a), sample by sample"),
    ("Section 6.3", "surrogates clipped at 0.1 equal, critics = marginals"),
    ("Section 6.3", "unclipped surrogates equal, critics by TD"),
}


def fails(reading: statements.Reading) -> bool:
    """Tells whether a reading has a counterexample; those of Theorem 2 by what their parts are."""
    if reading.stratum is None:
        return reading.key[:2] in FAIL
    surrogate, alpha, eps = (part.split(": ", 1)[1] for part in reading.name.split("; "))
    if surrogate == "others old" or eps == "others old":
        return True
    return eps == "in sequence" and (alpha == "largest joint TV" or reading.stratum.name.startswith("local states"))


HOLD = [reading for reading in READINGS if not fails(reading)]


def reading(statement: str, start: str) -> statements.Reading:
    found = [entry for entry in READINGS if entry.statement == statement and entry.name.startswith(start)]
    return found[0]


def test_every_reading_has_a_name_of_its_own():
    assert len({entry.key for entry in READINGS}) == len(READINGS)
    assert {entry.key[:2] for entry in READINGS} >= FAIL


def test_what_fails_names_what_holds_in_its_place():
    holds = {entry.name for entry in HOLD}
    for entry in READINGS:
        assert (entry.repair in holds) if fails(entry) else not entry.repair or entry.stratum, entry.name


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
        if entry.covers(case):
            assert np.min(entry.check(case).slack) >= -statements.TOLERANCE, entry.key
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
    of_the_team = reading("Theorem 2", "surrogate: joint; alpha: sum_k").check(case)
    np.testing.assert_allclose(of_the_team.rhs, claim.rhs, atol=1e-12)


def test_surrogates_in_sequence_add_up_in_every_order(draw):
    """By brute force over orders, and with the advantage of each agent's action by its definition."""
    case = Case(draw(3, agents=3, local_states=2, actions=2, batch=4))
    old, new = (tf.nn.softmax(team).numpy() for team in (case.old_team, case.new_team))
    advantage = case.old.advantage.numpy().reshape(4, -1, 2, 2, 2)
    joint = case.joint_surrogate(case.states).numpy()
    for order in itertools.permutations(range(3)):
        policy, total = list(np.moveaxis(old, 2, 0)), 0.0
        for k in order:
            letters, others = "xyz", [j for j in range(3) if j != k]
            terms = ",".join(f"bs{letters[j]}" for j in others)
            own = np.einsum(f"bsxyz,{terms}->bs{letters[k]}", advantage, *(policy[j] for j in others))
            own -= (own * old[:, :, k]).sum(-1, keepdims=True)
            mixture = sum(1 << (1 - i) for i, j in enumerate(others) if order.index(j) < order.index(k))
            np.testing.assert_allclose(case.mixed_advantage[:, :, k, mixture], own, atol=1e-12)
            total += np.einsum("bs,bsa,bsa->b", case.states, new[:, :, k], own)
            policy[k] = new[:, :, k]
        np.testing.assert_allclose(total, joint, atol=1e-9)


def test_the_order_that_fares_worst_is_the_worst_of_all():
    values = np.random.default_rng(0).normal(size=[2, 4, 8])

    def along(order: tuple[int, ...]) -> np.ndarray:
        total = np.zeros(2)
        for place, k in enumerate(order):
            others = [j for j in range(4) if j != k]
            mixture = sum(1 << (2 - i) for i, j in enumerate(others) if j in order[:place])
            total += values[:, k, mixture]
        return total

    found = theorem_2.over_orders(tf.constant(values), tf.add, lambda x: tf.reduce_max(x, axis=-1))
    np.testing.assert_allclose(found, np.max([along(order) for order in itertools.permutations(range(4))], axis=0))
    first = tf.reduce_sum(theorem_2.in_order(tf.constant(values)), axis=1)
    np.testing.assert_allclose(first, along((0, 1, 2, 3)))


def test_rewards_of_states_know_no_action(draw):
    rng = np.random.default_rng(0)
    for build in (generators.points, generators.switches):
        structure = generators.structure(rng, 2, 4, 2, True, None, rewards_states=True)
        case = Case(generators.realise(structure, build(rng, structure, 2, 8)))
        assert case.rewards_states
        assert case.sees_all
    assert not Case(draw(0)).rewards_states


def test_a_claim_s_slack_is_its_worst_place():
    claim = statements.Claim(tf.constant([[1.0, 2.0], [0.0, 0.0]]), tf.constant([[2.0, 1.5], [0.0, 0.0]]))
    np.testing.assert_allclose(claim.slack, [-0.5, 0.0])
    np.testing.assert_allclose(claim.used, [2.0 / 1.5, np.nan])


def test_team_sees_what_its_agents_see(draw):
    mdp, policy, _ = draw(2, agents=2, local_states=3)
    team = model.team_logits(mdp, policy)
    np.testing.assert_array_equal(team[:, 5], tf.stack([policy[:, 0, 1], policy[:, 1, 2]], axis=1))  # 5 = (1, 2)
