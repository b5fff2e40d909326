"""Actor and critic: who sees what, who shares what, and that a sequence at once equals its steps one by one."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from tf_agents.networks import network
from tf_agents.trajectories import time_step as ts

from tf_marl.networks import Actor, ActorCritic, Architecture, Critic
from tf_marl.ops import categorical

NUM_ENVS, NUM_STEPS, NUM_AGENTS, NUM_ACTIONS, NUM_FEATURES = 2, 5, 3, 4, 5
SPEC = {
    "obs": tf.TensorSpec([NUM_AGENTS, NUM_FEATURES], tf.float32),
    "state": tf.TensorSpec([6], tf.float32),
    "avail_actions": tf.TensorSpec([NUM_AGENTS, NUM_ACTIONS], tf.bool),
    "alive": tf.TensorSpec([NUM_AGENTS], tf.bool),
}
SHARED, OWN, MIXED = [0, 0, 0], [0, 1, 2], [0, 1, 1]
DENSE = Architecture(hidden=(8, 6), head_hidden=(7,), activation="tanh")
RECURRENT = Architecture(hidden=(8,), rnn="gru", rnn_units=6, activation="tanh")
ACTOR, CRITICS = "actor", {"critic of obs": ["obs"], "critic of state": ["state"], "critic of both": ["state", "obs"]}


@pytest.fixture
def draw(rng):
    """shape -> an observation of that batch shape; all live and may do everything, unless told otherwise."""

    def observation(*shape, **given):
        return {
            "obs": tf.constant(rng.normal(size=(*shape, NUM_AGENTS, NUM_FEATURES)), tf.float32),
            "state": tf.constant(rng.normal(size=(*shape, 6)), tf.float32),
            "avail_actions": tf.ones([*shape, NUM_AGENTS, NUM_ACTIONS], tf.bool),
            "alive": tf.ones([*shape, NUM_AGENTS], tf.bool),
        } | given

    return observation


@pytest.fixture
def randomised(rng):
    """Gives a network weights at which everything matters; at its first ones agents are alike and logits near 0."""

    def assign(net):
        net.create_variables()
        for variable in net.trainable_variables:
            variable.assign(tf.constant(rng.normal(scale=0.5, size=variable.shape), tf.float32))
        return net

    return assign


def build(kind, groups, architecture, **options):
    if kind == ACTOR:
        return Actor(SPEC, groups, architecture, seed=1)
    return Critic(SPEC, groups, architecture, seed=1, inputs=CRITICS[kind], **options)


def call(net, observation, step_type=None, state=None):
    """Logits or values, as NumPy's; and the state after, from one of zeros by default."""
    state = net.get_initial_state(observation["obs"].shape[0]) if state is None else state
    outputs, state = net(observation, step_type=step_type, network_state=state)
    if isinstance(net, Actor):
        outputs = categorical.agent_distribution(outputs).logits
    return outputs.numpy(), state


def outputs_of(net, observation):
    return call(net, observation)[0]


def nudged(observation, name, *where):
    """Another observation, which differs at `where`."""
    leaf = observation[name].numpy()
    leaf[where] += 1.0
    return observation | {name: tf.constant(leaf)}


def at(step, nest):
    return tf.nest.map_structure(lambda leaf: leaf[:, step], nest)


# Sequences


@pytest.mark.parametrize("groups", [SHARED, MIXED], ids=["shared", "mixed"])
@pytest.mark.parametrize("kind", [ACTOR, *CRITICS])
def test_a_sequence_at_once_equals_its_steps_one_by_one(kind, groups, draw, randomised, rng):
    net = randomised(build(kind, groups, RECURRENT))
    observation = draw(NUM_ENVS, NUM_STEPS)
    step_type = np.full([NUM_ENVS, NUM_STEPS], ts.StepType.MID)
    step_type[0, 3] = step_type[1, 0] = step_type[1, 2] = ts.StepType.FIRST
    step_type = tf.constant(step_type, tf.int32)
    state = tf.constant(rng.normal(size=(NUM_ENVS, NUM_AGENTS, RECURRENT.rnn_units)), tf.float32)
    actual, final = call(net, observation, step_type, state)
    for t in range(NUM_STEPS):
        expected, state = call(net, at(t, observation), step_type[:, t], state)
        np.testing.assert_allclose(actual[:, t], expected, atol=1e-5)
    np.testing.assert_allclose(final, state, atol=1e-5)


