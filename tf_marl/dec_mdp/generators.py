"""Dec-MDPs: random ones by the thousand, and games whose answers are known.

A random instance is a point in R^n, made into probabilities by softmax, into rewards by tanh and into a discount by a
sigmoid: so the falsifier can climb from it.
"""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_marl.dec_mdp import model
from tf_marl.dec_mdp.model import DecMDP
from tf_marl.environments.matrix_game import CLIMBING_GAME


class Instances(NamedTuple):
    """B Dec-MDPs and a change of policy in each."""

    mdp: DecMDP
    old: tf.Tensor  # [B, N, O, A] logits
    new: tf.Tensor  # [B, N, O, A] logits


class Structure(NamedTuple):
    """What instances of one batch share."""

    successor: np.ndarray  # [S, J, K]
    observation: np.ndarray  # [S, N]


class Point(NamedTuple):
    """B instances as unbounded numbers."""

    probability: tf.Tensor  # [B, S, J, K]
    reward: tf.Tensor  # [B, S, J]
    start: tf.Tensor  # [B, S]
    gamma: tf.Tensor  # [B]
    old: tf.Tensor  # [B, N, O, A]
    change: tf.Tensor  # [B, N, O, A], new less old logits


def realise(structure: Structure, point: Point) -> Instances:
    """The instances that a point stands for; differentiable. Rewards lie in [-1, 1], discounts in (0, 0.99)."""
    mdp = DecMDP(
        probability=tf.nn.softmax(point.probability),
        successor=structure.successor,
        reward=tf.tanh(point.reward),
        start=tf.nn.softmax(point.start),
        gamma=0.99 * tf.sigmoid(point.gamma),
        observation=structure.observation,
    )
    return Instances(mdp, point.old, point.old + point.change)


def structure(
    rng: np.random.Generator,
    num_agents: int,
    num_local_states: int,
    num_actions: int,
    whole: bool,
    branches: int | None,
) -> Structure:
    """Random successors.

    Args:
        num_local_states: O; there are O^N states, or O where every agent sees the whole state.
        whole: whether it does.
        branches: K, drawn at random; None is the dense kernel.
    """
    see = model.whole_state if whole else model.local_states
    observation = see(num_agents, num_local_states)
    states, joint_actions = len(observation), num_actions**num_agents
    if branches is None:
        successor = np.broadcast_to(np.arange(states), [states, joint_actions, states]).copy()
    else:
        successor = rng.integers(states, size=[states, joint_actions, branches])
    return Structure(successor, observation)


def points(rng: np.random.Generator, structure: Structure, num_actions: int, batch: int) -> Point:
    """Random instances: peaked and flat distributions, dense and sparse rewards, steps from 0.001 to 3 in logits.

    In one of four, only one agent changes its policy.
    """
    (states, joint_actions, branches), agents = structure.successor.shape, structure.observation.shape[1]
    local = structure.observation.max() + 1

    def scale(low: float, high: float, ndim: int) -> np.ndarray:
        """[B, 1, ...], evenly spread in the logarithm."""
        return np.exp(rng.uniform(np.log(low), np.log(high), [batch] + [1] * ndim))

    rewarded = rng.random([batch, states, joint_actions]) < rng.choice([0.2, 1.0], [batch, 1, 1])
    change = scale(0.001, 3.0, 3) * rng.normal(size=[batch, agents, local, num_actions])
    alone = (rng.random([batch, 1]) < 0.25) & (rng.permuted(np.tile(np.arange(agents), (batch, 1)), axis=1) > 0)
    drawn = Point(
        probability=scale(0.3, 5.0, 3) * rng.normal(size=[batch, states, joint_actions, branches]),
        reward=np.where(rewarded, rng.normal(size=rewarded.shape), 0.0),
        start=scale(0.3, 5.0, 1) * rng.normal(size=[batch, states]),
        gamma=rng.uniform(-6.0, 6.0, [batch]),
        old=scale(0.1, 3.0, 3) * rng.normal(size=[batch, agents, local, num_actions]),
        change=np.where(alone[..., None, None], 0.0, change),
    )
    return Point(*(tf.constant(leaf) for leaf in drawn))


def matrix_game(payoff: np.ndarray, gamma: float = 0.0) -> DecMDP:
    """One state, in which the team plays a table of payoffs over and over. Args: payoff [A] * N."""
    joint_actions = payoff.size
    return _one(
        probability=np.ones([1, joint_actions, 1]),
        successor=np.zeros([1, joint_actions, 1], int),
        reward=payoff.reshape(1, -1),
        start=np.ones(1),
        gamma=gamma,
        observation=np.zeros([1, payoff.ndim], int),
    )


def climbing_game(num_agents: int = 2) -> DecMDP:
    """Claus & Boutilier 1998: the best joint action, worth 11, costs 30 where one agent alone takes it.

    For more than two agents: every pair of neighbours plays it, and the team gets the mean.
    """
    actions = model.joint_actions(num_agents, 3)
    if num_agents == 2:
        return matrix_game(CLIMBING_GAME.astype(np.float64))
    pairs = [(k, (k + 1) % num_agents) for k in range(num_agents)]
    payoff = np.mean([CLIMBING_GAME[actions[:, i], actions[:, j]] for i, j in pairs], axis=0)
    return matrix_game(payoff.reshape([3] * num_agents).astype(np.float64))


