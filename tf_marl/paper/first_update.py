"""The experiment behind the paper's figure 1, which measures the actor's first update epoch by epoch.

The agent learns from one rollout several times, each time from the same weights and with another clip range.
"""

import os
import tempfile
from collections.abc import Collection

import numpy as np
import tensorflow as tf

from tf_marl.agents.ppo.agent import PPOAgent
from tf_marl.compile import graph
from tf_marl.diagnostics import Full, PolicyChange, ratio_sizes
from tf_marl.training import Trainer

# Names of the quantities whose distributions are measured at some epochs, see `diagnostics.Full.distribution`.
DISTRIBUTIONS = ("agent_tv", "joint_tv_sum", "joint_tv_product", "joint_tv_hellinger", "joint_tv_lower", "joint_tv")


class FirstUpdate:
    """Holds a trainer's first rollout, and repeats the agent's first update on it with any clip range."""

    def __init__(self, trainer: Trainer, full: Full, epochs: Collection[int], seed: int):
        """Collects the rollout and prepares the update.

        Args:
            trainer: a trainer of a PPO variant that has not trained yet. Its own clip range is replaced.
            full: the measurement of whole distributions.
            epochs: epochs at which distributions are measured; ratios are measured at every epoch.
            seed: seed of Monte Carlo estimates.
        """
        assert isinstance(trainer.agent, PPOAgent)
        self._agent = agent = trainer.agent
        self._clip_range = tf.Variable(0.0, trainable=False)
        agent.clip_range = lambda alive, progress: self._clip_range.read_value()
        collect = graph.function(trainer.collector.collect)
        # In the paper's code the observation statistics have already seen a rollout when this one begins.
        seen, _ = collect()
        for torso in (agent.actor.torso, agent.critic.torso):
            torso.observe(seen.experience.observation, agent.learning_mask(seen.experience))
        rollout, _ = collect()
        played = tf.reduce_any(~rollout.experience.is_boundary(), axis=0)
        longest = int(tf.reduce_max(tf.where(played))) + 2  # env steps; what follows are boundaries between episodes
        experience = tf.nest.map_structure(lambda leaf: leaf[:, :longest], rollout.experience)
        due = tf.constant(sorted(epochs))

        def watch(epoch: tf.Tensor, change: PolicyChange) -> dict[str, tf.Tensor]:
            unknown = {name: tf.fill([101], np.float32(np.nan)) for name in DISTRIBUTIONS} | {
                "exact": np.float32(np.nan)
            }
            seeds = tf.stack([seed, epoch])
            return ratio_sizes(change) | tf.cond(
                tf.reduce_any(epoch == due), lambda: full.distribution(change, seeds), lambda: unknown
            )

        self._update = graph.function(lambda: agent.update(experience, rollout.final_time_step, watch).history)
        self._folder = tempfile.TemporaryDirectory()
        self._start = tf.train.Checkpoint(agent=agent).write(os.path.join(self._folder.name, "start"))

    def __call__(self, clip_range: float) -> dict[str, np.ndarray]:
        """Makes the first update with a clip range, from the weights and the rollout that every call shares.

        Args:
            clip_range: half-width of the clip range.

        Returns:
            By name, each measured quantity at every epoch: ratio sizes are [epochs + 1], distributions, as their
            percentiles 0 to 100, are [epochs + 1, 101] and nan at epochs that are not measured.
        """
        agent = self._agent
        tf.train.Checkpoint(agent=agent).read(self._start).assert_consumed()
        self._clip_range.assign(clip_range)
        return {name: values.numpy() for name, values in self._update().items()}