def test_an_episode_starts_from_zeros_whatever_came_before(draw, randomised):
    actor = randomised(build(ACTOR, SHARED, RECURRENT))
    observation = draw(1, NUM_STEPS)
    step_type = tf.constant([[ts.StepType.MID] * 2 + [ts.StepType.FIRST] + [ts.StepType.MID] * 2], tf.int32)
    logits, _ = call(actor, observation, step_type)
    other, _ = call(actor, nudged(observation, "obs", 0, 0), step_type)
    assert (other[:, :2] != logits[:, :2]).all()
    np.testing.assert_array_equal(other[:, 2:], logits[:, 2:])
    fresh, _ = call(actor, {name: leaf[:, 2:] for name, leaf in observation.items()})
    np.testing.assert_allclose(logits[:, 2:], fresh, atol=1e-6)


def test_without_step_types_no_step_starts_an_episode(draw, randomised, rng):
    actor = randomised(build(ACTOR, SHARED, RECURRENT))
    state = tf.constant(rng.normal(size=(NUM_ENVS, NUM_AGENTS, RECURRENT.rnn_units)), tf.float32)
    for shape in [(NUM_ENVS,), (NUM_ENVS, NUM_STEPS)]:
        observation = draw(*shape)
        expected, _ = call(actor, observation, tf.fill(shape, ts.StepType.MID), state)
        np.testing.assert_array_equal(call(actor, observation, None, state)[0], expected)


@pytest.mark.parametrize("shape", [(NUM_ENVS,), (NUM_ENVS, NUM_STEPS)], ids=["step", "sequence"])
def test_without_a_state_a_network_starts_from_zeros(shape, draw, randomised):
    critic = randomised(build("critic of obs", SHARED, RECURRENT))
    observation = draw(*shape)
    np.testing.assert_array_equal(critic(observation)[0], outputs_of(critic, observation))


# Who sees what


@pytest.mark.parametrize("groups", [SHARED, MIXED], ids=["shared", "mixed"])
@pytest.mark.parametrize("architecture", [DENSE, RECURRENT], ids=["dense", "recurrent"])
def test_logits_depend_on_the_agents_own_observations_up_to_then_alone(architecture, groups, draw, randomised):
    actor = randomised(build(ACTOR, groups, architecture))
    observation = draw(NUM_ENVS, NUM_STEPS)
    env, step, agent = 1, 2, 1
    changed = outputs_of(actor, nudged(observation, "obs", env, step, agent)) != outputs_of(actor, observation)
    expected = np.zeros([NUM_ENVS, NUM_STEPS, NUM_AGENTS], bool)
    expected[env, step:, agent] = True
    if architecture is DENSE:
        expected[env, step + 1 :, agent] = False
    np.testing.assert_array_equal(changed.all(axis=-1), expected)
    np.testing.assert_array_equal(changed.any(axis=-1), expected)
    of_nobody = nudged(observation, "state")
    np.testing.assert_array_equal(outputs_of(actor, of_nobody), outputs_of(actor, observation))


@pytest.mark.parametrize("groups", [SHARED, MIXED], ids=["shared", "mixed"])
@pytest.mark.parametrize("kind", CRITICS)
def test_values_depend_on_what_the_critic_is_given_alone(kind, groups, draw, randomised):
    critic = randomised(build(kind, groups, DENSE))
    observation = draw(2)
    value = outputs_of(critic, observation)
    assert value.shape == (2, NUM_AGENTS)
    assert np.unique(value).size == value.size
    of_obs = outputs_of(critic, nudged(observation, "obs", 0, 1)) != value
    of_state = outputs_of(critic, nudged(observation, "state", 0)) != value
    sees_obs, sees_state = "obs" in CRITICS[kind], "state" in CRITICS[kind]
    np.testing.assert_array_equal(of_obs, [[False, sees_obs, False], [False] * 3])
    np.testing.assert_array_equal(of_state, [[sees_state] * 3, [False] * 3])


def test_unavailable_actions_have_probability_0(draw, randomised, rng):
    actor = randomised(build(ACTOR, SHARED, DENSE))
    observation = draw(8)
    everything = outputs_of(actor, observation)
    avail = rng.random([8, NUM_AGENTS, NUM_ACTIONS]) < 0.5
    logits = outputs_of(actor, observation | {"avail_actions": tf.constant(avail)})
    np.testing.assert_array_equal(logits, np.where(avail, everything, np.float32(categorical.MASKED_LOGIT)))


