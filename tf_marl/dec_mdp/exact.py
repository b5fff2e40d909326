"""What a team's policy is worth in a Dec-MDP, exactly; every function is differentiable.

    V = (I - gamma P_pi)^-1 r_pi                    Q = r + gamma P V              A = Q - V
    rho = rho_0 (I - gamma P_pi)^-1                 eta = rho_0 V = sum_s rho(s) r_pi(s)

rho(s) = sum_t gamma^t P(s_t = s) is not normalised: it adds up to 1 / (1 - gamma), as in Schulman et al. 2015.
"""

from typing import NamedTuple

import tensorflow as tf

from tf_marl.dec_mdp import model
from tf_marl.dec_mdp.model import DecMDP


class Evaluation(NamedTuple):
    """Of one joint policy in B Dec-MDPs."""

    policy: tf.Tensor  # [B, S, J], probability of the joint actions
    kernel: tf.Tensor  # [B, S, S], of the states under the policy
    eta: tf.Tensor  # [B], expected discounted return
    value: tf.Tensor  # [B, S]
    advantage: tf.Tensor  # [B, S, J]
    visits: tf.Tensor  # [B, S], rho: discounted, adds up to 1 / (1 - gamma)


class Local(NamedTuple):
    """What one agent sees of B Dec-MDPs: everything it does not see averaged out, with given weights of states."""

    weight: tf.Tensor  # [B, O], of its local states
    value: tf.Tensor  # [B, O], mean of V
    advantage: tf.Tensor  # [B, O, A], mean of A by its own action
    reward: tf.Tensor  # [B, O], mean of r
    kernel: tf.Tensor  # [B, O, O], of its local states


def joint_policy(team: tf.Tensor) -> tf.Tensor:
    """Probability of every joint action, [B, S, J]. Args: team [B, S, N, A] logits."""
    agents = tf.unstack(tf.nn.softmax(team), axis=2)
    joint = agents[0]
    for agent in agents[1:]:
        joint = tf.reshape(joint[..., :, None] * agent[..., None, :], [*joint.shape[:2], -1])
    return joint


def kernel(mdp: DecMDP, weights: tf.Tensor) -> tf.Tensor:
    """sum_a w(s, a) P(s' | s, a): with a policy's probabilities its kernel, with a difference of two their shift.

    Args:
        weights: [B, S, J].
    Returns:
        [B, S, S], from state to successor.
    """
    batch, states = weights.shape[:2]
    flow = tf.reshape(weights[..., None] * mdp.probability, [batch, -1])
    row = tf.range(states)[:, None, None] * states + mdp.successor
    summed = tf.math.unsorted_segment_sum(tf.transpose(flow), tf.reshape(row, [-1]), states * states)
    return tf.reshape(tf.transpose(summed), [batch, states, states])


def evaluate(mdp: DecMDP, team: tf.Tensor) -> Evaluation:
    """Args: team [B, S, N, A] logits."""
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
    """Delta(s' | s) = sum_a (pi~(a | s) - pi(a | s)) P(s' | s, a), the paper's section 4.2, as we read it.

    Its endogenous part for agent k is that from `old` to `one_moved(old, new, k)`, where k alone has changed; its
    exogenous part is the rest, from there to `new`, where the others change around it.

    Args:
        old, new: the team's logits, [B, S, N, A].
    Returns:
        [B, S, S]; every row adds up to 0.
    """
    return kernel(mdp, joint_policy(new) - joint_policy(old))


def moved(old: tf.Tensor, new: tf.Tensor, agents: list[int]) -> tf.Tensor:
    """The team of which these agents follow `new` and the others `old`. Args: [B, S, N, A] each."""
    chosen = tf.reduce_any(tf.range(old.shape[2])[:, None] == tf.constant(agents, tf.int32), axis=-1)
    return tf.where(chosen[:, None], new, old)


def marginal(mdp: DecMDP, mass: tf.Tensor, agent: int, table: tf.Tensor) -> tf.Tensor:
    """What an agent sees of a table over states and joint actions: its mean by local state and own action.

    With mass = w(s) pi(a | s), independent between agents, that is sum_s w(s | o) sum_a_-k pi_-k(a_-k | s) table(s, a).

    Args:
        mass: [B, S, J], of any sum: w(s) pi(a | s), or how often a rollout came by.
        agent: k.
        table: [B, S, J].
    Returns:
        [B, O, A]; 0 where there is no mass.
    """
    actions = model.joint_actions(mdp.num_agents, mdp.num_actions)
    own = tf.one_hot(actions[:, agent], mdp.num_actions, dtype=mass.dtype)  # [J, A]
    seen = _seen(mdp, mass, agent)
    total, of_all = (tf.einsum("bsa,so->boa", part @ own, seen) for part in (mass * table, mass))
    return tf.math.divide_no_nan(total, of_all)


def local(mdp: DecMDP, evaluation: Evaluation, weight: tf.Tensor, agent: int) -> Local:
    """Decentralised quantities by marginalisation (the paper's Proposition 4, as we read it).

        V_k(o) = sum_s w(s | o) V(s)        A_k(o, a_k) = sum_s w(s | o) sum_a_-k pi_-k(a_-k | s) A(s, a)

    Args:
        weight: [B, S], of states, of any sum; the paper's discounted distribution is `evaluation.visits`.
        agent: k.
    Returns:
        Zeros at local states of no weight.
    """
    given = _given(mdp, weight, agent)
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
    """What temporal differences converge to where an agent's critic sees its local state alone.

    The fixed point of V_k(o) = sum_s w(s | o) E[r + gamma V_k(o')], which is the marginal of V only where what the
    agent does not see makes no difference.

    Args: as for `local`.
    Returns:
        V_k [B, O] and its advantages [B, O, A].
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
    """Agents' own tables, at every state and joint action. Args: tables, [B, O, A] of each. Returns: [B, S, J, N]."""
    actions = model.joint_actions(mdp.num_agents, mdp.num_actions)
    by_state = (tf.gather(table, mdp.observation[:, k], axis=1) for k, table in enumerate(tables))
    return tf.stack([tf.gather(table, actions[:, k], axis=2) for k, table in enumerate(by_state)], axis=-1)


def _seen(mdp: DecMDP, weight: tf.Tensor, agent: int) -> tf.Tensor:
    """[S, O], 1 where the agent sees the state as that local one."""
    return tf.one_hot(mdp.observation[:, agent], mdp.num_local_states, dtype=weight.dtype)


def _given(mdp: DecMDP, weight: tf.Tensor, agent: int) -> tf.Tensor:
    """[B, S, O], w(s | o)."""
    mass = weight[..., None] * _seen(mdp, weight, agent)
    return tf.math.divide_no_nan(mass, tf.reduce_sum(mass, axis=1, keepdims=True))
