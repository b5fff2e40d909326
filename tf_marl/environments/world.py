"""This module defines the protocol of worlds: what training, evaluation and replays know about an environment.

There are two kinds of worlds:

- A `CompiledWorld` is a set of pure functions of tensors. They take a state and return a state, and all randomness
  comes from seeds in the arguments. Whole rollouts compile into one XLA program.
- A `LiveWorld` plays in its own time, outside of TensorFlow, as a game in another process does. Its episodes may break
  off.

To add a world, write a module with a subclass of either kind, and make it known with `environments.register`. A gin
file that names the backend is all that `launch.train` then needs.

The letters in all shapes: B environments, N agents, A actions, O observation and S state features.
"""

import abc
import pathlib
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

State = Any  # a nest of tensors


class WorldFailedError(RuntimeError):
    """Says that a live world cannot go on, and why. What the learner has learned is not affected."""


def team_specs(
    num_agents: int, num_actions: int, obs_size: int, state_size: int
) -> tuple[ts.TimeStep, tensor_spec.BoundedTensorSpec]:
    """Returns the specs of one environment, as the package's docstring lists them.

    Args:
        num_agents: N.
        num_actions: A.
        obs_size: O.
        state_size: S.
    Returns:
        The time step's, with `obs` [N, O], `state` [S], `avail_actions` [N, A] and `alive` [N]; and the action's, [N].
    """
    observation = {
        "obs": tf.TensorSpec([num_agents, obs_size], tf.float32, "obs"),
        "state": tf.TensorSpec([state_size], tf.float32, "state"),
        "avail_actions": tf.TensorSpec([num_agents, num_actions], tf.bool, "avail_actions"),
        "alive": tf.TensorSpec([num_agents], tf.bool, "alive"),
    }
    action = tensor_spec.BoundedTensorSpec([num_agents], tf.int32, 0, num_actions - 1, "action")
    return ts.time_step_spec(observation), action


class World(abc.ABC):
    """Holds B environments (battles, games, tasks) side by side.

    Episodes follow TF-Agents' convention: after the last step of an episode, the next step ignores the action and
    starts another episode.
    """

    compiles: ClassVar[bool]  # which of the two kinds it is

    name: str  # of the map, say; runs and models are named after it
    num_envs: int  # B
    time_step_spec: ts.TimeStep  # of one environment, see the package's docstring
    action_spec: types.NestedTensorSpec  # of one environment: int32 [N]
    unit_types: tuple[str, ...] | None  # [N] the name of each agent's type, such as "marine"; None where they change
    episode_limit: int  # env steps; no episode is longer

    outcomes: tuple[str, ...] = ()  # names in `info` that tell how an episode ended; the first one ranks policies
    replay_suffixes: tuple[str, ...] = ()  # of the replay files that it can write, such as ".html"
    scripts: tuple[str, ...] = ()  # names of the teams that can play it by hand-written rules
    enemies: tuple[str, ...] = ()  # names of those that can lead the agents' enemies

    @abc.abstractmethod
    def resize(self, num_envs: int) -> "World":
        """Returns the same world with another number of environments.

        Args:
            num_envs: the new B.
        Returns:
            A new world; this one stays as it is.
        """

    def settings(self) -> dict[str, Any]:
        """Returns the options that define this world, including those at their defaults: plain values by name."""
        return {}

    def tags(self) -> dict[str, str]:
        """Returns what results depend on besides the settings, such as the build of a game: texts by name.

        Raises:
            ValueError: what a tag describes is missing, for example because no game is installed.
        """
        return {}

    def scripted(self, name: str) -> tf_policy.TFPolicy:
        """Returns a team that plays this world by hand-written rules.

        Args:
            name: one of `scripts`.
        Returns:
            The team's policy.
        Raises:
            ValueError: there is no scripted team of that name; the message lists those that there are.
        """
        known = ", ".join(self.scripts) or "none"
        raise ValueError(f"{self.name} has no scripted team {name!r}; it has: {known}")

    def against(self, enemy: str) -> "World":
        """Returns the same world with other enemies.

        Args:
            enemy: who leads them, one of `enemies`.
        Returns:
            A new world; this one stays as it is.
        Raises:
            ValueError: there are no such enemies; the message lists those that there are.
        """
        known = ", ".join(self.enemies) or "none to choose from"
        raise ValueError(f"{self.name} has no enemies {enemy!r}; it has: {known}")

    def write_replay(
        self, path: pathlib.Path, policy: tf_policy.TFPolicy, seed: Any, num_episodes: int, title: str
    ) -> None:
        """Writes a file in which people can watch episodes.

        Args:
            path: the file to write; its name ends in one of `replay_suffixes`.
            policy: the team that plays.
            seed: [2] int32. `Evaluator` plays the same episodes with the same seed.
            num_episodes: how many of the B episodes to show.
            title: a title for people to read.
        Raises:
            ValueError: this world has no replays.
        """
        raise ValueError(f"{self.name} has no replays")

    def close(self) -> None:  # noqa: B027 - most worlds have nothing to end
        """Ends what runs beside this process, such as games. Most worlds have nothing to end."""