# Who shares what


def test_agents_of_shared_weights_are_told_apart_by_their_id_alone(draw, randomised):
    actor = randomised(build(ACTOR, SHARED, DENSE))
    agent_id = actor.torso._agent_id
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


def test_agents_of_shared_weights_may_change_places(draw, randomised):
    actor = randomised(build(ACTOR, SHARED, RECURRENT))
    observation = draw(2, NUM_STEPS)
    logits = outputs_of(actor, observation)
    places = [2, 0, 1]
    actor.torso._agent_id.assign(tf.gather(actor.torso._agent_id, places))
    moved = outputs_of(actor, observation | {"obs": tf.gather(observation["obs"], places, axis=2)})
    np.testing.assert_allclose(moved, logits[:, :, places], atol=1e-5)


@pytest.mark.parametrize("kind", [ACTOR, "critic of both"])
@pytest.mark.parametrize("groups", [MIXED, OWN], ids=["mixed", "own"])
def test_an_agents_gradient_reaches_the_weights_of_its_group_and_its_id_alone(kind, groups, draw, randomised):
    net = randomised(build(kind, groups, RECURRENT))
    observation = draw(NUM_ENVS, NUM_STEPS)
    state = net.get_initial_state(NUM_ENVS)
    for agent, group in enumerate(groups):
        with tf.GradientTape() as tape:
            outputs, _ = net(observation, network_state=state)
            logits_or_value = categorical.agent_distribution(outputs).logits if kind == ACTOR else outputs
            total = tf.reduce_sum(logits_or_value[:, :, agent])
        gradients = tape.gradient(total, net.trainable_variables)
        for variable, gradient in zip(net.trainable_variables, gradients, strict=True):
            gradient = tf.convert_to_tensor(gradient).numpy()
            reached = gradient.reshape(len(gradient), -1).any(axis=1)
            is_id = variable is net.torso._agent_id
            expected = np.arange(NUM_AGENTS if is_id else max(groups) + 1) == (agent if is_id else group)
            np.testing.assert_array_equal(reached, expected, err_msg=variable.name)


def test_agents_of_one_group_are_alike_and_groups_are_not_from_the_start(draw):
    actor = build(ACTOR, MIXED, DENSE)
    same_obs = tf.repeat(draw(2)["obs"][:, :1], NUM_AGENTS, axis=1)
    logits = outputs_of(actor, draw(2, obs=same_obs))
    np.testing.assert_array_equal(logits[:, 1], logits[:, 2])
    assert (logits[:, 0] != logits[:, 1]).all()


# Initial weights


def kernels_of(actor):
    """name -> kernel and the gain asked for, [G, F, units] or [F, units]."""
    torso, head = actor.torso, actor._head
    gates = np.split(torso._gru._kernel, 3, axis=-1)
    return {
        "first": (torso._first["obs"].kernel.numpy(), 1.5),
        "hidden": (torso._rest[0].kernel.numpy(), 1.5),
        "gru input": (torso._gru._input.kernel.numpy(), 1.0),
        "head hidden": (head._hidden[0].kernel.numpy(), 1.5),
        "last": (head.last.kernel.numpy(), 0.01),
    } | {f"gru {name}": (kernel, 1.0) for name, kernel in zip("rzn", gates, strict=True)}


# Square from the first hidden layer on, so that any two kernels could be equal.
SQUARE = Architecture(
    hidden=(6, 6), rnn="gru", rnn_units=6, head_hidden=(6,), activation="tanh", hidden_gain=1.5, actor_gain=0.01
)


@pytest.mark.parametrize("groups", [SHARED, MIXED], ids=["shared", "mixed"])
def test_initial_kernels_are_orthogonal_of_the_gain_asked_for_and_all_differ(groups):
    actor = build(ACTOR, groups, SQUARE)
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
def test_fan_in_weights_and_ids_are_uniform_within_the_root_of_one_over_the_inputs(groups):
    wide = Architecture(hidden=(64, 64), rnn="gru", rnn_units=64, head_hidden=(64,), initializer="fan_in")
    actor = build(ACTOR, groups, wide)
    actor.create_variables()
    kernels = {name: kernel for name, (kernel, _) in kernels_of(actor).items()}
    fans = {name: kernel.shape[-2] for name, kernel in kernels.items()}
    kernels["ids"], fans["ids"] = actor.torso._agent_id.numpy(), NUM_FEATURES + NUM_AGENTS
    for name, kernel in kernels.items():
        bound = fans[name] ** -0.5
        test = scipy.stats.kstest(np.ravel(kernel), scipy.stats.uniform(-bound, 2 * bound).cdf)
        assert test.pvalue > 1e-3, name
        assert np.abs(kernel).max() <= bound
    assert len({float(np.ravel(kernel)[0]) for kernel in kernels.values()}) == len(kernels)


