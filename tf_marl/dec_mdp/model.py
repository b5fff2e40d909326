"""A Dec-MDP (the paper's section 3) as tables, and the team's policy in it.

N agents act at once; agent k sees its local state o_k(s) alone and takes an action from pi_k(a_k | o_k); the joint
action moves the state and pays the team one reward. It is a Dec-MDP because the local states together tell the state:
the observation is a table of N columns in which no two rows are alike. Where o_k(s) = s, every agent sees everything.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class DecMDP(NamedTuple):
    """B Dec-MDPs that differ in their numbers, not in their structure.

    A joint action leads to one of K successors, so that five agents with four local states and three actions each fit
    into memory; K = S is the dense kernel, K = 1 the deterministic one.
    """

    probability: tf.Tensor  # [B, S, J, K], of the successors; adds up to 1 over K
    successor: np.ndarray  # [S, J, K] int, states; one may come twice
    reward: tf.Tensor  # [B, S, J], expected, of a joint action at a state
    start: tf.Tensor  # [B, S], rho_0
    gamma: tf.Tensor  # [B], discount per step, in [0, 1)
    observation: np.ndarray  # [S, N] int, each agent's local state, from 0

    @property
    def num_agents(self) -> int:
        return self.observation.shape[1]

    @property
    def num_states(self) -> int:
        return self.observation.shape[0]

    @property
    def num_local_states(self) -> int:
        return int(self.observation.max()) + 1

    @property
    def num_actions(self) -> int:
        return round(self.successor.shape[1] ** (1 / self.num_agents))


def check(mdp: DecMDP) -> DecMDP:
    """The same Dec-MDP, if it is one.

    Raises:
        ValueError: a shape does not fit, a distribution is none, gamma is not in [0, 1), or the local states together
            do not tell the state.
    """
    batch, states, joint_actions, branches = mdp.probability.shape
    expected = {
        "successor": [states, joint_actions, branches],
        "reward": [batch, states, joint_actions],
        "start": [batch, states],
        "gamma": [batch],
        "observation": [states, mdp.observation.shape[-1]],
    }
    for name, shape in expected.items():
        if list(getattr(mdp, name).shape) != shape:
            raise ValueError(f"{name} has shape {list(getattr(mdp, name).shape)}, where {shape} fits")
    if mdp.num_actions**mdp.num_agents != joint_actions:
        raise ValueError(f"{joint_actions} joint actions are no power of {mdp.num_agents} agents")
    for name, table in (("probability", mdp.probability), ("start", mdp.start)):
        if np.min(table) < 0 or not np.allclose(np.sum(table, axis=-1), 1.0, atol=1e-9):
            raise ValueError(f"{name} holds what is no distribution")
    if mdp.successor.min() < 0 or mdp.successor.max() >= states:
        raise ValueError(f"successor names a state outside 0 to {states - 1}")
    if np.min(mdp.gamma) < 0 or np.max(mdp.gamma) >= 1:
        raise ValueError("gamma is not in [0, 1)")
    if len(np.unique(mdp.observation, axis=0)) < states:
        raise ValueError("observation: two states look alike to the whole team, so this is no Dec-MDP")
    return mdp


def joint_actions(num_agents: int, num_actions: int) -> np.ndarray:
    """[J, N] int: the joint actions in the order of every table here, the last agent's action changing fastest."""
    return np.stack(np.unravel_index(np.arange(num_actions**num_agents), [num_actions] * num_agents), axis=1)


def local_states(num_agents: int, num_local_states: int) -> np.ndarray:
    """[S, N] int: the observation where the state is the agents' local states, every combination of them."""
    return joint_actions(num_agents, num_local_states)


def whole_state(num_agents: int, num_states: int) -> np.ndarray:
    """[S, N] int: the observation where every agent sees the whole state."""
    return np.repeat(np.arange(num_states)[:, None], num_agents, axis=1)


def team_logits(mdp: DecMDP, policy: tf.Tensor) -> tf.Tensor:
    """The team's logits at every state, as `tf_marl.ops` takes them.

    Args:
        policy: [B, N, O, A] logits, of each agent at each of its local states.
    Returns:
        [B, S, N, A].
    """
    return tf.stack([tf.gather(policy[:, k], mdp.observation[:, k], axis=1) for k in range(mdp.num_agents)], axis=2)


def log_prob(team: tf.Tensor, actions: np.ndarray) -> tf.Tensor:
    """Of each agent's own part in every joint action, finite.

    Args:
        team: [B, S, N, A].
        actions: [J, N].
    Returns:
        [B, S, J, N].
    """
    chosen = tf.one_hot(actions, team.shape[-1], dtype=team.dtype)
    return tf.einsum("bsna,jna->bsjn", tf.nn.log_softmax(team), chosen)
