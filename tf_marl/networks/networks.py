"""The weights: an actor that turns observations into a team policy, and a critic that turns them into values.

    observation -> torso (dense layers, then a GRU if wanted) -> head (dense layers) -> logits or values

Agents share weights and are told apart by an agent id, a learned vector per agent in the first layer, which is what
appending a one-hot id to the observation amounts to, without the copy. Or each group of agents has its own.

Shapes: B environments, T steps, N agents, F features, H units. Networks take one step, [B, ...], or sequences,
[B, T, ...]; recurrent states are [B, N, H], and zeros at the first step of an episode.

The agent axis holds the whole team in order, or, for torsos, heads and layers that are told who is on it (`agents`, [R]
indices), any R agents, some more than once: what serves single agents' decisions is a team made of the rows at hand.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import pydantic
import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tf_agents.networks import network
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.config import STRICT, Count
from tf_marl.networks.normalizer import RunningNormalizer
from tf_marl.ops import categorical, gru, masked

_OBSERVATION_CLIP = 10.0  # standard deviations

_Units = Annotated[Count, pydantic.Field(le=2**15)]  # a square layer of so many takes 4 gigabytes
Sizes = Annotated[tuple[_Units, ...], pydantic.Field(strict=False)]  # gin writes lists and tuples alike


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Architecture:
    """What actor and critic are made of."""

    hidden: Annotated[Sizes, pydantic.Field(min_length=1)] = (128, 128)  # units of the torso's dense layers
    rnn: Literal["none", "gru"] = "none"  # after them
    rnn_units: _Units = 128
    head_hidden: Sizes = ()  # units of the dense layers after that, of actor and critic each
    activation: Literal["relu", "tanh"] = "relu"
    # Of the kernels; fan_in is PyTorch's, uniform within 1 / sqrt(inputs), and draws agent ids as well.
    initializer: Literal["orthogonal", "fan_in"] = "orthogonal"
    hidden_gain: pydantic.PositiveFloat = 2**0.5  # of orthogonal initial weights
    actor_gain: pydantic.PositiveFloat = 0.01  # of the last layer; small: the policy starts close to uniform
    critic_gain: pydantic.PositiveFloat = 1.0
    normalize_observations: bool = False  # by their running mean and variance


def _add_weights(
    layer: tf.keras.layers.Layer,
    name: str,
    groups: Sequence[int],
    shape: Sequence[int],
    initializer: tf.keras.initializers.Initializer | None = None,
) -> tf.Variable:
    """Weights for each group of agents, [G, *shape]; those of all alike, without the first axis. Zeros by default."""
    num_groups = max(groups) + 1
    draw = initializer or tf.keras.initializers.Zeros()
    if num_groups == 1:
        return layer.add_weight(name, shape, initializer=draw)
    return layer.add_weight(
        name,
        [num_groups, *shape],
        initializer=lambda _, dtype=None: tf.stack([draw(shape, dtype) for _ in range(num_groups)]),
    )


def _of_agents(weights: tf.Variable, groups: Sequence[int], agents: tf.Tensor | None = None) -> tf.Tensor:
    """Each agent's weights, [N, ...], or those of `agents`, [R, ...]; what all share, as it is."""
    if max(groups) == 0:
        return tf.convert_to_tensor(weights)
    return tf.gather(weights, groups if agents is None else tf.gather(groups, agents))


class Orthogonal(tf.keras.initializers.Initializer):
    """Orthogonal weights, drawn anew at every call from a seed of its own."""

    def __init__(self, gain: float, seeds: Iterator[int]):
        self._gain, self._seeds = gain, seeds

    def __call__(self, shape, dtype=None, **kwargs):
        return tf.keras.initializers.Orthogonal(self._gain, seed=next(self._seeds))(shape, dtype)


class FanIn(tf.keras.initializers.Initializer):
    """Uniform weights within 1 / sqrt(inputs); inputs are the first axis if not given. Drawn as `Orthogonal` is."""

    def __init__(self, seeds: Iterator[int], inputs: int | None = None):
        self._seeds, self._inputs = seeds, inputs

    def __call__(self, shape, dtype=None, **kwargs):
        bound = (self._inputs or shape[0]) ** -0.5
        return tf.keras.initializers.RandomUniform(-bound, bound, seed=next(self._seeds))(shape, dtype)


def _initializer(architecture: Architecture, gain: float, seeds: Iterator[int]) -> tf.keras.initializers.Initializer:
    return FanIn(seeds) if architecture.initializer == "fan_in" else Orthogonal(gain, seeds)


