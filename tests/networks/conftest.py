"""This module defines a small task of three agents, networks for it, and functions that call them."""

import pytest
import tensorflow as tf

from tf_marl.networks import Actor, Critic
from tf_marl.ops import categorical

NUM_AGENTS, NUM_ACTIONS, NUM_FEATURES, STATE_SIZE = 3, 4, 5, 6
SPEC = {
    "obs": tf.TensorSpec([NUM_AGENTS, NUM_FEATURES], tf.float32),
    "state": tf.TensorSpec([STATE_SIZE], tf.float32),
    "avail_actions": tf.TensorSpec([NUM_AGENTS, NUM_ACTIONS], tf.bool),
    "alive": tf.TensorSpec([NUM_AGENTS], tf.bool),
}
CRITIC_INPUTS = {"critic of obs": ["obs"], "critic of state": ["state"], "critic of both": ["state", "obs"]}


@pytest.fixture
def draw(rng):
    """Gives a function (*shape, **given) -> random observation with that batch shape.

    All agents are alive and all actions available. Entries of `given` replace those of the observation.
    """

    def observation(*shape, **given):
        return {
            "obs": tf.constant(rng.normal(size=(*shape, NUM_AGENTS, NUM_FEATURES)), tf.float32),
            "state": tf.constant(rng.normal(size=(*shape, STATE_SIZE)), tf.float32),
            "avail_actions": tf.ones([*shape, NUM_AGENTS, NUM_ACTIONS], tf.bool),
            "alive": tf.ones([*shape, NUM_AGENTS], tf.bool),
        } | given

    return observation


@pytest.fixture
def randomised(rng):
    """Gives a function (net) -> the network with random weights, at which every input changes the outputs.

    At its initial weights, agents behave alike and logits are near 0.
    """

    def assign(net):
        net.create_variables()
        for variable in net.trainable_variables:
            variable.assign(tf.constant(rng.normal(scale=0.5, size=variable.shape), tf.float32))
        return net

    return assign


@pytest.fixture(scope="session")
def build():
    """Gives a function (kind, groups, architecture, seed=1, **options) -> network.

    The kind is "actor" or a key of CRITIC_INPUTS.
    """

    def network(kind, groups, architecture, seed=1, **options):
        if kind == "actor":
            return Actor(SPEC, groups, architecture, seed)
        return Critic(SPEC, groups, architecture, seed, inputs=CRITIC_INPUTS[kind], **options)

    return network


@pytest.fixture(scope="session")
def call():
    """Gives a function (net, observation, step_type=None, state=None) -> outputs, next recurrent state.

    Outputs are an actor's logits or a critic's values, as NumPy arrays. The recurrent state starts at zeros.
    """

    def called(net, observation, step_type=None, state=None):
        state = net.get_initial_state(observation["obs"].shape[0]) if state is None else state
        outputs, state = net(observation, step_type=step_type, network_state=state)
        if isinstance(net, Actor):
            outputs = categorical.agent_distribution(outputs).logits
        return outputs.numpy(), state

    return called


@pytest.fixture(scope="session")
def outputs_of(call):
    """Gives a function (net, observation) -> an actor's logits or a critic's values, as NumPy arrays."""
    return lambda net, observation: call(net, observation)[0]


@pytest.fixture(scope="session")
def nudged():
    """Gives a function (observation, entry, *where) -> copy of the observation with 1 added there in one entry."""

    def other(observation, entry, *where):
        leaf = observation[entry].numpy()
        leaf[where] += 1.0
        return observation | {entry: tf.constant(leaf)}

    return other


@pytest.fixture(scope="session")
def weights_of():
    """Gives a function (net) -> its variables by name, such as "first_obs/kernel" or, for the GRU, "gru/kernel"."""

    def by_name(net):
        named = {}
        for variable in net.variables:
            name = variable.name.removesuffix(":0").removeprefix(f"{net.name}/").removeprefix("torso/")
            named[f"gru/{name}" if name in ("kernel", "bias") else name] = variable
        return named

    return by_name
