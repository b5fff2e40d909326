"""What memory adds: stored states, sequences cut into chunks, and episodes that know nothing of one another."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from tf_marl import agents, environments
from tf_marl.training.collect import Collector

SMALL = {"hidden": (16,), "num_epochs": 2, "num_minibatches": 2}
RECURRENT = {"rnn": "gru", "rnn_units": 8}


class TestRecurrent:
    """What memory adds: stored states, sequences cut into chunks, and episodes that know nothing of one another."""

    @pytest.fixture(scope="class")
    def rollout(self):
        """Two agents of one seed, trained on whole rollouts and on chunks, and a rollout that begins mid-episode."""
        battle = environments.load("3m", num_envs=4)
        made = [
            agents.mappo(battle.time_step_spec(), battle.action_spec(), **SMALL | RECURRENT | options)
            for options in ({"num_minibatches": 1, "num_epochs": 1}, {"num_minibatches": 1, "sequence_length": 8})
        ]
        collector = Collector(battle.world, made[0].collect_policy, 40, seed=0)
        collector.collect()
        rollout, _ = collector.collect()
        return made, rollout

    def test_the_rollout_begins_mid_episode_and_holds_episode_starts(self, rollout):
        _, (experience, _) = rollout
        assert (experience.step_type[:, 0] != ts.StepType.FIRST).numpy().any()
        assert (experience.step_type[:, 1:] == ts.StepType.FIRST).numpy().any()
        assert np.any(experience.policy_info["policy_state"]["actor"][:, 0])

    @pytest.mark.parametrize("which", [0, 1], ids=["whole rollouts", "chunks"])
    def test_training_passes_start_from_ratio_1_and_the_values_on_record(self, rollout, which):
        made, (experience, final_time_step) = rollout
        agent = made[which]
        batch = agent.batch(experience, final_time_step)
        assert batch.action.shape[:2] == ((4, 40), (20, 8))[which]
        team, value, _ = agent.networks(batch.observation, batch.step_type, batch.state)
        new, old = team.distribution.log_prob(batch.action), batch.old_log_prob
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(value, batch.old_value, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(agent.losses(batch)["loss/policy"], 0.0, atol=1e-5)

    def test_values_on_record_give_the_advantages_that_a_pass_of_the_critic_gives(self, rollout):
        (agent, _), (experience, final_time_step) = rollout
        on_record = agent.batch(experience, final_time_step)
        passed = agent.batch(experience, final_time_step, critic_is_new=True)
        np.testing.assert_allclose(passed.old_value, on_record.old_value, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(passed.advantage, on_record.advantage, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("which", [0, 1], ids=["whole rollouts", "chunks"])
    def test_an_episode_leaks_nothing_into_the_next_ones_gradient(self, rollout, which, rng, assert_equal, differ):
        made, (experience, final_time_step) = rollout
        agent = made[which]
        rows = np.arange(40)
        starts = np.array([np.flatnonzero(row == ts.StepType.FIRST)[-1] for row in experience.step_type.numpy()])
        later = rows >= starts[:, None]  # [B, T], the last episode of each environment
        assert (~later).any(axis=1).all()

        def gradients(experience):
            batch = agent.batch(experience, final_time_step)
            counts = tf.reshape(tf.constant(later), batch.learns.shape[:2])[..., None]
            fixed = tf.ones_like(batch.advantage)  # of the rollout as a whole, and no part of what is tested
            batch = batch._replace(learns=batch.learns & counts, advantage=fixed, returns=fixed)
            with tf.GradientTape() as tape:
                losses = agent.losses(batch)
                total = tf.add_n(list(losses.values()))
            return tape.gradient(total, agent.actor.trainable_variables + agent.critic.trainable_variables)

        def other(leaf):
            noise = tf.constant(rng.normal(size=leaf.shape), tf.float32)
            return tf.where(tf.reshape(later, [*later.shape, *[1] * (len(leaf.shape) - 2)]), leaf, noise)

        seen = experience.observation
        changed = experience._replace(observation=seen | {name: other(seen[name]) for name in ("obs", "state")})
        expected = gradients(experience)
        assert_equal(gradients(changed), expected)
        later = later & (rows > starts[:, None])  # within one episode it does matter
        assert differ(
            gradients(changed), gradients(experience._replace(observation=seen | {"obs": other(seen["obs"])}))
        )

    def test_updates_change_actor_and_critic(self, rollout, weights):
        (_, agent), (experience, final_time_step) = rollout
        before = weights(agent)
        metrics = agent.update(experience, final_time_step).metrics
        assert all(np.isfinite(value) for value in metrics.values())
        assert all((a != b).any() for a, b in zip(before, weights(agent), strict=True) if "count" not in str(a))