class AgentDense(tf.keras.layers.Layer):
    """A dense layer for N agents, [..., N, F] -> [..., N, units].

    Args:
        groups: [N], each agent's group, from 0; agents of one group share their weights.
        units: outputs.
        initializer: of the kernel; a bias starts at 0.
        bias: whether there is one.
        is_first: whether the input is an observation, which nobody asks a gradient for.
    """

    def __init__(
        self,
        groups: Sequence[int],
        units: int,
        initializer: tf.keras.initializers.Initializer,
        bias: bool = True,
        is_first: bool = False,
        name: str = "dense",
    ):
        super().__init__(name=name)
        self._groups, self._units, self._initializer, self._has_bias = groups, units, initializer, bias
        self._num_products = 2 if is_first else 3

    def build(self, shape):
        num_inputs = shape[-2] if max(self._groups) == 0 else len(self._groups)
        self.training_flops = self._num_products * 2 * num_inputs * shape[-1] * self._units
        self.kernel = _add_weights(self, "kernel", self._groups, [shape[-1], self._units], self._initializer)
        if self._has_bias:
            self.bias = _add_weights(self, "bias", self._groups, [self._units])

    def call(self, x: tf.Tensor, agents: tf.Tensor | None = None) -> tf.Tensor:
        """x may have an agent axis of size 1, for what all agents see alike."""
        kernel = _of_agents(self.kernel, self._groups, agents)
        if len(kernel.shape) == 2:
            y = tf.tensordot(x, kernel, 1)
        else:
            _, features, units = kernel.shape
            num_agents = len(self._groups) if agents is None else tf.shape(agents)[0]
            x = tf.repeat(x, num_agents, axis=-2) if x.shape[-2] == 1 else x
            rows = tf.reshape(x, [-1, num_agents, features])  # XLA is slow at products over several row axes
            y = tf.einsum("rni,nio->rno", rows, kernel)
            y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], [units]], axis=0))
        return y + _of_agents(self.bias, self._groups, agents) if self._has_bias else y


class GRU(tf.keras.layers.Layer):
    """A gated recurrent unit per agent (`ops/gru.py`): [T, B, N, F] -> [T, B, N, units]. Args: as `AgentDense`."""

    def __init__(
        self,
        groups: Sequence[int],
        units: int,
        initializer: tf.keras.initializers.Initializer,
        name: str = "gru",
    ):
        super().__init__(name=name)
        self._groups = groups
        self._input = AgentDense(groups, 3 * units, initializer, name="input")
        self._kernel = _add_weights(
            self,
            "kernel",
            groups,
            [units, 3 * units],
            lambda shape, dtype=None: tf.concat([initializer([units, units], dtype) for _ in range(3)], axis=-1),
        )
        self._bias = _add_weights(self, "bias", groups, [units])
        self._units = units

    def build(self, shape):
        self.training_flops = 3 * 2 * shape[-2] * self._units * 3 * self._units

    def call(self, x: tf.Tensor, state: tf.Tensor, keep: tf.Tensor, agents: tf.Tensor | None = None) -> tf.Tensor:
        """Args: state [B, N, units] before the first step; keep [T, B], 0 where the step forgets it."""
        kernel, bias = (_of_agents(weights, self._groups, agents) for weights in (self._kernel, self._bias))
        return gru.unroll(self._input(x, agents), state, keep, kernel, bias)


