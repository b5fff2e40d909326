"""Critics of joint actions rate each action of an agent, given what its team mates do, or a joint action as a whole."""

import dataclasses
import itertools

import tensorflow as tf
from tf_agents.typing import types

from tf_marl.networks.architecture import Architecture
from tf_marl.networks.head import Head
from tf_marl.networks.normalizer import RunningNormalizer
from tf_marl.networks.torso import Torso

_OTHERS = "others"  # the team mates' actions, as an entry of the observation
_EVERYONE = "everyone"  # the joint action, as such an entry


class JointActionCritic(tf.Module):
    """Computes Q(s, (a_-k, a)) for each agent k and each of its actions a (Foerster et al. 2018, section 4).

    It sees the state, what agent k observes, and the actions of its team mates. It has no recurrent layer, because the
    state tells what there is to know.

    Args:
        observation_spec: dict of specs of one environment's observation.
        architecture: sizes and kinds of the layers.
        seed: of the initial weights.
    """

    def __init__(self, observation_spec: types.NestedTensorSpec, architecture: Architecture, seed: int):
        super().__init__("joint_action_critic")
        num_agents, num_actions = observation_spec["avail_actions"].shape
        everyone, seeds = [0] * num_agents, itertools.count(seed)
        self._num_actions = num_actions
        others = tf.TensorSpec([num_agents, num_agents * num_actions], tf.float32, _OTHERS)
        self._spec = {name: observation_spec[name] for name in ("obs", "state")} | {_OTHERS: others}
        architecture = dataclasses.replace(architecture, rnn="none")
        self._torso = Torso(self._spec, list(self._spec), everyone, architecture, seeds)
        self._head = Head(everyone, num_actions, architecture.critic_gain, architecture, seeds)
        self._head(self._torso({name: tf.zeros([1, *spec.shape]) for name, spec in self._spec.items()})[0])

    def __call__(self, observation: types.NestedTensor, action: tf.Tensor) -> tf.Tensor:
        """Computes the values of each agent's actions.

        Args:
            observation: dict of tensors [..., ...]; `obs` and `state` are read.
            action: [..., N] int32, the joint action.
        Returns:
            Values in units of reward, [..., N, A]: of agent k's actions while its team mates act as in `action`.
        """
        features, _ = self._torso(self._inputs(observation, action))
        return self._head(features)

    def observe(self, observation: types.NestedTensor, action: tf.Tensor, counts: tf.Tensor) -> None:
        """Adds inputs to the running statistics that normalise them; does nothing if they are not normalised.

        Args:
            observation: dict of tensors [..., ...].
            action: [..., N] int32, the joint action.
            counts: [..., N] bool, the agents whose inputs count.
        """
        self._torso.observe(self._inputs(observation, action), counts)

    def _inputs(self, observation: types.NestedTensor, action: tf.Tensor) -> types.NestedTensor:
        num_agents = action.shape[-1]
        taken = tf.one_hot(action, self._num_actions)[..., None, :, :]  # [..., 1, N, A]
        of_others = taken * (1.0 - tf.eye(num_agents))[..., None]  # [..., N, N, A]
        shape = tf.concat([tf.shape(action), [num_agents * self._num_actions]], axis=0)
        return observation | {_OTHERS: tf.reshape(of_others, shape)}


class TeamActionCritic(tf.Module):
    """Computes Q(s, a), the value of the team's joint action in a state (Lowe et al. 2017, section 4.1).

    It is differentiable in the actions, which are one-hot vectors. It has no recurrent layer, because the state tells
    what there is to know.

    Args:
        observation_spec: dict of specs of one environment's observation.
        architecture: sizes and kinds of the layers; whether the state is normalised.
        seed: of the initial weights.
    """

    def __init__(self, observation_spec: types.NestedTensorSpec, architecture: Architecture, seed: int):
        super().__init__("team_action_critic")
        seeds, size = itertools.count(seed), observation_spec["state"].shape[0]
        num_agents, num_actions = observation_spec["avail_actions"].shape
        # Actions are not normalised: a clipped action would give no gradient.
        self._normalizer = RunningNormalizer(size, clip=10.0) if architecture.normalize_observations else None
        architecture = dataclasses.replace(architecture, rnn="none", normalize_observations=False)
        sizes = {"state": size, _EVERYONE: num_agents * num_actions}
        spec = {name: tf.TensorSpec([1, units], tf.float32, name) for name, units in sizes.items()}
        self._torso = Torso(spec, list(spec), [0], architecture, seeds)
        self._head = Head([0], 1, architecture.critic_gain, architecture, seeds)
        self(tf.zeros([1, size]), tf.zeros([1, 1, num_agents, num_actions]))

    def __call__(self, state: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
        """Computes the values of V joint actions in each state.

        Args:
            state: [..., S].
            actions: [..., V, N, A], one-hot.
        Returns:
            Values in units of reward, [..., V].
        """
        state = state if self._normalizer is None else self._normalizer(state)
        *rows, num_agents, num_actions = actions.shape
        joint = tf.reshape(actions, [*rows, num_agents * num_actions])
        features, _ = self._torso({"state": state[..., None, :], _EVERYONE: joint})
        return tf.squeeze(self._head(features), axis=-1)

    def observe(self, state: tf.Tensor, counts: tf.Tensor) -> None:
        """Adds states to the running statistics that normalise them; does nothing if they are not normalised.

        Args:
            state: [..., S].
            counts: [...] bool, the states that count.
        """
        if self._normalizer is not None:
            self._normalizer.update(state, counts)