class CompiledWorld(World):
    """Describes worlds that are pure functions of tensors, so that they compile together with the policy that plays.

    The functions are traced without AutoGraph. A Python `if` or loop that depends on a tensor needs `graph.converted`.
    """

    compiles = True

    @abc.abstractmethod
    def resize(self, num_envs: int) -> "CompiledWorld": ...

    @abc.abstractmethod
    def reset(self, seed: tf.Tensor) -> State:
        """Starts B fresh episodes.

        Args:
            seed: [2] int32, decides all that is random about the start.
        Returns:
            The state: a nest of tensors.
        """

    @abc.abstractmethod
    def step(self, state: State, action: tf.Tensor, seed: tf.Tensor) -> State:
        """Plays one env step in all B environments. Where an episode is over, it starts the next one instead.

        Args:
            state: as `reset` or `step` returned it.
            action: [B, N] int32.
            seed: [2] int32, decides all that is random in this step.
        Returns:
            The state after the step.
        """

    @abc.abstractmethod
    def time_step(self, state: State) -> ts.TimeStep:
        """Returns what the agents get to know of a state: a TF-Agents time step whose leaves have shape [B, ...].

        Args:
            state: as `reset` or `step` returned it.
        """

    def info(self, state: State) -> dict[str, tf.Tensor]:
        """Returns facts about a state that are recorded but not shown to the agents, such as whether the battle is won.

        Args:
            state: as `reset` or `step` returned it.
        Returns:
            Tensors [B] by name; all names in `outcomes` are among them.
        """
        del state
        return {}

    def play_step(
        self,
        policy: tf_policy.TFPolicy,
        seed: tf.Tensor,
        t: tf.Tensor,
        state: State,
        time_step: ts.TimeStep,
        policy_state: types.NestedTensor,
    ) -> tuple[State, ts.TimeStep, policy_step.PolicyStep]:
        """Plays step `t` of the episodes that began with `reset(seed)`, with actions from a policy.

        The seeds of policy and environment follow from `seed` and `t` alone. So whoever plays the episodes again meets
        the same random events.

        Args:
            policy: the team that plays.
            seed: [2] int32, the seed of the episodes.
            t: scalar int32, env steps played since `reset`.
            state: the world's state before the step.
            time_step: what that state shows; leaves [B, ...].
            policy_state: the policy's state before the step.
        Returns:
            The world's state after the step; what it shows, leaves [B, ...]; and the policy's step, which holds the
            action int32 [B, N] and the policy's next state.
        """
        policy_seed, env_seed = tf.unstack(
            tf.random.experimental.stateless_split(tf.random.experimental.stateless_fold_in(seed, t), 2)
        )
        action_step = policy.action(time_step, policy_state, seed=policy_seed)
        state = self.step(state, action_step.action, env_seed)
        return state, self.time_step(state), action_step


class LiveWorld(World):
    """Describes worlds that run outside of TensorFlow: arrays go in and arrays come out.

    The state of such a world is whatever it runs at the moment. It can be neither copied nor restored.

    An episode can break off. The next time step of that row of the batch is then a FIRST one although the one before
    was no LAST, and what came before in that row is void. A row that waits for its next episode shows FIRST steps in
    which all agents are dead.
    """

    compiles = False

    one_episode: bool = False  # whether a row rests after its episode, until the next `reset`

    @abc.abstractmethod
    def resize(self, num_envs: int) -> "LiveWorld": ...

    @abc.abstractmethod
    def reset(self) -> ts.TimeStep:
        """Starts fresh episodes.

        Returns:
            What they show first: a time step of NumPy arrays [B, ...].
        Raises:
            WorldFailedError: the world cannot go on.
        """

    @abc.abstractmethod
    def step(self, action: np.ndarray) -> ts.TimeStep:
        """Plays one env step in all B environments at once.

        Args:
            action: [B, N] int32.
        Returns:
            What the environments show then: a time step of NumPy arrays [B, ...].
        Raises:
            WorldFailedError: the world cannot go on.
        """

    def info(self) -> dict[str, np.ndarray]:
        """Returns facts about the latest time step that are recorded but not shown to the agents.

        Returns:
            Arrays [B] by name; all names in `outcomes` are among them.
        """
        return {}

    def seconds_at_work(self, now: float) -> float:
        """Returns for how many seconds an environment has been busy so far, on average over the B.

        A world that does not measure this counts as busy all the time.

        Args:
            now: seconds, as `time.monotonic` tells them.
        """
        return now

    def metrics(self) -> dict[str, float]:
        """Returns what there is to record about the world besides its episodes, such as crashes: numbers by name."""
        return {}
