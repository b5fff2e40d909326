"""This module computes exactly what a team's policy is worth in a Dec-MDP. Every function is differentiable.

Values and state distributions are solutions of linear equations:

    V = (I - gamma P_pi)^-1 r_pi                    Q = r + gamma P V              A = Q - V
    rho = rho_0 (I - gamma P_pi)^-1                 eta = rho_0 V = sum_s rho(s) r_pi(s)

The discounted visits `rho(s) = sum_t gamma^t P(s_t = s)` are not normalised. They sum to 1 / (1 - gamma), as in
Schulman et al. 2015, "Trust Region Policy Optimization".

Shapes: B instances, S states, N agents, O local states, A actions of one agent, J = A^N joint actions.
"""

from typing import NamedTuple

import tensorflow as tf

from tf_marl.dec_mdp import model
from tf_marl.dec_mdp.model import DecMDP


class Evaluation(NamedTuple):
    """Holds what one joint policy does and earns in each of B Dec-MDPs."""

    policy: tf.Tensor  # [B, S, J], probability of every joint action
    kernel: tf.Tensor  # [B, S, S], transition probabilities under the policy, from state to successor
    eta: tf.Tensor  # [B], expected discounted return
    value: tf.Tensor  # [B, S]
    advantage: tf.Tensor  # [B, S, J], of joint actions
    visits: tf.Tensor  # [B, S], the discounted visits rho; they sum to 1 / (1 - gamma)


class Local(NamedTuple):
    """Holds one agent's view of B Dec-MDPs: means over everything that the agent does not see.

    The means use given weights of the states, for example the discounted visits.
    """

    weight: tf.Tensor  # [B, O], total weight of the states behind each local state
    value: tf.Tensor  # [B, O], mean of V
    advantage: tf.Tensor  # [B, O, A], mean of A given the agent's own action
    reward: tf.Tensor  # [B, O], mean of r
    kernel: tf.Tensor  # [B, O, O], transition probabilities between local states


def joint_policy(team: tf.Tensor) -> tf.Tensor:
    """Computes the probability of every joint action.

    Args:
        team: the team's logits, [B, S, N, A].

    Returns:
        Probabilities, [B, S, J].
    """
    agents = tf.unstack(tf.nn.softmax(team), axis=2)
    joint = agents[0]
    for agent in agents[1:]:
        joint = tf.reshape(joint[..., :, None] * agent[..., None, :], [*joint.shape[:2], -1])
    return joint


def kernel(mdp: DecMDP, weights: tf.Tensor) -> tf.Tensor:
    """Computes the weighted sum of the transition probabilities over joint actions.

        sum_a w(s, a) P(s' | s, a)

    With a policy's probabilities as weights, the result is the policy's transition kernel. With the difference of two
    policies' probabilities, it is the shift between their kernels.

    Args:
        mdp: B Dec-MDPs.
        weights: w, [B, S, J].

    Returns:
        The sums, [B, S, S], from state (axis 1) to successor (axis 2).
    """
    batch, states = weights.shape[:2]
    flow = tf.reshape(weights[..., None] * mdp.probability, [batch, -1])
    row = tf.range(states)[:, None, None] * states + mdp.successor
    summed = tf.math.unsorted_segment_sum(tf.transpose(flow), tf.reshape(row, [-1]), states * states)
    return tf.reshape(tf.transpose(summed), [batch, states, states])


def evaluate(mdp: DecMDP, team: tf.Tensor) -> Evaluation:
    """Evaluates a joint policy by linear solves.

    Args:
        mdp: B Dec-MDPs.
        team: the team's logits, [B, S, N, A].

    Returns:
        The policy's kernel, return [B], values [B, S], advantages [B, S, J] and discounted visits [B, S].
    """
    policy = joint_policy(team)
    moves = kernel(mdp, policy)
    gamma = mdp.gamma[:, None, None]
    resolvent = tf.eye(mdp.num_states, dtype=moves.dtype) - gamma * moves
    reward = tf.reduce_sum(policy * mdp.reward, axis=-1)
    value = tf.linalg.solve(resolvent, reward[..., None])[..., 0]
    visits = tf.linalg.solve(resolvent, mdp.start[..., None], adjoint=True)[..., 0]
    later = tf.gather(value, mdp.successor, axis=1)
    q = mdp.reward + gamma * tf.reduce_sum(mdp.probability * later, axis=-1)
    eta = tf.reduce_sum(mdp.start * value, axis=-1)
    return Evaluation(policy, moves, eta, value, q - value[..., None], visits)