def test_biases_and_ids_start_at_0_and_the_seed_decides_the_rest():
    some, same, other = (Actor(SPEC, MIXED, SQUARE, seed) for seed in (1, 1, 2))
    for actor in (some, same, other):
        actor.create_variables()
    for a, b, c in zip(some.trainable_variables, same.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.any(a != c) == ("kernel" in a.name)
        assert np.any(a != 0.0) == ("kernel" in a.name)


def test_a_critics_last_layer_has_its_own_gain():
    critic = Critic(SPEC, SHARED, Architecture(hidden=(6,), critic_gain=3.0), seed=0)
    critic.create_variables()
    np.testing.assert_allclose(np.linalg.norm(critic._head.last.kernel), 3.0, rtol=1e-5)


# Teams and the dead


SOME_DEAD = tf.constant([[True, True, True], [True, False, True], [False, True, False]])


@pytest.mark.parametrize("kind", ["critic of obs", "critic of both"])
def test_a_teams_value_is_the_mean_over_the_living(kind, draw):
    observation = draw(3, alive=SOME_DEAD)
    value = outputs_of(build(kind, MIXED, DENSE, fills_dead=False), observation)
    team_value = outputs_of(build(kind, MIXED, DENSE, team=True), observation)
    of_living = [value[0].mean(), value[1, [0, 2]].mean(), value[2, 1]]
    np.testing.assert_allclose(team_value, np.reshape(of_living, [3, 1]), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (3, NUM_STEPS)])
def test_a_teams_value_from_the_state_is_the_networks_only_one_whoever_lives(shape, draw, randomised):
    critic = randomised(build("critic of state", MIXED, RECURRENT, team=True))
    observation = draw(*shape)
    value = outputs_of(critic, observation)
    assert value.shape == (*shape, 1)
    assert critic.state_spec.shape == [1, RECURRENT.rnn_units]
    dead = observation | {"alive": tf.zeros([*shape, NUM_AGENTS], tf.bool)}
    np.testing.assert_array_equal(outputs_of(critic, dead), value)
    assert (outputs_of(critic, nudged(observation, "state")) != value).all()


@pytest.mark.parametrize("kind", CRITICS)
def test_a_dead_agents_value_is_the_mean_of_its_living_mates_if_asked(kind, draw, randomised):
    filling, own = (randomised(build(kind, SHARED, DENSE, fills_dead=fills)) for fills in (True, False))
    own.set_weights(filling.get_weights())
    observation = draw(3, alive=SOME_DEAD)
    value, filled = outputs_of(own, observation), outputs_of(filling, observation)
    everyone_alive = observation | {"alive": tf.ones_like(SOME_DEAD)}
    np.testing.assert_array_equal(value, outputs_of(own, everyone_alive))
    np.testing.assert_array_equal(value, outputs_of(filling, everyone_alive))
    expected = value.copy()
    expected[1, 1] = (value[1, 0] + value[1, 2]) / 2
    expected[2, [0, 2]] = value[2, 1]
    np.testing.assert_allclose(filled, expected, rtol=1e-6)
    assert (np.abs(filled - value)[~SOME_DEAD.numpy()] > 1e-3).all()


def test_where_nobody_lives_values_are_0(draw):
    nobody = draw(2, alive=tf.zeros([2, NUM_AGENTS], tf.bool))
    np.testing.assert_array_equal(outputs_of(build("critic of obs", SHARED, DENSE), nobody), np.zeros([2, NUM_AGENTS]))


# PopArt


