"""IPPO: what it learns from and what it must not, how it fits TF-Agents, and that it learns."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.agents.ppo import ppo_clip_agent
from tf_agents.drivers import dynamic_step_driver
from tf_agents.networks import network
from tf_agents.policies import policy_saver
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.trajectories import time_step as ts

from tf_marl import agents, environments
from tf_marl.environments.matrix_game import MatrixGame
from tf_marl.ops import categorical

# One best joint action out of nine, and a step of one agent alone never leads away from it.
EASY_GAME = np.array([[8, 2, 0], [2, 6, 0], [0, 0, 4]])
NUM_AGENTS, NUM_ACTIONS = 3, 4
SMALL = {"hidden": (16,), "num_epochs": 2, "num_minibatches": 2}
RECURRENT = {"rnn": "gru", "rnn_units": 8}


@pytest.fixture
def perturbed(experience, rng):
    """Other actions, old logits and observations for the dead; the same and other rewards at boundaries."""
    alive, boundary = experience.observation["alive"].numpy(), experience.step_type.numpy() == ts.StepType.LAST
    learns = alive & ~boundary[..., None]
    assert (~alive & ~boundary[..., None]).any()
    assert boundary[:, :-1].any()
    logits = experience.policy_info["logits"].numpy()
    other_logits = rng.normal(size=logits.shape).astype(np.float32)
    obs = experience.observation["obs"].numpy()
    other_obs = rng.normal(size=obs.shape).astype(np.float32)
    return experience._replace(
        action=tf.where(learns, experience.action, (experience.action + 1) % NUM_ACTIONS),
        policy_info={"logits": tf.where(learns[..., None], logits, other_logits)},
        observation=experience.observation | {"obs": tf.where(alive[..., None], obs, other_obs)},
        reward=tf.where(boundary, 100.0, experience.reward),
        discount=tf.where(boundary, 0.0, experience.discount),
    )


def test_dead_agents_and_boundaries_do_not_influence_an_update(
    experience, perturbed, small_agent, assert_equal, differ, update, weights
):
    agent, other = small_agent(), small_agent()
    before = weights(agent)
    assert_equal(update(other, perturbed), update(agent, experience))
    assert_equal(weights(other), weights(agent))
    assert differ(before, weights(agent))


def test_living_agents_do_influence_an_update(experience, small_agent, differ, update, weights):
    agent, other = small_agent(), small_agent()
    alive, obs = experience.observation["alive"], experience.observation["obs"]
    changed = experience._replace(
        observation=experience.observation | {"obs": tf.where(alive[..., None], obs + 1.0, obs)}
    )
    update(agent, experience)
    update(other, changed)
    assert differ(weights(other), weights(agent))


def test_losses_and_gradients_come_from_living_agents_inside_episodes_only(experience, rng, small_agent, split):
    agent = small_agent()
    batch = agent.batch(*split(experience))
    learns = batch.learns
    inside = (experience.step_type[:, :-1] != ts.StepType.LAST)[..., None]
    expected = tf.reshape(experience.observation["alive"][:, :-1] & inside, [-1, 1, NUM_AGENTS])
    np.testing.assert_array_equal(learns, expected)

    def noise(leaf):
        return tf.constant(rng.normal(size=leaf.shape), tf.float32)

    other = batch._replace(
        action=tf.where(learns, batch.action, (batch.action + 1) % NUM_ACTIONS),
        old_log_prob=tf.where(learns, batch.old_log_prob, noise(batch.old_log_prob)),
        advantage=tf.where(learns, batch.advantage, 100.0 * noise(batch.advantage)),
        returns=tf.where(learns, batch.returns, 100.0 * noise(batch.returns)),
        observation=batch.observation | {"obs": tf.where(learns[..., None], batch.observation["obs"], 9.0)},
    )

    def losses_and_gradients(batch):
        with tf.GradientTape(persistent=True) as tape:
            losses = agent.losses(batch)
        variables = agent.actor.trainable_variables + agent.critic.trainable_variables
        return losses, [tape.gradient(loss, variables, unconnected_gradients="zero") for loss in losses.values()]

    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    tf.nest.map_structure(close, losses_and_gradients(other), losses_and_gradients(batch))


def test_update_starts_from_ratio_1(experience, small_agent, update):
    """With the actor's own logits on record, the first gradient step's policy loss is minus the mean advantage: 0."""
    agent = small_agent(num_epochs=1, num_minibatches=1)
    logits = categorical.agent_distribution(agent.actor(experience.observation)[0]).logits_parameter()
    metrics = update(agent, experience._replace(policy_info={"logits": logits}))
    np.testing.assert_allclose(metrics["loss/policy"], 0.0, atol=1e-6)


def test_equal_seeds_give_bit_identical_weights(experience, small_agent, assert_equal, differ, update, weights):
    agent, twin, stranger = small_agent(seed=3), small_agent(seed=3), small_agent(seed=4)
    assert_equal(weights(agent), weights(twin))
    for _ in range(2):
        assert_equal(update(agent, experience), update(twin, experience))
    update(stranger, experience)
    assert_equal(weights(agent), weights(twin))
    assert differ(weights(agent), weights(stranger))


def test_the_seed_orders_the_minibatches(experience, small_agent, differ, update, weights):
    agent, stranger = small_agent(seed=3), small_agent(seed=4)
    stranger.actor.set_weights(agent.actor.get_weights())
    stranger.critic.set_weights(agent.critic.get_weights())
    update(agent, experience)
    update(stranger, experience)
    assert differ(weights(agent), weights(stranger))


def test_learning_rate_falls_linearly_to_0_with_progress(experience, small_agent, assert_equal, update, weights):
    agent = small_agent(learning_rate_schedule="linear")
    update(agent, experience)
    before = weights(agent)
    agent.progress.assign(1.0)
    update(agent, experience)
    assert_equal(weights(agent), before)


def test_train_on_a_tf_agents_trajectory_is_update(experience, small_agent, update, weights):
    agent, twin = small_agent(), small_agent()
    loss_info = agent.train(experience)
    metrics = update(twin, experience)
    assert metrics.keys() < loss_info.extra.keys()  # and how far it went
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    tf.nest.map_structure(close, {name: loss_info.extra[name] for name in metrics}, metrics)
    np.testing.assert_allclose(loss_info.loss, metrics["loss/policy"] + metrics["loss/value"], rtol=1e-5)
    tf.nest.map_structure(close, weights(agent), weights(twin))
    assert agent.train_step_counter == 1


def test_critic_first_gives_the_actor_the_trained_critics_advantages(experience, small_agent, differ, update):
    """As if an agent with that critic had trained its actor alone."""
    one_batch = {"num_minibatches": 1, "actor_learning_rate": 1e-2, "critic_learning_rate": 1e-2}
    agent = small_agent(order="critic_first", num_critic_epochs=5, **one_batch)
    untrained = agent.critic.get_weights()
    update(agent, experience)
    assert differ(untrained, agent.critic.get_weights())
    twin = small_agent(**one_batch)
    twin.critic.set_weights(agent.critic.get_weights())
    update(twin, experience)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    tf.nest.map_structure(close, agent.actor.get_weights(), twin.actor.get_weights())
    hasty = small_agent(**one_batch)
    update(hasty, experience)
    assert differ(hasty.actor.get_weights(), agent.actor.get_weights())


def test_values_are_clipped_around_the_old_ones(experience, small_agent, split):
    agent = small_agent(agents.jr_ppo, value_clip=0.1)
    batch = agent.batch(*split(experience))
    value = batch.old_value  # the critic has not learned since
    # The critic's value is 1 above the old one, the return another 1 above: clipped, the error is 1.9, and counts.
    batch = batch._replace(old_value=value - 1.0, returns=value + 1.0)
    np.testing.assert_allclose(agent.losses(batch)["loss/value"], 0.5 * 1.9**2, rtol=1e-4)
    huber = small_agent(agents.jr_ppo, value_loss="huber", huber_delta=0.5)
    np.testing.assert_allclose(huber.losses(batch)["loss/value"], 0.5 * (1.0 - 0.25), rtol=1e-4)


def test_observation_statistics_move_after_the_update_only(experience, small_agent, split, update):
    agent = small_agent(normalize_observations=True, num_epochs=1, num_minibatches=1)
    before = agent.logits(split(experience)[0])
    rows = experience._replace(policy_info={"logits": agent.actor(experience.observation)[0].distribution.logits})
    metrics = update(agent, rows)
    np.testing.assert_allclose(metrics["loss/policy"], 0.0, atol=1e-5)  # ratio 1: the old statistics still held
    (normalizer,) = agent.actor.torso.normalizers.values()
    learns = agent.learning_mask(split(experience)[0]).numpy()
    seen = experience.observation["obs"][:, :-1].numpy()[learns]
    np.testing.assert_allclose(normalizer.mean, seen.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(normalizer.std, seen.std(axis=0), rtol=1e-4)
    assert before.shape == (4, 12, NUM_AGENTS, NUM_ACTIONS)


def test_normalised_values_learn_returns_of_any_size(experience, small_agent, split, update):
    """Returns in the thousands, which a critic of small weights cannot reach in a few steps."""
    large = experience._replace(reward=1000.0 * experience.reward + 5000.0)
    errors = []
    for normalises in (False, True):
        agent = small_agent(agents.jr_ppo, normalize_values=normalises, num_epochs=20, critic_learning_rate=1e-2)
        batch = agent.batch(*split(large))
        update(agent, large)
        value, _ = agent.critic(large.observation)
        counts = tf.reduce_any(batch.learns, axis=-1)[:, 0].numpy()
        error = tf.reshape(value[:, :-1], [-1]) - batch.returns[:, 0, 0]
        errors.append(np.sqrt(np.mean(error.numpy()[counts] ** 2)) / np.std(batch.returns[:, 0, 0].numpy()[counts]))
    assert errors[1] < 1.0 < 1.5 < errors[0], errors


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adamw"},
        {"share_torso": True},
        {"share_torso": True, **RECURRENT, "head_hidden": (8,)},
        {"parameter_sharing": "none"},
        {"parameter_sharing": "unit_type", "unit_types": ("a", "b", "a")},
        {"death_masking": False},
        {"max_grad_norm": None, "entropy_schedule": "linear"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_option_trains(options, small_agent, experience, differ, update, weights):
    agent = small_agent(**options)
    if agent.networks.state_spec:
        zeros = tf.zeros([*experience.reward.shape, NUM_AGENTS, 8])
        info = {"policy_state": {"actor": zeros, "critic": ()}, "value": zeros[..., 0]}
        experience = experience._replace(policy_info=experience.policy_info | info)
    before = weights(agent)
    metrics = update(agent, experience)
    assert all(np.isfinite(value) for value in metrics.values())
    shared = "grad_norm/actor_critic" in metrics
    assert shared == agent.config.share_torso
    assert differ(weights(agent), before)


def test_adamw_shrinks_weights_that_adam_leaves_alone(experience, small_agent, update):
    """Where no gradient comes, as with no advantage, entropy bonus or error."""
    still = experience._replace(reward=tf.zeros_like(experience.reward))
    sizes = {}
    for optimizer in ("adam", "adamw"):
        agent = small_agent(optimizer=optimizer, weight_decay=0.5, entropy_coefficient=0.0, actor_learning_rate=0.1)
        agent.critic.set_weights([np.zeros_like(w) for w in agent.critic.get_weights()])
        kernel = next(variable for variable in agent.actor.trainable_variables if "kernel" in variable.name)
        before = np.linalg.norm(kernel)
        update(agent, still)
        sizes[optimizer] = np.linalg.norm(kernel) / before
    np.testing.assert_allclose(sizes["adam"], 1.0, rtol=1e-5)
    np.testing.assert_allclose(sizes["adamw"], (1 - 0.1 * 0.5) ** 4, rtol=1e-3)  # 2 epochs x 2 minibatches


def test_the_dead_count_where_death_masking_is_off(experience, small_agent, split):
    rows, _ = split(experience)
    inside = rows.step_type != ts.StepType.LAST
    counted = small_agent(death_masking=False).learning_mask(rows)
    np.testing.assert_array_equal(counted, tf.repeat(inside[..., None], NUM_AGENTS, axis=-1))


def test_collect_policy_samples_and_records_the_logits_it_acted_with():
    world = MatrixGame(EASY_GAME, num_envs=64)
    agent = agents.ippo(world.time_step_spec, world.action_spec, **SMALL)
    time_step = world.time_step(world.reset(tf.constant([0, 0])))
    step = agent.collect_policy.action(time_step, seed=tf.constant([0, 1]))
    expected = categorical.agent_distribution(agent.actor(time_step.observation)[0]).logits_parameter()
    np.testing.assert_array_equal(step.info["logits"], expected)
    assert len(np.unique(step.action, axis=0)) > 1
    greedy = agent.policy.action(time_step)
    assert len(np.unique(greedy.action, axis=0)) == 1
    assert greedy.info == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hiden": (8,)}, r"ppo\.hiden"),
        ({"clip_range": "0.2"}, r"ppo\.clip_range: .*'0\.2'"),
        ({"clip_range": -0.2}, r"ppo\.clip_range: .*-0\.2"),
        ({"gamma": 1.5}, r"ppo\.gamma: .*1\.5"),
        ({"num_epochs": 2.5}, r"ppo\.num_epochs: .*2\.5"),
        ({"hidden": ()}, r"ppo\.hidden"),
        ({"hidden": (8, "8")}, r"ppo\.hidden"),
        ({"activation": "sigmoid"}, r"ppo\.activation: .*sigmoid"),
        ({"seed": -1}, r"ppo\.seed: .*-1"),
    ],
)
def test_unfit_option_is_named(options, message, small_agent):
    with pytest.raises(ValueError, match=rf"^{message}"):
        small_agent(**options)


class MaskedActor(network.Network):
    """A network as a TF-Agents user would write it."""

    def __init__(self, observation_spec):
        super().__init__(observation_spec, name="MaskedActor")
        self._dense = tf.keras.layers.Dense(observation_spec["avail_actions"].shape[-1])

    def call(self, observation, step_type=None, network_state=(), training=False):
        logits = tf.where(observation["avail_actions"], self._dense(observation["obs"]), -1e9)
        return tfp.distributions.Independent(tfp.distributions.Categorical(logits), 1), network_state


class StateValue(network.Network):
    def __init__(self, observation_spec):
        super().__init__(observation_spec, name="StateValue")
        self._dense = tf.keras.layers.Dense(1)

    def call(self, observation, step_type=None, network_state=(), training=False):
        return tf.squeeze(self._dense(observation["state"]), axis=-1), network_state


def takes_available_actions(experience):
    avail, action = experience.observation["avail_actions"].numpy(), experience.action.numpy()
    return np.take_along_axis(avail, action[..., None], axis=-1).all()


class TestWithTFAgents:
    """TF-Agents' own drivers, buffers, savers and agents around ours, and theirs in our battles."""

    @pytest.fixture(scope="class")
    def battle(self):
        return environments.load("3m", num_envs=4)

    @pytest.fixture(scope="class", params=[{}, RECURRENT], ids=["dense", "gru"])
    def agent(self, battle, request):
        return agents.ippo(battle.time_step_spec(), battle.action_spec(), **SMALL | request.param)

    @staticmethod
    def drive(environment, agent, num_steps):
        """[B, num_steps] rows by TF-Agents' driver and replay buffer."""
        buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
            agent.collect_data_spec, environment.batch_size, max_length=num_steps
        )
        driver = dynamic_step_driver.DynamicStepDriver(
            environment,
            agent.collect_policy,
            observers=[buffer.add_batch],
            num_steps=num_steps * environment.batch_size,
        )
        driver.run()
        return buffer.gather_all()

    def test_driver_and_replay_buffer_feed_train(self, battle, agent, differ, weights):
        experience = self.drive(battle, agent, 9)
        assert experience.reward.shape == (4, 9)
        assert takes_available_actions(experience)
        before = weights(agent)
        assert np.isfinite(agent.train(experience).loss)
        assert differ(weights(agent), before)

    @pytest.mark.filterwarnings("ignore:Encoding a StructuredValue")
    def test_saved_policy_acts_as_before(self, battle, agent, tmp_path):
        policy_saver.PolicySaver(agent.policy).save(str(tmp_path))
        time_step = battle.reset()
        loaded = tf.compat.v2.saved_model.load(str(tmp_path))
        policy_state = agent.policy.get_initial_state(4)
        for _ in range(2):
            ours, theirs = agent.policy.action(time_step, policy_state), loaded.action(time_step, policy_state)
            np.testing.assert_array_equal(theirs.action, ours.action)
            close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
            tf.nest.map_structure(close, theirs.state, ours.state)
            time_step, policy_state = battle.step(ours.action), ours.state

    def test_ppo_clip_agent_trains_unchanged(self, battle, differ):
        observation_spec = battle.observation_spec()
        agent = ppo_clip_agent.PPOClipAgent(
            battle.time_step_spec(),
            battle.action_spec(),
            optimizer=tf.keras.optimizers.Adam(1e-3),
            actor_net=MaskedActor(observation_spec),
            value_net=StateValue(observation_spec),
            importance_ratio_clipping=0.2,
            use_gae=True,
            num_epochs=2,
            normalize_observations=False,
        )
        agent.initialize()
        experience = self.drive(battle, agent, 9)
        assert takes_available_actions(experience)
        before = agent.actor_net.get_weights()
        assert np.isfinite(agent.train(experience).loss)
        assert differ(agent.actor_net.get_weights(), before)
