"""The networks' weights: who shares which, and what they are at first."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tf_marl.networks import Architecture
from tf_marl.ops import categorical

NUM_ENVS, NUM_STEPS, NUM_AGENTS, NUM_FEATURES = 2, 5, 3, 5
SHARED, OWN, MIXED = [0, 0, 0], [0, 1, 2], [0, 1, 1]
DENSE = Architecture(hidden=(8, 6), head_hidden=(7,), activation="tanh")
RECURRENT = Architecture(hidden=(8,), rnn="gru", rnn_units=6, activation="tanh")


# Who shares what


def test_agents_of_shared_weights_are_told_apart_by_their_id_alone(draw, randomised, build, outputs_of, weights_of):
    actor = randomised(build("actor", SHARED, DENSE))
    agent_id = weights_of(actor)["agent_id"]
    own_ids = agent_id.numpy()
    same_obs = tf.repeat(draw(2)["obs"][:, :1], NUM_AGENTS, axis=1)
    observation = draw(2, obs=same_obs)
    agent_id.assign(tf.zeros_like(agent_id))
    alike = outputs_of(actor, observation)
    np.testing.assert_allclose(alike, np.repeat(alike[:, :1], NUM_AGENTS, axis=1), atol=1e-6)
    agent_id.assign(tf.tensor_scatter_nd_update(agent_id, [[1]], own_ids[1:2]))
    told_apart = outputs_of(actor, observation)
    np.testing.assert_array_equal(told_apart[:, [0, 2]], alike[:, [0, 2]])
    assert (told_apart[:, 1] != alike[:, 1]).all()


def test_agents_of_shared_weights_may_change_places(draw, randomised, build, outputs_of, weights_of):
    actor = randomised(build("actor", SHARED, RECURRENT))
    observation = draw(2, NUM_STEPS)
    logits = outputs_of(actor, observation)
    places = [2, 0, 1]
    agent_id = weights_of(actor)["agent_id"]
    agent_id.assign(tf.gather(agent_id, places))
    moved = outputs_of(actor, observation | {"obs": tf.gather(observation["obs"], places, axis=2)})
    np.testing.assert_allclose(moved, logits[:, :, places], atol=1e-5)


@pytest.mark.parametrize("kind", ["actor", "critic of both"])
@pytest.mark.parametrize("groups", [MIXED, OWN], ids=["mixed", "own"])
def test_an_agents_gradient_reaches_the_weights_of_its_group_and_its_id_alone(
    kind, groups, draw, randomised, build, weights_of
):
    net = randomised(build(kind, groups, RECURRENT))
    observation = draw(NUM_ENVS, NUM_STEPS)
    state = net.get_initial_state(NUM_ENVS)
    for agent, group in enumerate(groups):
        with tf.GradientTape() as tape:
            outputs, _ = net(observation, network_state=state)
            logits_or_value = categorical.agent_distribution(outputs).logits if kind == "actor" else outputs
            total = tf.reduce_sum(logits_or_value[:, :, agent])
        gradients = tape.gradient(total, net.trainable_variables)
        for variable, gradient in zip(net.trainable_variables, gradients, strict=True):
            gradient = tf.convert_to_tensor(gradient).numpy()
            reached = gradient.reshape(len(gradient), -1).any(axis=1)
            is_id = variable is weights_of(net)["agent_id"]
            expected = np.arange(NUM_AGENTS if is_id else max(groups) + 1) == (agent if is_id else group)
            np.testing.assert_array_equal(reached, expected, err_msg=variable.name)


def test_agents_of_one_group_are_alike_and_groups_are_not_from_the_start(
    draw, build, outputs_of, weights_of, kernels_of
):
    actor = build("actor", MIXED, DENSE)
    same_obs = tf.repeat(draw(2)["obs"][:, :1], NUM_AGENTS, axis=1)
    logits = outputs_of(actor, draw(2, obs=same_obs))
    # Equal rows of a product may round differently.
    np.testing.assert_allclose(logits[:, 1], logits[:, 2], rtol=1e-4, atol=1e-7)
    assert (abs(logits[:, 0] - logits[:, 1]) > 1e-5).all()


# Initial weights


@pytest.fixture(scope="session")
def kernels_of(weights_of):
    """(actor) -> name -> kernel and the gain asked for, [G, F, units] or [F, units]."""

    def kernels(actor):
        named = weights_of(actor)
        gates = np.split(named["gru/kernel"], 3, axis=-1)
        return {
            "first": (named["first_obs/kernel"].numpy(), 1.5),
            "hidden": (named["hidden_0/kernel"].numpy(), 1.5),
            "gru input": (named["gru/input/kernel"].numpy(), 1.0),
            "head hidden": (named["head/hidden_0/kernel"].numpy(), 1.5),
            "last": (named["head/last/kernel"].numpy(), 0.01),
        } | {f"gru {name}": (kernel, 1.0) for name, kernel in zip("rzn", gates, strict=True)}

    return kernels


# Square from the first hidden layer on, so that any two kernels could be equal.
SQUARE = Architecture(
    hidden=(6, 6), rnn="gru", rnn_units=6, head_hidden=(6,), activation="tanh", hidden_gain=1.5, actor_gain=0.01
)


@pytest.mark.parametrize("groups", [SHARED, MIXED], ids=["shared", "mixed"])
def test_initial_kernels_are_orthogonal_of_the_gain_asked_for_and_all_differ(groups, build, kernels_of):
    actor = build("actor", groups, SQUARE)
    actor.create_variables()
    directions = []
    for name, (kernel, gain) in kernels_of(actor).items():
        matrices = kernel[None] if groups == SHARED else kernel
        assert matrices.shape[0] == max(groups) + 1
        for matrix in matrices:
            rows, columns = matrix.shape
            product = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
            np.testing.assert_allclose(product, gain**2 * np.eye(min(rows, columns)), atol=1e-5 * gain, err_msg=name)
            directions.append(np.round(matrix[0, :3] / gain, 4))
    assert len(np.unique(directions, axis=0)) == len(directions)


@pytest.mark.parametrize("groups", [SHARED, MIXED], ids=["shared", "mixed"])
def test_fan_in_weights_and_ids_are_uniform_within_the_root_of_one_over_the_inputs(
    groups, build, weights_of, kernels_of
):
    wide = Architecture(hidden=(64, 64), rnn="gru", rnn_units=64, head_hidden=(64,), initializer="fan_in")
    actor = build("actor", groups, wide)
    actor.create_variables()
    kernels = {name: kernel for name, (kernel, _) in kernels_of(actor).items()}
    fans = {name: kernel.shape[-2] for name, kernel in kernels.items()}
    kernels["ids"], fans["ids"] = weights_of(actor)["agent_id"].numpy(), NUM_FEATURES + NUM_AGENTS
    for name, kernel in kernels.items():
        bound = fans[name] ** -0.5
        test = scipy.stats.kstest(np.ravel(kernel), scipy.stats.uniform(-bound, 2 * bound).cdf)
        assert test.pvalue > 1e-3, name
        assert np.abs(kernel).max() <= bound
    assert len({float(np.ravel(kernel)[0]) for kernel in kernels.values()}) == len(kernels)


def test_biases_and_ids_start_at_0_and_the_seed_decides_the_rest(build):
    some, same, other = (build("actor", MIXED, SQUARE, seed) for seed in (1, 1, 2))
    for actor in (some, same, other):
        actor.create_variables()
    for a, b, c in zip(some.trainable_variables, same.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.any(a != c) == ("kernel" in a.name)
        assert np.any(a != 0.0) == ("kernel" in a.name)


def test_a_critics_last_layer_has_its_own_gain(build, weights_of):
    critic = build("critic of obs", SHARED, Architecture(hidden=(6,), critic_gain=3.0))
    critic.create_variables()
    np.testing.assert_allclose(np.linalg.norm(weights_of(critic)["head/last/kernel"]), 3.0, rtol=1e-5)