@pytest.mark.parametrize("groups", [SHARED, MIXED], ids=["shared", "mixed"])
@pytest.mark.parametrize("team", [False, True], ids=["agents", "team"])
def test_taking_in_returns_moves_the_statistics_and_no_value(groups, team, draw, randomised, rng):
    critic = randomised(build("critic of both", groups, DENSE, team=team, value_decay=0.9))
    observation = draw(20)
    before = outputs_of(critic, observation)
    for mean, std in [(50.0, 20.0), (-3.0, 0.5)]:
        normaliser = critic._normalizer
        old_statistics = normaliser.mean.numpy(), normaliser.std.numpy()
        returns = tf.constant(rng.normal(mean, std, size=(40, critic.num_values)), tf.float32)
        critic.observe_returns(returns, tf.ones(returns.shape, tf.bool))
        assert np.abs(normaliser.mean - old_statistics[0]) > 1.0
        assert np.abs(normaliser.std - old_statistics[1]) > 1.0
        scale = np.abs(before).max()
        np.testing.assert_allclose(outputs_of(critic, observation), before, rtol=1e-4, atol=1e-4 * scale)


def test_returns_are_normalised_by_those_that_counted(draw, rng):
    critic = build("critic of obs", SHARED, DENSE, value_decay=0.9)
    critic.create_variables()
    returns, mask = rng.normal(50.0, 20.0, size=(2, 30, NUM_AGENTS)).astype(np.float32), rng.random([2, 30, 3]) < 0.5
    unseen = tf.constant(np.where(mask, returns, np.float32(1e6)))
    critic.observe_returns(unseen, tf.constant(mask))
    normalised = critic.normalise(tf.constant(returns)).numpy()
    np.testing.assert_allclose(normalised[mask].mean(), 0.0, atol=1e-3)
    np.testing.assert_allclose(normalised[mask].std(), 1.0, rtol=1e-3)
    np.testing.assert_allclose(normalised, (returns - returns[mask].mean()) / returns[mask].std(), rtol=1e-3, atol=1e-3)


def test_a_critic_learns_in_the_units_of_normalised_returns(draw, randomised):
    critic = randomised(build("critic of obs", SHARED, DENSE, value_decay=0.9))
    critic.observe_returns(tf.constant([[10.0, 20.0, 30.0]]), tf.ones([1, 3], tf.bool))
    observation = draw(4)
    features, _ = critic.torso(observation)
    np.testing.assert_allclose(
        critic.normalise(critic(observation)[0]), critic._head(features)[..., 0], rtol=1e-4, atol=1e-5
    )


def test_without_popart_returns_are_taken_as_they_are(draw):
    critic = build("critic of obs", SHARED, DENSE)
    critic.create_variables()
    before, returns = critic.get_weights(), tf.constant([[10.0, 20.0, 30.0]])
    critic.observe_returns(returns, tf.ones([1, 3], tf.bool))
    tf.nest.map_structure(np.testing.assert_array_equal, critic.get_weights(), before)
    np.testing.assert_array_equal(critic.normalise(returns), returns)


# Actor and critic in one


@pytest.mark.parametrize("shape", [(NUM_ENVS,), (NUM_ENVS, NUM_STEPS)], ids=["step", "sequence"])
@pytest.mark.parametrize("shares_torso", [True, False], ids=["shared torso", "apart"])
def test_one_pass_gives_what_actor_and_critic_give_apart(shares_torso, shape, draw, randomised, rng):
    actor = Actor(SPEC, MIXED, RECURRENT, seed=1)
    critic = Critic(SPEC, MIXED, RECURRENT, seed=2, torso=actor.torso if shares_torso else None)
    both = ActorCritic(randomised(actor), randomised(critic))
    assert both.shares_torso == shares_torso
    assert both.state_spec["actor"] == actor.state_spec
    assert both.state_spec["critic"] == (() if shares_torso else critic.state_spec)
    observation, step_type = draw(*shape), np.full(shape, ts.StepType.MID)
    step_type[0] = ts.StepType.FIRST
    step_type = tf.constant(step_type, tf.int32)
    state = tf.nest.map_structure(
        lambda spec: tf.constant(rng.normal(size=(NUM_ENVS, *spec.shape)), tf.float32), both.state_spec
    )
    team, value, after = both(observation, step_type, state)
    logits, after_actor = call(actor, observation, step_type, state["actor"])
    own = state["actor" if shares_torso else "critic"]
    apart, after_critic = call(critic, observation, step_type, own)
    np.testing.assert_allclose(categorical.agent_distribution(team).logits, logits, atol=1e-6)
    np.testing.assert_allclose(value, apart, atol=1e-6)
    expected = {"actor": after_actor, "critic": () if shares_torso else after_critic}
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after, expected)


