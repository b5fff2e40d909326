"""What a run will hold in memory, by the shapes of its tensors, before any of them is made.

The factors are fitted to measured peaks on a CPU.
"""

import math
import pathlib
from collections.abc import Sequence

import psutil
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.typing import types

from tf_marl.agents.learner import Learner

_PROGRAMS = 0.5  # gigabytes: what a run compiles to, however small it is
_COPIES = 2.5  # of a rollout: as it is collected, as a whole and in minibatches
_STEP = 5  # times what the battles show: what is made on the way from one env step to the next
_PASS = 3  # outputs of the widest layer, at once, where nobody asks for gradients
_CONTAINER = [pathlib.Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory/memory.limit_in_bytes")]


def available() -> float:
    """Gigabytes that this process may take: what the machine has free, and no more than a container is allowed."""
    limits = [path.read_text().strip() for path in _CONTAINER if path.is_file()]
    return min([psutil.virtual_memory().available, *(int(limit) for limit in limits if limit.isdigit())]) / 1e9


def check(gigabytes: float, limit: float | None, what: str) -> None:
    """Refuses what takes too much.

    Args:
        gigabytes: that it takes.
        limit: that it may take; None is what there is.
        what: the settings that it comes from, as one would type them.
    Raises:
        ValueError: it takes more.
    """
    limit = available() if limit is None else limit
    if gigabytes > limit:
        raise ValueError(
            f"{what} takes about {gigabytes:,.1f} GB of memory, of which it may have {limit:,.1f}; lower it, or try it"
            f" all the same with --max_gigabytes={math.ceil(gigabytes)}"
        )


def of_training(learner: Learner, num_envs: int, num_steps: int) -> float:
    """Gigabytes that collecting and learning take. Args: num_envs, B; num_steps, T of a rollout."""
    policy = learner.collect_policy
    units = max(_PASS * max(_widths(policy)), learner.memory_per_row())
    row = _COPIES * _bytes(policy.trajectory_spec) + _bytes(policy.action_spec) * units
    return _PROGRAMS + num_envs * num_steps * row / 1e9 + of_episodes(policy, num_envs)


def of_episodes(policy: tf_policy.TFPolicy, num_envs: int) -> float:
    """Gigabytes that battles take which are played side by side. Args: num_envs, how many."""
    shown = _bytes(policy.time_step_spec) + _bytes(policy.policy_state_spec)
    units = _PASS * max(_widths(policy), default=0)
    return num_envs * (_STEP * shown + _bytes(policy.action_spec) * units) / 1e9


def _bytes(specs: types.NestedTensorSpec) -> int:
    """The action's, for one, are those of a number per agent."""
    return sum(spec.shape.num_elements() * spec.dtype.size for spec in tf.nest.flatten(specs))


def _widths(policy: tf_policy.TFPolicy) -> Sequence[int]:
    """Outputs of each layer, per agent."""
    return [weight.shape[-1] for weight in policy.variables() if weight.shape.rank > 1]
