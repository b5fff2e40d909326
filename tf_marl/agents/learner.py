"""What a learner is to training: a TF-Agents agent that can learn from a rollout, and say what there is to keep of it.

On-policy and off-policy learners fit alike: what one remembers of earlier rollouts is its own. To add one: a module
with a subclass and a gin-configurable factory `(time_step_spec, action_spec, unit_types, seed) -> Learner`, and a gin
file that sets `train.agent` to it. `reinforce.py` is a small one.
"""

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.networks import network
from tf_agents.policies import tf_policy
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Metrics = dict[str, tf.Tensor]  # scalars


class Rollout(NamedTuple):
    """B environments, T rows; some rows are boundaries between episodes."""

    experience: trajectory.Trajectory  # [B, T, ...]; its `policy_info` is the collect policy's
    final_time_step: ts.TimeStep  # [B, ...], what the environments showed after the last row


class Learner(tf_agent.TFAgent):
    """A team that learns. `policy` acts as it would be deployed, `collect_policy` as it explores.

    Its attribute `actor` is the network that decides, observation -> team distribution: what is exported.

    `learn` is compiled, together with collecting where the world allows: Python loops and conditions on tensors need
    `graph.converted`.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        policy, collect_policy: of the team.
        weights: what policies play with, modules by name: what is kept of the best team.
        watched_policy: acts as `policy`, and tells in its `info` what an onlooker may want to see, such as `value`.
    """

    actor: network.Network

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        policy: tf_policy.TFPolicy,
        collect_policy: tf_policy.TFPolicy,
        weights: dict[str, tf.Module],
        watched_policy: tf_policy.TFPolicy | None = None,
    ):
        # How much of training is done, in [0, 1]; whoever runs the training keeps it up to date.
        self.progress = tf.Variable(0.0, trainable=False, name="progress")
        self.watched_policy = watched_policy or policy
        super().__init__(
            time_step_spec,
            action_spec,
            policy=policy,
            collect_policy=collect_policy,
            train_sequence_length=None,
            train_step_counter=tf.Variable(0, dtype=tf.int64, trainable=False, name="train_step"),
        )
        self.weights = weights

    def check(self, num_envs: int, num_steps: int) -> None:
        """Refuses rollouts that it cannot learn from. Args: num_envs, B; num_steps, T. Raises ValueError; says why."""

    @abc.abstractmethod
    def learn(self, rollout: Rollout) -> Metrics:
        """One update. Returns: scalars to record, named `loss/..` and so on."""

    def _train(self, experience: trajectory.Trajectory, weights=None) -> tf_agent.LossInfo:
        """TF-Agents' way in: [B, T + 1] rows, of which the last only lends its observation."""
        del weights
        final = ts.TimeStep(
            step_type=experience.step_type[:, -1],
            reward=experience.reward[:, -1],
            discount=experience.discount[:, -1],
            observation={name: leaf[:, -1] for name, leaf in experience.observation.items()},
        )
        metrics = self.learn(Rollout(tf.nest.map_structure(lambda leaf: leaf[:, :-1], experience), final))
        losses = [metrics[name] for name in ("loss/policy", "loss/value") if name in metrics]
        return tf_agent.LossInfo(loss=sum(losses, tf.constant(0.0)), extra=metrics)

    @property
    @abc.abstractmethod
    def learning_variables(self) -> list[tf.Variable]:
        """All that an update changes, optimisers' state too: what is put back where one failed."""

    def settings(self) -> dict[str, Any]:
        """What it was set to, those left at their defaults too: plain values by gin's names."""
        return {}

    def memory_per_row(self) -> float:
        """Floats that learning holds at once, per agent and row of a rollout."""
        return 0.0

    # What it may measure of itself, now and then, that is too dear for every update.

    def is_due(self) -> bool:
        """Whether the next update is to be looked at closely: by `learn_closely` in place of `learn`."""
        return False

    def learn_closely(self, rollout: Rollout) -> tuple[Metrics, dict[str, tf.Tensor]]:
        """`learn`, and what was seen of it, arrays by name; never a part of an XLA program."""
        return self.learn(rollout), {}

    def close_up(self, seen: Mapping[str, np.ndarray], title: str) -> "dict[str, str | Figure]":
        """What there is to look at of what was seen of an update: texts and plots by file name."""
        del seen, title
        return {}

    def summary(self, history: list[dict[str, float]], title: str) -> "dict[str, str | Figure]":
        """What there is to look at after a run: texts and plots by file name. Args: history, a sink's."""
        del history, title
        return {}

    def batch_facts(self, rollout: Rollout) -> dict[str, tf.Tensor]:
        """What may tell why an update failed: tensors by name."""
        experience = rollout.experience
        return {"reward": experience.reward, **experience.observation, **_flat(experience.policy_info)}


def _flat(info: Any) -> dict[str, tf.Tensor]:
    return {name: leaf for name, leaf in info.items() if tf.is_tensor(leaf)} if isinstance(info, dict) else {}