def test_a_shared_torso_learns_from_actor_and_critic_and_heads_from_their_own(draw, randomised):
    actor = Actor(SPEC, SHARED, DENSE, seed=1)
    critic = Critic(SPEC, SHARED, DENSE, seed=2, torso=actor.torso)
    both = ActorCritic(randomised(actor), randomised(critic))
    torso = {variable.ref() for variable in actor.torso.trainable_variables}
    assert torso == {v.ref() for v in actor.trainable_variables} & {v.ref() for v in critic.trainable_variables}
    observation = draw(4)
    with tf.GradientTape(persistent=True) as tape:
        team, value, state = both(observation, None, ())
        logits = tf.reduce_sum(categorical.agent_distribution(team).logits)
        value = tf.reduce_sum(value)
    assert both.state_spec == state == ()
    for total, net in [(logits, actor), (value, critic)]:
        gradients = tape.gradient(total, both.trainable_variables)
        reached = {v.ref() for v, g in zip(both.trainable_variables, gradients, strict=True) if g is not None}
        assert reached == {variable.ref() for variable in net.trainable_variables}


# Running statistics of observations


NORMALISING = Architecture(hidden=(8, 6), head_hidden=(7,), activation="tanh", normalize_observations=True)


@pytest.mark.parametrize("kind", [ACTOR, *CRITICS])
def test_observations_are_normalised_by_those_that_count(kind, draw, rng):
    net, plain = build(kind, MIXED, NORMALISING), build(kind, MIXED, DENSE)
    seen, counts = draw(4, NUM_STEPS), rng.random([4, NUM_STEPS, NUM_AGENTS]) < 0.4
    counts[0, 0] = False
    team_counts = counts.any(axis=-1)
    obs, state = (5.0 + 3.0 * seen[name].numpy() for name in ("obs", "state"))
    seen["obs"] = tf.constant(np.where(counts[..., None], obs, np.float32(1e6)))
    seen["state"] = tf.constant(np.where(team_counts[..., None], state, np.float32(1e6)))
    observation = draw(6)
    np.testing.assert_allclose(outputs_of(net, observation), outputs_of(plain, observation), atol=1e-6)
    net.torso.observe(seen, tf.constant(counts))
    by_hand = dict(observation)
    for name, of_those in [("obs", obs[counts]), ("state", state[team_counts])]:
        by_hand[name] = (observation[name] - of_those.mean(axis=0)) / of_those.std(axis=0)
    actual, expected = outputs_of(net, observation), outputs_of(plain, by_hand)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-6)
    assert (np.abs(actual - outputs_of(plain, observation)) > 1e-2 * np.abs(expected)).any()


def test_an_observation_far_off_is_clipped(draw):
    actor = build(ACTOR, SHARED, NORMALISING)
    far, further = draw(2), draw(2)
    far["obs"], further["obs"] = tf.fill(far["obs"].shape, 11.0), tf.fill(far["obs"].shape, 1e6)
    np.testing.assert_array_equal(outputs_of(actor, far), outputs_of(actor, further))


def test_statistics_are_not_learned_and_there_are_none_unless_asked(draw):
    normalising, plain = build(ACTOR, SHARED, NORMALISING), build(ACTOR, SHARED, DENSE)
    observation = draw(4)
    for actor in (normalising, plain):
        actor.create_variables()
        actor.torso.observe(observation, tf.ones([4, NUM_AGENTS], tf.bool))
    assert len(normalising.non_trainable_variables) == 3
    assert not plain.non_trainable_variables
    assert (outputs_of(normalising, observation) != outputs_of(plain, observation)).any()


# TF-Agents


@pytest.mark.parametrize("kind", [ACTOR, *CRITICS])
def test_networks_are_tf_agents(kind):
    recurrent, dense = build(kind, MIXED, RECURRENT), build(kind, MIXED, DENSE)
    assert isinstance(recurrent, network.Network)
    assert recurrent.state_spec.shape == [NUM_AGENTS, RECURRENT.rnn_units]
    np.testing.assert_array_equal(recurrent.get_initial_state(2), np.zeros([2, NUM_AGENTS, RECURRENT.rnn_units]))
    assert dense.state_spec == ()
    assert dense.get_initial_state(2) == ()
    for net in (recurrent, dense):
        output_spec = net.create_variables()
        assert (output_spec.event_shape if kind == ACTOR else output_spec.shape) == [NUM_AGENTS]
        assert len(net.variables) == len(net.trainable_variables) > 0