def transition_shift(mdp: DecMDP, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """Computes how a change of policy shifts the transition probabilities (the paper's section 4.2).

        Delta(s' | s) = sum_a (pi~(a | s) - pi(a | s)) P(s' | s, a)

    For agent k the shift has two parts. The endogenous part is the shift from `old` to `moved(old, new, [k])`, where
    only agent k has changed. The exogenous part is the shift from there to `new`, where the other agents change.

    Args:
        mdp: B Dec-MDPs.
        old: the team's old logits, [B, S, N, A].
        new: the team's new logits, [B, S, N, A].

    Returns:
        The shift, [B, S, S], from state to successor. Every row sums to 0.
    """
    return kernel(mdp, joint_policy(new) - joint_policy(old))


def moved(old: tf.Tensor, new: tf.Tensor, agents: list[int]) -> tf.Tensor:
    """Builds a team in which some agents follow their new policy and the others follow their old one.

    Args:
        old: the team's old logits, [B, S, N, A].
        new: the team's new logits, [B, S, N, A].
        agents: indices of the agents that follow `new`.

    Returns:
        The mixed team's logits, [B, S, N, A].
    """
    chosen = tf.reduce_any(tf.range(old.shape[2])[:, None] == tf.constant(agents, tf.int32), axis=-1)
    return tf.where(chosen[:, None], new, old)


def given_local(mdp: DecMDP, weight: tf.Tensor, agent: int) -> tf.Tensor:
    """Computes the distribution of the state given one agent's local state, `w(s | o)`.

    Args:
        mdp: B Dec-MDPs.
        weight: w, weight of each state, [B, S]. It need not sum to 1.
        agent: index of the agent.

    Returns:
        The distributions, [B, S, O]; 0 where o has no weight.
    """
    mass = weight[..., None] * _seen(mdp, weight, agent)
    return tf.math.divide_no_nan(mass, tf.reduce_sum(mass, axis=1, keepdims=True))


def marginal(mdp: DecMDP, mass: tf.Tensor, agent: int, table: tf.Tensor) -> tf.Tensor:
    """Averages a table over states and joint actions, given one agent's local state and its own action.

    For `mass = w(s) pi(a | s)`, where the agents act independently, the mean for agent k is

        sum_s w(s | o) sum_a_-k pi_-k(a_-k | s) table(s, a)

    where `a_-k` are the actions of all agents but k.

    Args:
        mdp: B Dec-MDPs.
        mass: weight of each state and joint action, [B, S, J]: `w(s) pi(a | s)`, or the counts of a rollout. It need
            not sum to 1.
        agent: k, the index of the agent.
        table: the values to average, [B, S, J].

    Returns:
        The means, [B, O, A]; 0 where there is no mass.
    """
    actions = model.joint_actions(mdp.num_agents, mdp.num_actions)
    own = tf.one_hot(actions[:, agent], mdp.num_actions, dtype=mass.dtype)  # [J, A]
    seen = _seen(mdp, mass, agent)
    total, of_all = (tf.einsum("bsa,so->boa", part @ own, seen) for part in (mass * table, mass))
    return tf.math.divide_no_nan(total, of_all)


def mixed_advantages(evaluation: Evaluation, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """Computes the advantage of each agent's own action at every state, for all mixtures of old and new other agents.

        A_k(s, a_k; T) = sum_a_-k prod_{j in T} pi~_j prod_{j not in T, j != k} pi_j A(s, a), less its mean under pi_k

    `T` are the agents that act by their new policy already. Where T is empty, it is the advantage that IPPO and MAPPO
    estimate. Where T are the agents before k, it is the one of the proof of the paper's Theorem 2 (appendix A.3.2).

    Args:
        evaluation: the old joint policy in B Dec-MDPs.
        old: the team's old logits, [B, S, N, A].
        new: the team's new logits, [B, S, N, A].

    Returns:
        Advantages, [B, S, N, M, A] with M = 2^(N-1). In the index of T, each agent but k has a bit, 1 if it is in T;
        the first agent's is the most significant.
    """
    num_agents, num_actions = old.shape[2:]
    shape = evaluation.advantage.shape[:2]
    pair = tf.nn.softmax(tf.stack([old, new], axis=3))  # [B, S, N, 2, A]

    def mixed(table: tf.Tensor, agent: int, left: int) -> tf.Tensor:
        """Replaces an agent's axis of actions by one of old and new; `left` is the size of all axes before it."""
        axes = tf.reshape(table, [*shape, left, num_actions, -1])
        return tf.einsum("bsta,bsxay->bsxty", pair[:, :, agent], axes)

    own, before = [], evaluation.advantage  # with the agents before k mixed
    for k in range(num_agents):
        axes = tf.reshape(before, [*shape, 2**k, num_actions, -1])
        table = axes - tf.einsum("bsa,bsxay->bsxy", pair[:, :, k, 0], axes)[:, :, :, None]
        for j in range(k + 1, num_agents):
            table = mixed(table, j, 2 ** (j - 1) * num_actions)
        apart = tf.reshape(table, [*shape, 2**k, num_actions, -1])
        own.append(tf.reshape(tf.transpose(apart, [0, 1, 2, 4, 3]), [*shape, -1, num_actions]))
        before = mixed(before, k, 2**k)
    return tf.stack(own, axis=2)


def local(mdp: DecMDP, evaluation: Evaluation, weight: tf.Tensor, agent: int) -> Local:
    """Computes one agent's view of a joint policy by marginalisation (the paper's Proposition 4).

        V_k(o) = sum_s w(s | o) V(s)
        A_k(o, a_k) = sum_s w(s | o) sum_a_-k pi_-k(a_-k | s) A(s, a)

    Args:
        mdp: B Dec-MDPs.
        evaluation: the joint policy in them.
        weight: w, weight of each state, [B, S]. It need not sum to 1. The paper's choice, the discounted state
            distribution, is `evaluation.visits`.
        agent: k, the index of the agent.

    Returns:
        Means by local state, [B, O] or [B, O, A]; 0 at local states of no weight.
    """
    given = given_local(mdp, weight, agent)
    reward = tf.reduce_sum(evaluation.policy * mdp.reward, axis=-1)
    seen = _seen(mdp, weight, agent)
    return Local(
        weight=weight @ seen,
        value=tf.einsum("bso,bs->bo", given, evaluation.value),
        advantage=marginal(mdp, weight[..., None] * evaluation.policy, agent, evaluation.advantage),
        reward=tf.einsum("bso,bs->bo", given, reward),
        kernel=tf.einsum("bso,bst->bot", given, evaluation.kernel) @ seen,
    )


def bootstrapped(mdp: DecMDP, evaluation: Evaluation, weight: tf.Tensor, agent: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes what temporal-difference learning converges to if an agent's critic sees only its local state.

    It is the fixed point of a Bellman equation over local states:

        V_k(o) = sum_s w(s | o) E[r + gamma V_k(o')]

    It equals the marginal of V, which `local` computes, only where what the agent does not see makes no difference.

    Args:
        mdp: B Dec-MDPs.
        evaluation: the joint policy in them.
        weight: w, weight of each state, [B, S]. It need not sum to 1.
        agent: k, the index of the agent.

    Returns:
        The values V_k, [B, O], and the agent's mean one-step advantages with these values, [B, O, A].
    """
    given = local(mdp, evaluation, weight, agent)
    gamma = mdp.gamma[:, None, None]
    resolvent = tf.eye(mdp.num_local_states, dtype=gamma.dtype) - gamma * given.kernel
    value = tf.linalg.solve(resolvent, given.reward[..., None])[..., 0]
    by_state = tf.gather(value, mdp.observation[:, agent], axis=1)
    later = tf.gather(by_state, mdp.successor, axis=1)
    residual = mdp.reward + gamma * tf.reduce_sum(mdp.probability * later, axis=-1) - by_state[..., None]
    return value, marginal(mdp, weight[..., None] * evaluation.policy, agent, residual)


def spread(mdp: DecMDP, tables: list[tf.Tensor]) -> tf.Tensor:
    """Looks up the agents' own tables at every state and joint action.

    Args:
        mdp: B Dec-MDPs.
        tables: for each of the N agents, a table over its local states and actions, [B, O, A].

    Returns:
        Each agent's entry, [B, S, J, N].
    """
    actions = model.joint_actions(mdp.num_agents, mdp.num_actions)
    by_state = (tf.gather(table, mdp.observation[:, k], axis=1) for k, table in enumerate(tables))
    return tf.stack([tf.gather(table, actions[:, k], axis=2) for k, table in enumerate(by_state)], axis=-1)


def _seen(mdp: DecMDP, weight: tf.Tensor, agent: int) -> tf.Tensor:
    """Returns the agent's observations as one-hot rows, [S, O]: 1 where the state looks like that local state."""
    return tf.one_hot(mdp.observation[:, agent], mdp.num_local_states, dtype=weight.dtype)
