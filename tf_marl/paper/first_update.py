"""The experiment of the paper's figure 1: the actor's first update, watched epoch by epoch.

One rollout is learned from again and again, each time with another clip range, from the same weights.
"""

import os
import tempfile
from collections.abc import Collection

import numpy as np
import tensorflow as tf

from tf_marl.agents.ppo.agent import PPOAgent
from tf_marl.compile import graph
from tf_marl.diagnostics import Full, PolicyChange, ratio_sizes
from tf_marl.training.train import Trainer

# The names of what is measured in full, at some epochs; see `Full.distribution`.
DISTRIBUTIONS = ("agent_tv", "joint_tv_sum", "joint_tv_product", "joint_tv_lower", "joint_tv")


class FirstUpdate:
    """A trainer's first rollout, and what its agent's first update would make of the policy.

    Args:
        trainer: that has not trained, of one of PPO's variants; its clip range gives way to those of the experiment.
        full: measures.
        epochs: at which the distributions are measured; the ratios are at all.
        seed: of Monte Carlo estimates.
    """

    def __init__(self, trainer: Trainer, full: Full, epochs: Collection[int], seed: int):
        assert isinstance(trainer.agent, PPOAgent)
        self._agent = agent = trainer.agent
        self._clip_range = tf.Variable(0.0, trainable=False)
        agent.clip_range = lambda alive, progress: self._clip_range.read_value()
        collect = graph.function(trainer.collector.collect)
        # As in the paper's code, whose running statistics of observations are under way when the rollout begins.
        seen, _ = collect()
        for torso in (agent.actor.torso, agent.critic.torso):
            torso.observe(seen.experience.observation, agent.learning_mask(seen.experience))
        rollout, _ = collect()
        played = tf.reduce_any(~rollout.experience.is_boundary(), axis=0)
        longest = int(tf.reduce_max(tf.where(played))) + 2  # rows; beyond are boundaries, which nobody learns from
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
        """The history of the update with that clip range, [epochs + 1, ...] each."""
        agent = self._agent
        tf.train.Checkpoint(agent=agent).read(self._start).assert_consumed()
        self._clip_range.assign(clip_range)
        return {name: values.numpy() for name, values in self._update().items()}
