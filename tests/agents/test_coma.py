"""COMA: its baseline, what its critic sees, whom it leaves out, and that it learns."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tf_marl import agents
from tf_marl.agents.coma import counterfactual_advantage
from tf_marl.agents.learner import Rollout
from tf_marl.environments.matrix_game import MatrixGame
from tf_marl.networks import Architecture
from tf_marl.networks.joint_action_critic import JointActionCritic
from tf_marl.training.train import Trainer


@pytest.fixture(scope="module")
def make(specs):
    """Gives a function (**options) -> agent for the task, with small networks and without a GRU."""
    return lambda **options: agents.coma(*specs, **{"hidden": (8,), "num_critic_steps": 2} | options)


@pytest.fixture
def rollout(experience, split):
    """A rollout of the task, without recurrent states."""
    rows, final = split(experience)
    return Rollout(rows._replace(policy_info={"policy_state": ()}), final)


def test_the_advantage_has_mean_zero_under_the_policy(random_team, rng):
    logits, _ = random_team((50,), num_agents=3, num_actions=4)
    q = tf.constant(rng.normal(size=logits.shape), tf.float32)
    of_each = [
        counterfactual_advantage(q, tf.constant(logits), tf.fill([50, 3], action)).numpy() for action in range(4)
    ]
    mean = sum(tf.nn.softmax(logits).numpy()[..., action] * of_each[action] for action in range(4))
    np.testing.assert_allclose(mean, 0.0, atol=1e-5)
    np.testing.assert_allclose(of_each[1] - of_each[2], q[..., 1] - q[..., 2], rtol=1e-4, atol=1e-5)


def test_the_critic_rates_an_agents_actions_by_its_team_mates_and_not_by_its_own(specs, rollout):
    critic = JointActionCritic(specs[0].observation, Architecture(hidden=(8,), activation="tanh"), seed=0)
    observation, action = rollout.experience.observation, rollout.experience.action
    other = tf.concat([(action[..., :1] + 1) % 4, action[..., 1:]], axis=-1)
    q, after = critic(observation, action).numpy(), critic(observation, other).numpy()
    np.testing.assert_array_equal(q[..., 0, :], after[..., 0, :])
    assert np.all(np.any(q[..., 1:, :] != after[..., 1:, :], axis=-1))


def test_neither_the_dead_nor_boundaries_teach_anything(make, rollout):
    rows = rollout.experience
    over = rows.is_boundary()
    nobody = ~rows.observation["alive"]
    other = rows._replace(
        reward=tf.where(over, 100.0, rows.reward),
        observation=rows.observation | {"obs": tf.where(nobody[..., None], 9.0, rows.observation["obs"])},
    )
    told = make().learn(rollout), make().learn(Rollout(other, rollout.final_time_step))
    assert {name: float(x) for name, x in told[0].items()} == {name: float(x) for name, x in told[1].items()}


def test_exploring_adds_random_available_actions(make, rollout):
    agent, time_step = make(epsilon_start=0.4), rollout.final_time_step
    available = time_step.observation["avail_actions"].numpy()
    team, _ = agent.actor(time_step.observation, step_type=time_step.step_type)
    chosen = agent.collect_policy.distribution(time_step).action.distribution.probs_parameter()
    expected = 0.6 * team.distribution.probs_parameter() + 0.4 * available / available.sum(-1, keepdims=True)
    np.testing.assert_allclose(chosen, expected, atol=1e-6)


@pytest.mark.parametrize("rnn", ["none", pytest.param("gru", marks=pytest.mark.slow)])
def test_it_learns_the_better_of_two_equilibria(rnn, tmp_path):
    team = functools.partial(
        agents.coma,
        hidden=(16,),
        rnn=rnn,
        rnn_units=8,
        actor_learning_rate=1e-2,
        critic_learning_rate=1e-2,
        target_every=2,
        epsilon_env_steps=1000,
    )
    game = MatrixGame(np.array([[4, 0], [0, 1]]), num_envs=16, episode_length=1)
    trainer = Trainer(
        game, team, root_dir=tmp_path, num_env_steps=3000, rollout_steps=4, eval_every_env_steps=3000, eval_episodes=1
    )
    assert trainer.run().evaluation["eval/return_mean"] == 4
