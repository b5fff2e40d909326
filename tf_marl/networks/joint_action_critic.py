"""A critic of joint actions rates each action of an agent, given what its team mates do."""

import dataclasses
import itertools

import tensorflow as tf
from tf_agents.typing import types

from tf_marl.networks.architecture import Architecture
from tf_marl.networks.head import Head
from tf_marl.networks.torso import Torso

_OTHERS = "others"  # the team mates' actions, as an entry of the observation


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
