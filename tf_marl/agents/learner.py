"""A learner is a TF-Agents agent that learns from rollouts; this protocol is all that training knows of it.

On-policy and off-policy learners both fit: a learner may keep earlier rollouts for itself. To add one, write a module
with a subclass of `Learner` and a gin-configurable factory
`(time_step_spec, action_spec, unit_types, seed) -> Learner`, and a gin file that sets `train.agent` to that factory.
`reinforce.py` is a small example.
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

    from tf_marl.agents.replay import Replay

Metrics = dict[str, tf.Tensor]  # scalars


class Rollout(NamedTuple):
    """Holds the experience of B environments over T rows; some rows are boundaries between two episodes."""

    experience: trajectory.Trajectory  # [B, T, ...]; its `policy_info` is the collect policy's
    final_time_step: ts.TimeStep  # [B, ...], of the environments after the last row


class Learner(tf_agent.TFAgent):
    """Describes a team that learns: the policies it plays with, and how it learns from a rollout.

    `policy` acts as the team would be deployed, `collect_policy` explores. The attribute `actor` is the network that
    maps observations to the team distribution; it is what gets exported. The attribute `replay` holds the rollouts that
    an off-policy learner keeps; checkpoints write only those that are new in it.

    `learn` is compiled, together with collecting where the world allows. AutoGraph is off, so Python loops and
    conditions on tensors need the decorator `graph.converted`.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        policy: plays as the team would be deployed.
        collect_policy: plays while experience is collected; its `info` is in the rollouts' `policy_info`.
        weights: the modules that the policies play with, by name; the best ones seen are saved.
        watched_policy: acts as `policy` does, and its `info` holds what a viewer may want to see, such as `value`;
            `policy` itself by default.
    """

    actor: network.Network
    replay: "Replay | None" = None

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: types.NestedTensorSpec,
        policy: tf_policy.TFPolicy,
        collect_policy: tf_policy.TFPolicy,
        weights: dict[str, tf.Module],
        watched_policy: tf_policy.TFPolicy | None = None,
    ):
        # The share of training that is done, in [0, 1]; the trainer sets it before every update.
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
        """Checks whether the learner can learn from rollouts of a given size; any size by default.

        Args:
            num_envs: B, environments in a rollout.
            num_steps: T, env steps per environment.
        Raises:
            ValueError: it cannot; the message says why.
        """

    @abc.abstractmethod
    def learn(self, rollout: Rollout) -> Metrics:
        """Updates the weights once.

        Args:
            rollout: fresh experience, tensors [B, T, ...].
        Returns:
            Scalar tensors to record, by names such as `loss/policy`.
        """

    def _train(self, experience: trajectory.Trajectory, weights=None) -> tf_agent.LossInfo:
        """Implements TF-Agents' `train` for [B, T + 1] rows, of which the last only gives its observation."""
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
        """Returns all variables that an update changes, those of the optimisers included.

        After an update that came to NaN or infinity, training sets them back to their values before it.
        """

    def settings(self) -> dict[str, Any]:
        """Returns the learner's settings, including those left at their defaults: plain values by their gin names."""
        return {}

    def memory_kept(self, num_envs: int, num_steps: int) -> dict[str, float]:
        """Returns how much memory the learner takes whatever the size of an update: gigabytes, by the setting's text.

        Args:
            num_envs: B, environments in a rollout.
            num_steps: T, env steps per environment.
        """
        del num_envs, num_steps
        return {}

    def memory_per_row(self) -> float:
        """Returns how many floats an update holds in memory at once, per agent and row of the rollout."""
        return 0.0

    # Detailed measurements, which take too long to make at every update.

    def is_due(self) -> bool:
        """Returns whether the next update should be measured closely, by `learn_closely` in place of `learn`."""
        return False

    def learn_closely(self, rollout: Rollout) -> tuple[Metrics, dict[str, tf.Tensor]]:
        """Updates the weights once and measures the update in detail; this is never part of an XLA program.

        Args:
            rollout: fresh experience, tensors [B, T, ...].
        Returns:
            The scalars that `learn` returns, and the measurements, tensors of any shape by name. The default measures
            nothing.
        """
        return self.learn(rollout), {}

    def close_up(self, seen: Mapping[str, np.ndarray], title: str) -> "dict[str, str | Figure]":
        """Returns texts and plots of one closely measured update, by file name; none by default.

        Args:
            seen: the measurements of `learn_closely`, arrays by name, each of the shape it had there.
            title: of the plots.
        """
        del seen, title
        return {}

    def summary(self, history: list[dict[str, float]], title: str) -> "dict[str, str | Figure]":
        """Returns texts and plots of a whole run, by file name; none by default.

        Args:
            history: one dict per recorded step: `env_steps` and the metrics recorded then.
            title: of the plots.
        """
        del history, title
        return {}

    def batch_facts(self, rollout: Rollout) -> dict[str, tf.Tensor]:
        """Returns tensors that may explain why an update failed, by name.

        Args:
            rollout: the experience of that update, tensors [B, T, ...].
        Returns:
            By default the rewards, [B, T], the observations and the `policy_info`, [B, T, ...] each.
        """
        experience = rollout.experience
        return {"reward": experience.reward, **experience.observation, **_flat(experience.policy_info)}


def _flat(info: Any) -> dict[str, tf.Tensor]:
    return {name: leaf for name, leaf in info.items() if tf.is_tensor(leaf)} if isinstance(info, dict) else {}
