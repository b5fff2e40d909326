"""A mixer turns the values of the agents' own actions into the value of the joint action.

    IQL     Q_k                                             each agent learns its own value; there is no joint one
    VDN     Q_tot = sum_k Q_k                               Sunehag et al. 2018, eq. 3
    QMIX    Q_tot = |W2(s)|' ELU(|W1(s)|' Q + b1(s)) + b2(s)      Rashid et al. 2018, section 4

Every Q_tot never falls where one agent's Q_k rises. So each agent, by taking its own best action, takes its part of the
best joint one. Dead agents are left out.

Shapes: N agents, S state features, E units of the mixer; K values per row, which is N for IQL and 1 for the others.
"""

import abc
import itertools

import tensorflow as tf
from tf_agents.typing import types

from tf_marl.networks.architecture import Architecture
from tf_marl.networks.initializers import initializer
from tf_marl.networks.normalizer import RunningNormalizer
from tf_marl.ops import masked


class Mixer(tf.Module, abc.ABC):
    """Maps the agents' values to K joint ones; `num_values` is K.

    Args:
        num_agents: N.
        num_values: K.
    """

    def __init__(self, num_agents: int, num_values: int, name: str = "mixer"):
        super().__init__(name)
        self.num_agents, self.num_values = num_agents, num_values

    @abc.abstractmethod
    def __call__(self, value: tf.Tensor, observation: types.NestedTensor) -> tf.Tensor:
        """Computes the joint values.

        Args:
            value: [..., N], of each agent's action.
            observation: dict that holds `alive`, [..., N] bool, and `state`, [..., S].
        Returns:
            Joint values, [..., K].
        """

    def learns(self, alive: tf.Tensor) -> tf.Tensor:
        """Returns which of the joint values there is something to learn about.

        Args:
            alive: [..., N] bool.
        Returns:
            [..., K] bool.
        """
        return alive if self.num_values == self.num_agents else tf.reduce_any(alive, axis=-1, keepdims=True)

    def observe(self, observation: types.NestedTensor, counts: tf.Tensor) -> None:
        """Adds states to the running statistics that normalise them, if the mixer has any.

        Args:
            observation: dict that holds `state`, [..., S].
            counts: [...] bool, the rows that count.
        """


class Separate(Mixer):
    """Leaves each agent its own value (IQL: Tan 1993); K is N.

    A dead agent's value is the mean of its living team mates' values. They receive the same team reward, so the last
    value of an agent that dies bootstraps from what its team can still get.
    """

    def __init__(self, num_agents: int):
        super().__init__(num_agents, num_agents)

    def __call__(self, value: tf.Tensor, observation: types.NestedTensor) -> tf.Tensor:
        alive = observation["alive"]
        return tf.where(alive, value, masked.mean(value, alive, axis=-1, keepdims=True))


class Sum(Mixer):
    """Adds up the living agents' values (VDN); K is 1."""

    def __init__(self, num_agents: int):
        super().__init__(num_agents, 1)

    def __call__(self, value: tf.Tensor, observation: types.NestedTensor) -> tf.Tensor:
        return tf.reduce_sum(tf.where(observation["alive"], value, 0.0), axis=-1, keepdims=True)


class Monotonic(Mixer):
    """Mixes the living agents' values by a network whose weights depend on the state and are never negative (QMIX).

    The weights come from networks of their own, the hypernetworks. K is 1.

    Args:
        observation_spec: dict of specs of one environment's observation.
        units: E, of the mixer's hidden layer.
        hypernet_units: of the hidden layer of the hypernetworks of W1 and W2.
        architecture: says how initial weights are drawn, and whether the state is normalised.
        seed: of the initial weights.
    """

    def __init__(
        self,
        observation_spec: types.NestedTensorSpec,
        units: int,
        hypernet_units: int,
        architecture: Architecture,
        seed: int,
    ):
        super().__init__(observation_spec["alive"].shape[0], 1)
        seeds = itertools.count(seed)
        size = observation_spec["state"].shape[0]
        hidden_gain, last_gain = architecture.hidden_gain, architecture.critic_gain
        self._normalizer = RunningNormalizer(size, clip=10.0) if architecture.normalize_observations else None

        def network(outputs: int, hidden: int | None, name: str) -> tf.keras.Sequential:
            layers = []
            if hidden is not None:
                kernel = initializer(architecture, hidden_gain, seeds)
                layers.append(tf.keras.layers.Dense(hidden, "relu", kernel_initializer=kernel, name="hidden"))
            kernel = initializer(architecture, last_gain, seeds)
            layers.append(tf.keras.layers.Dense(outputs, kernel_initializer=kernel, name="last"))
            made = tf.keras.Sequential(layers, name=name)
            made.build([None, size])
            return made

        self._units = units
        self._w1 = network(self.num_agents * units, hypernet_units, "w1")
        self._w2 = network(units, hypernet_units, "w2")
        self._b1 = network(units, None, "b1")
        self._b2 = network(1, units, "b2")

    def __call__(self, value: tf.Tensor, observation: types.NestedTensor) -> tf.Tensor:
        state = observation["state"] if self._normalizer is None else self._normalizer(observation["state"])
        value = tf.where(observation["alive"], value, 0.0)
        w1 = tf.abs(self._w1(state))
        w1 = tf.reshape(w1, tf.concat([tf.shape(w1)[:-1], [self.num_agents, self._units]], axis=0))
        hidden = tf.nn.elu(tf.reduce_sum(value[..., None] * w1, axis=-2) + self._b1(state))
        return tf.reduce_sum(hidden * tf.abs(self._w2(state)), axis=-1, keepdims=True) + self._b2(state)

    def observe(self, observation: types.NestedTensor, counts: tf.Tensor) -> None:
        if self._normalizer is not None:
            self._normalizer.update(observation["state"], counts)