class Torso(tf.keras.layers.Layer):
    """What the agents know, as features [..., N, H].

    Args:
        observation_spec: of one environment.
        inputs: entries of the observation; those without an agent axis are seen by all.
        groups: [N], as in `AgentDense`.
        architecture: sizes.
        seeds: of the initial weights.
    """

    def __init__(
        self,
        observation_spec: types.NestedTensorSpec,
        inputs: Sequence[str],
        groups: Sequence[int],
        architecture: Architecture,
        seeds: Iterator[int],
        name: str = "torso",
    ):
        super().__init__(name=name)
        initializer = _initializer(architecture, architecture.hidden_gain, seeds)
        first, *rest = architecture.hidden
        self.inputs = {name: observation_spec[name] for name in inputs}
        self.normalizers = {
            name: RunningNormalizer(spec.shape[-1], clip=_OBSERVATION_CLIP, name=f"normalize_{name}")
            for name, spec in self.inputs.items()
            if architecture.normalize_observations
        }
        self._activation = tf.keras.activations.get(architecture.activation)
        self._first = {
            name: AgentDense(groups, first, initializer, bias=name == inputs[0], is_first=True, name=f"first_{name}")
            for name in inputs
        }
        ids: Any = "zeros"
        if architecture.initializer == "fan_in":  # an id is one of the first layer's inputs
            ids = FanIn(seeds, len(groups) + sum(spec.shape[-1] for spec in self.inputs.values()))
        self._agent_id = self.add_weight("agent_id", [len(groups), first], initializer=ids)
        self._rest = [AgentDense(groups, units, initializer, name=f"hidden_{i}") for i, units in enumerate(rest)]
        self._gru = None
        self.state_spec: Any = ()
        if architecture.rnn == "gru":
            self._gru = GRU(groups, architecture.rnn_units, _initializer(architecture, 1.0, seeds))
            self.state_spec = tf.TensorSpec([len(groups), architecture.rnn_units], tf.float32, "gru")

    def call(
        self,
        observation: types.NestedTensor,
        step_type: tf.Tensor | None = None,
        state: Any = (),
        agents: tf.Tensor | None = None,
    ):
        """Returns: features, and the state after the last step."""
        x = tf.convert_to_tensor(self._agent_id) if agents is None else tf.gather(self._agent_id, agents)
        for name, spec in self.inputs.items():
            leaf = observation[name]
            leaf = self.normalizers[name](leaf) if self.normalizers else leaf
            x += self._first[name](leaf if len(spec.shape) == 2 else leaf[..., None, :], agents)
        x = self._activation(x)
        for layer in self._rest:
            x = self._activation(layer(x, agents))
        if self._gru is None:
            return x, ()
        if isinstance(state, tuple):  # none given
            state = tf.zeros([tf.shape(x)[0], *self.state_spec.shape])
        if len(x.shape) == 3:  # one step
            x = self._gru(x[None], state, _keep(step_type, x)[None], agents)[0]
            return x, x
        x = self._gru(tf.transpose(x, [1, 0, 2, 3]), state, tf.transpose(_keep(step_type, x)), agents)
        return tf.transpose(x, [1, 0, 2, 3]), x[-1]

    def observe(self, observation: types.NestedTensor, counts: tf.Tensor) -> None:
        """Takes observations into the running statistics, if there are any. Args: counts [..., N] bool."""
        for name, normalizer in self.normalizers.items():
            of_agents = len(self.inputs[name].shape) == 2
            normalizer.update(observation[name], counts if of_agents else tf.reduce_any(counts, axis=-1))


def _keep(step_type: tf.Tensor | None, x: tf.Tensor) -> tf.Tensor:
    """0 at the first steps of episodes, else 1; [B] or [B, T], as `x` [..., N, H] is."""
    if step_type is None:
        return tf.ones(tf.shape(x)[:-2], x.dtype)
    return tf.cast(step_type != ts.StepType.FIRST, x.dtype)


class Head(tf.keras.layers.Layer):
    """Features [..., N, H] -> [..., N, outputs]."""

    def __init__(
        self,
        groups: Sequence[int],
        outputs: int,
        gain: float,
        architecture: Architecture,
        seeds: Iterator[int],
        name: str = "head",
    ):
        super().__init__(name=name)
        hidden = _initializer(architecture, architecture.hidden_gain, seeds)
        self._activation = tf.keras.activations.get(architecture.activation)
        self._hidden = [
            AgentDense(groups, units, hidden, name=f"hidden_{i}") for i, units in enumerate(architecture.head_hidden)
        ]
        self.last = AgentDense(groups, outputs, _initializer(architecture, gain, seeds), name="last")

    def call(self, x: tf.Tensor, agents: tf.Tensor | None = None) -> tf.Tensor:
        for layer in self._hidden:
            x = self._activation(layer(x, agents))
        return self.last(x, agents)


class Actor(network.Network):
    """Decentralised policies: agent i's actions depend on its own observations and id alone.

    Args:
        observation_spec: of one environment.
        groups: [N], as in `AgentDense`.
        architecture: sizes.
        seed: of the initial weights.
    """

    def __init__(
        self,
        observation_spec: types.NestedTensorSpec,
        groups: Sequence[int],
        architecture: Architecture,
        seed: int,
        name: str = "Actor",
    ):
        seeds = itertools.count(seed)
        torso = Torso(observation_spec, ["obs"], groups, architecture, seeds)
        super().__init__(input_tensor_spec=observation_spec, state_spec=torso.state_spec, name=name)
        num_actions = observation_spec["avail_actions"].shape[-1]
        self.torso = torso
        self._head = Head(groups, num_actions, architecture.actor_gain, architecture, seeds)

    def call(self, observation, step_type=None, network_state=(), training=False):
        """Observation dict [B, ...] or [B, T, ...] -> team distribution of that batch shape and event [N]."""
        features, network_state = self.torso(observation, step_type, network_state)
        return self.policy(features, observation), network_state

    def policy(
        self, features: tf.Tensor, observation: types.NestedTensor, agents: tf.Tensor | None = None
    ) -> tfd.Independent:
        """The rest of `call`, after the torso."""
        logits = categorical.mask_logits(self._head(features, agents), observation["avail_actions"])
        return categorical.team_distribution(logits)


