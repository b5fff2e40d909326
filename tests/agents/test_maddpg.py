"""MADDPG: what its critic rates and is fitted to, whom it leaves out, and that it learns, resumes and serves."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tf_marl import agents, export
from tf_marl.agents.learner import Rollout
from tf_marl.agents.replay import sequences
from tf_marl.environments.matrix_game import MatrixGame
from tf_marl.networks import Architecture
from tf_marl.networks.joint_action_critic import TeamActionCritic
from tf_marl.training.train import Trainer

GAMMA = 0.9


@pytest.fixture(scope="module")
def make(specs):
    """Gives a function (**options) -> agent for the task, with small networks and without a GRU."""
    small = {"hidden": (8,), "num_updates": 1, "batch_size": 4, "replay_rows": 100, "gamma": GAMMA}
    return lambda **options: agents.maddpg(*specs, **small | options)


@pytest.fixture
def rollout(experience, split):
    """A rollout of the task, without recurrent states."""
    rows, final = split(experience)
    return Rollout(rows._replace(policy_info={"policy_state": ()}), final)


@pytest.mark.parametrize("normalised", [False, True])
def test_the_critic_rates_each_joint_action_in_the_state_by_itself(specs, rng, normalised):
    architecture = Architecture(hidden=(8,), activation="tanh", normalize_observations=normalised)
    critic = TeamActionCritic(specs[0].observation, architecture, seed=0)
    state = tf.constant(rng.normal(size=(5, 6)), tf.float32)
    actions = tf.one_hot(rng.integers(4, size=(5, 2, 3)), 4)
    value = critic(state, actions).numpy()
    assert value.shape == (5, 2)
    for joint in (0, 1):
        np.testing.assert_allclose(critic(state, actions[:, joint : joint + 1])[:, 0], value[:, joint], rtol=1e-5)
    assert np.all(critic(state + 1.0, actions).numpy() != value)
    critic.observe(state, tf.ones([5], tf.bool))
    assert normalised == np.any(critic(state, actions).numpy() != value)


def test_the_target_is_the_reward_and_the_value_of_the_target_policies_actions(make, rollout, rng):
    agent, batch = make(), sequences(rollout)
    noise = rng.gumbel(size=batch.observation["avail_actions"].shape).astype(np.float32)
    team, _ = agent.target_actor(batch.observation, step_type=batch.step_type)
    action = np.argmax(team.distribution.logits_parameter() + noise, axis=-1)
    value = agent.target_critic(batch.observation["state"], tf.one_hot(action, 4)[:, :, None])[..., 0]
    expected = batch.reward + GAMMA * batch.discount * value[:, 1:]
    inside = ~batch.boundary.numpy()
    target = agent.returns(batch, tf.constant(noise)).numpy()
    np.testing.assert_allclose(target[inside], expected.numpy()[inside], rtol=1e-4, atol=1e-5)


def test_neither_the_dead_nor_boundaries_teach_anything(make, rollout):
    rows = rollout.experience
    over = rows.is_boundary()
    nobody = ~rows.observation["alive"]
    other = rows._replace(
        reward=tf.where(over, 100.0, rows.reward),
        action=tf.where(over[..., None], 0, rows.action),
        observation=rows.observation | {"obs": tf.where(nobody[..., None], 9.0, rows.observation["obs"])},
    )
    told = make().learn(rollout), make().learn(Rollout(other, rollout.final_time_step))
    assert {name: float(x) for name, x in told[0].items()} == {name: float(x) for name, x in told[1].items()}


def learner(**options):
    return functools.partial(
        agents.maddpg,
        hidden=(16,),
        actor_learning_rate=1e-2,
        critic_learning_rate=1e-2,
        target_rate=0.1,
        epsilon_env_steps=1000,
        **options,
    )


def trained(team, root_dir, num_env_steps=3000, **options):
    game = MatrixGame(np.array([[4, 0], [0, 1]]), num_envs=16, episode_length=1)
    intervals = {"rollout_steps": 4, "eval_every_env_steps": num_env_steps, "eval_episodes": 1}
    return Trainer(game, team, root_dir=root_dir, num_env_steps=num_env_steps, **intervals | options)


def test_it_learns_the_better_of_two_equilibria(tmp_path):
    trainer = trained(learner(num_updates=4, rnn="gru", rnn_units=8), tmp_path)
    assert trainer.run().evaluation["eval/return_mean"] == 4


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    team = learner(num_updates=1, replay_rows=4 * 64)
    once = trained(team, tmp_path / "once", 32 * 6)
    once.run()
    trained(team, tmp_path / "twice", 32 * 3).run()
    again = trained(team, tmp_path / "twice", 32 * 6)
    assert again.restore()
    again.run()
    weights = [[np.array(leaf) for leaf in trainer.agent.learning_variables] for trainer in (once, again)]
    tf.nest.map_structure(np.testing.assert_array_equal, *weights)


def test_its_actor_is_exported_as_ppos_is(make, rollout, tmp_path):
    agent, time_step = make(), rollout.final_time_step
    served = export.ServedPolicy(agent.time_step_spec, agent.action_spec, export.save(agent, tmp_path, env_steps=7))
    action = served.action(time_step, served.get_initial_state(4)).action
    np.testing.assert_array_equal(action, agent.policy.action(time_step).action)


def test_what_does_not_fit_is_named(make, complaint):
    assert complaint(make, target_rate=0.0) == "maddpg.target_rate: input should be greater than 0, not 0.0"