def penalty_game(num_agents: int = 2, penalty: float = -30.0) -> DecMDP:
    """Claus & Boutilier 1998: 10 where all take the first action or all the last, 2 where all take the middle one, the
    penalty where some take the first and the others the last, and 0 elsewhere."""
    actions = model.joint_actions(num_agents, 3)
    payoff = np.where(((actions == 0) | (actions == 2)).all(axis=1), penalty, 0.0)
    for action, worth in ((0, 10.0), (1, 2.0), (2, 10.0)):
        payoff[(actions == action).all(axis=1)] = worth
    return matrix_game(payoff.reshape([3] * num_agents))


def volunteer_game(num_agents: int = 2) -> DecMDP:
    """Pays 1 where exactly one agent takes the second action: what is good for each to do is bad if all do it."""
    volunteers = model.joint_actions(num_agents, 2).sum(axis=1)
    return matrix_game((volunteers == 1).astype(np.float64).reshape([2] * num_agents))


def chain(num_agents: int = 2, length: int = 4, gamma: float = 0.9, slip: float = 0.1) -> DecMDP:
    """A corridor that the team walks together and every agent sees: from the left end to a reward of 1 at the right.

    All must say "right" to go there; otherwise it goes left, where one small step pays 0.1 at the end. With probability
    `slip` the team stays where it is.
    """
    right = (model.joint_actions(num_agents, 2) == 1).all(axis=1)
    here = np.arange(length)[:, None]
    there = np.where(right, np.minimum(here + 1, length - 1), np.maximum(here - 1, 0))
    reward = np.where(right & (here == length - 1), 1.0, np.where(~right & (here == 0), 0.1, 0.0))
    return _one(
        probability=np.broadcast_to([1.0 - slip, slip], [*there.shape, 2]),
        successor=np.stack([there, np.broadcast_to(here, there.shape)], axis=-1),
        reward=reward,
        start=np.eye(length)[0],
        gamma=gamma,
        observation=model.whole_state(num_agents, length),
    )


def grid(num_agents: int = 2, length: int = 3, gamma: float = 0.9, slip: float = 0.1) -> DecMDP:
    """A line of cells for each agent, who sees its own: the team is paid for standing in one column.

    An agent goes left, stays or goes right; with probability `slip` nobody moves. All in the last column are paid 1,
    all in any other 0.3; where just one agent is missing from the last, it costs 0.2.
    """
    place = model.local_states(num_agents, length)
    there = np.clip(place[:, None] + model.joint_actions(num_agents, 3) - 1, 0, length - 1)  # [S, J, N]
    there = np.ravel_multi_index(np.moveaxis(there, -1, 0), [length] * num_agents)
    here = np.broadcast_to(np.arange(len(place))[:, None], there.shape)
    arrived = (place == length - 1).sum(axis=1)
    together = (place == place[:, :1]).all(axis=1)
    worth = np.where(
        together, np.where(arrived == num_agents, 1.0, 0.3), np.where(arrived == num_agents - 1, -0.2, 0.0)
    )
    return _one(
        probability=np.broadcast_to([1.0 - slip, slip], [*there.shape, 2]),
        successor=np.stack([there, here], axis=-1),
        reward=np.broadcast_to(worth[:, None], there.shape),
        start=np.full(len(place), 1.0 / len(place)),
        gamma=gamma,
        observation=place,
    )


def optimum(mdp: DecMDP) -> float:
    """The best that deterministic decentralised policies reach, by trying all of them; of the batch's first.

    Raises:
        ValueError: there are more than 2^16.
    """
    from tf_marl.dec_mdp import exact

    agents, local, actions = mdp.num_agents, mdp.num_local_states, mdp.num_actions
    if actions ** (agents * local) > 2**16:
        raise ValueError(f"{actions}^{agents * local} policies are too many to try")
    choices = np.array(list(itertools.product(range(actions), repeat=agents * local)))
    policy = 1e3 * np.eye(actions)[choices].reshape(-1, agents, local, actions)
    all_of_them = repeat(mdp, len(policy))
    return float(tf.reduce_max(exact.evaluate(all_of_them, model.team_logits(all_of_them, tf.constant(policy))).eta))


def repeat(mdp: DecMDP, times: int) -> DecMDP:
    """Each instance that many times, one after another."""
    batched = {
        name: tf.repeat(getattr(mdp, name), times, axis=0) for name in ("probability", "reward", "start", "gamma")
    }
    return mdp._replace(**batched)


def _one(probability, successor, reward, start, gamma, observation) -> DecMDP:
    batched = (tf.constant(table[None], tf.float64) for table in (probability, reward, start, np.array(gamma)))
    probability, reward, start, gamma = batched
    return model.check(DecMDP(probability, successor, reward, start, gamma, observation))
