"""The memory that a run will take is estimated from the shapes of its tensors, before any is created.

The factors are fitted to peaks that were measured on a CPU.
"""

import math
import pathlib
from collections.abc import Sequence

import psutil
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.typing import types

from tf_marl.agents.learner import Learner

_PROGRAMS = 0.5  # gigabytes of compiled programs, whatever the size of the run
_COPIES = 2.5  # copies of a rollout: while it is collected, as a whole, and in minibatches
_STEP = 5  # intermediate results of an env step, as a multiple of the observations' size
_PASS = 3  # outputs of the widest layer that are held at once in a pass without gradients, as a multiple
_CONTAINER = [pathlib.Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory/memory.limit_in_bytes")]


def available() -> float:
    """Returns how many gigabytes this process may take: the free memory, or the container's limit if that is lower."""
    limits = [path.read_text().strip() for path in _CONTAINER if path.is_file()]
    return min([psutil.virtual_memory().available, *(int(limit) for limit in limits if limit.isdigit())]) / 1e9


def check(gigabytes: float, limit: float | None, what: str) -> None:
    """Checks whether an amount of memory is available.

    Args:
        gigabytes: amount that is needed.
        limit: amount that may be taken, in gigabytes; None is what is available now.
        what: the settings that need it, as a user would type them, for the message.
    Raises:
        ValueError: more is needed than may be taken.
    """
    limit = available() if limit is None else limit
    if gigabytes > limit:
        raise ValueError(
            f"{what} takes about {gigabytes:,.1f} GB of memory, of which it may have {limit:,.1f}; lower it, or try it"
            f" all the same with --max_gigabytes={math.ceil(gigabytes)}"
        )


def of_training(learner: Learner, num_envs: int, num_steps: int) -> float:
    """Estimates the memory that collecting and learning take.

    Args:
        learner: with its policies and networks.
        num_envs: B, environments in a rollout.
        num_steps: T, env steps per environment.
    Returns:
        Gigabytes.
    """
    policy = learner.collect_policy
    units = max(_PASS * max(_widths(policy)), learner.memory_per_row())
    row = _COPIES * _bytes(policy.trajectory_spec) + _bytes(policy.action_spec) * units
    return _PROGRAMS + num_envs * num_steps * row / 1e9 + of_episodes(policy, num_envs)


def of_episodes(policy: tf_policy.TFPolicy, num_envs: int) -> float:
    """Estimates the memory of playing episodes side by side.

    Args:
        policy: plays.
        num_envs: number of episodes.
    Returns:
        Gigabytes.
    """
    shown = _bytes(policy.time_step_spec) + _bytes(policy.policy_state_spec)
    units = _PASS * max(_widths(policy), default=0)
    return num_envs * (_STEP * shown + _bytes(policy.action_spec) * units) / 1e9


def _bytes(specs: types.NestedTensorSpec) -> int:
    """Returns the bytes of tensors with such specs; for an action spec that is 4 bytes per agent."""
    return sum(spec.shape.num_elements() * spec.dtype.size for spec in tf.nest.flatten(specs))


def _widths(policy: tf_policy.TFPolicy) -> Sequence[int]:
    """Returns the number of outputs of each layer, per agent."""
    return [weight.shape[-1] for weight in policy.variables() if weight.shape.rank > 1]