class Critic(network.Network):
    """Values of what the team awaits: one per agent, [..., N], or one for the team, [..., 1].

    Args:
        observation_spec: of one environment.
        groups: [N], as in `AgentDense`.
        architecture: sizes.
        seed: of the initial weights.
        inputs: `obs`, what the agent sees; `state`, of the whole battle; or both.
        team: one value for the team: from `state` alone that is the network's only one, else the mean over the living.
        fills_dead: a dead agent's value is the mean of its living team mates', who await the same team reward; so the
            critic may learn from the living alone.
        value_decay: None, or the head learns returns brought to mean 0 and variance 1 by running statistics with that
            decay per update (PopArt: van Hasselt et al. 2016).
        torso: an actor's, to share; by default the critic has its own.
    """

    def __init__(
        self,
        observation_spec: types.NestedTensorSpec,
        groups: Sequence[int],
        architecture: Architecture,
        seed: int,
        inputs: Sequence[str] = ("obs",),
        team: bool = False,
        fills_dead: bool = True,
        value_decay: float | None = None,
        torso: Torso | None = None,
        name: str = "Critic",
    ):
        seeds = itertools.count(seed)
        if team and "obs" not in inputs:
            groups = [0]
        torso = torso or Torso(observation_spec, inputs, groups, architecture, seeds)
        super().__init__(input_tensor_spec=observation_spec, state_spec=torso.state_spec, name=name)
        self.torso = torso
        self.team = team
        self.num_values = 1 if team else len(groups)  # K
        self._fills_dead = fills_dead
        self._head = Head(groups, 1, architecture.critic_gain, architecture, seeds)
        self._normalizer = None if value_decay is None else RunningNormalizer(1, value_decay, name="normalize_returns")

    def call(self, observation, step_type=None, network_state=(), training=False):
        """Observation dict [B, ...] or [B, T, ...] -> values [..., N or 1]."""
        features, network_state = self.torso(observation, step_type, network_state)
        return self.value(features, observation), network_state

    def value(self, features: tf.Tensor, observation: types.NestedTensor) -> tf.Tensor:
        """The rest of `call`, after the torso."""
        value = self._head(features)
        value = tf.squeeze(self._normalizer.denormalise(value) if self._normalizer else value, axis=-1)
        if value.shape[-1] == 1:
            return value
        alive = observation["alive"]
        of_living = masked.mean(value, alive, axis=-1, keepdims=True)
        if self.team:
            return of_living
        return tf.where(alive, value, of_living) if self._fills_dead else value

    def normalise(self, value: tf.Tensor) -> tf.Tensor:
        """Values or returns in the units that the head learns. Any shape."""
        return self._normalizer(value[..., None])[..., 0] if self._normalizer else value

    def observe_returns(self, returns: tf.Tensor, mask: tf.Tensor) -> None:
        """Takes returns into the statistics and the last layer along, so that no value changes (PopArt, eq. 9).

        Args:
            returns: [..., N or 1].
            mask: shaped like `returns`, bool; those that count.
        """
        if self._normalizer is None:
            return
        mean, std = tf.identity(self._normalizer.mean), self._normalizer.std
        self._normalizer.update(returns[..., None], mask)
        last, new_std = self._head.last, self._normalizer.std
        last.kernel.assign(last.kernel * std / new_std)
        last.bias.assign((last.bias * std + mean - self._normalizer.mean) / new_std)


class ActorCritic(tf.Module):
    """Actor and critic in one pass, of a torso of their own each or of one that they share.

    `state_spec` is {"actor": ..., "critic": ...} if they are recurrent, where a shared torso's state is the actor's;
    else it is ().
    """

    def __init__(self, actor: Actor, critic: Critic):
        super().__init__("actor_critic")
        self.actor, self.critic = actor, critic
        self.shares_torso = actor.torso is critic.torso
        self.state_spec: Any = ()
        if actor.state_spec:
            self.state_spec = {"actor": actor.state_spec, "critic": () if self.shares_torso else critic.state_spec}
        actor.create_variables()
        critic.create_variables()

    def __call__(
        self, observation: types.NestedTensor, step_type: tf.Tensor, state: types.NestedTensor
    ) -> tuple[tfd.Independent, tf.Tensor, types.NestedTensor]:
        """Returns: team distribution, values [..., N or 1], the state after the last step."""
        actor_state, critic_state = (state["actor"], state["critic"]) if self.state_spec else ((), ())
        if self.shares_torso:
            features, actor_state = self.actor.torso(observation, step_type, actor_state)
            team, value = self.actor.policy(features, observation), self.critic.value(features, observation)
        else:
            team, actor_state = self.actor(observation, step_type, actor_state)
            value, critic_state = self.critic(observation, step_type, critic_state)
        return team, value, {"actor": actor_state, "critic": critic_state} if self.state_spec else ()


def training_flops(networks: tf.Module) -> int:
    """Floating-point operations of all matrix products in a forward and a backward pass over one row of a rollout."""
    return sum(getattr(layer, "training_flops", 0) for layer in networks.submodules)
