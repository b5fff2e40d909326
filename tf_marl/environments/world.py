"""What a world is to the rest: the protocol that training, evaluating and showing know, in two kinds.

A compiled world is a pure function of tensors: state in, state out, randomness from explicit seeds. Whole rollouts of
it compile into one program. A live world plays in its own time, outside of TensorFlow; its episodes may break off.

To add one: a module with a subclass of either, made known by `environments.register`, and a gin file with its name.
"""

import abc
import pathlib
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

State = Any  # a nest of tensors


class WorldFailedError(RuntimeError):
    """A live world cannot go on; the message says why. What was learned is not touched."""


class World(abc.ABC):
    """B environments (battles, games, tasks) side by side, as TF-Agents sees them: after the last step of an episode,
    the next one ignores the action and starts another episode.
    """

    compiles: ClassVar[bool]  # which of the two kinds it is

    name: str  # what runs and models are called after, such as a map's
    num_envs: int  # B
    time_step_spec: ts.TimeStep  # of one environment: see `environments`
    action_spec: types.NestedTensorSpec  # of one environment: int32 [N]
    unit_types: tuple[str, ...]  # [N] names of what the agents are
    episode_limit: int  # env steps; no episode is longer

    outcomes: tuple[str, ...] = ()  # facts of `info` that say what an episode came to, the one to rank by first
    replay_suffixes: tuple[str, ...] = ()  # of the files that it can write of episodes, such as ".html"; () is none
    scripts: tuple[str, ...] = ()  # names of the teams that play it by hand-written rules

    @abc.abstractmethod
    def resize(self, num_envs: int) -> "World":
        """The same world with another B."""

    def settings(self) -> dict[str, Any]:
        """The options that make it what it is, those left at their defaults too: plain values by name."""
        return {}

    def tags(self) -> dict[str, str]:
        """What results depend on besides settings, such as a game's build. Raises ValueError: it is not there."""
        return {}

    def scripted(self, name: str) -> tf_policy.TFPolicy:
        """One of the teams in `scripts`. Raises ValueError: there is none of that name."""
        known = ", ".join(self.scripts) or "none"
        raise ValueError(f"{self.name} has no scripted team {name!r}; it has: {known}")

    def write_replay(
        self, path: pathlib.Path, policy: tf_policy.TFPolicy, seed: Any, num_episodes: int, title: str
    ) -> None:
        """Writes a file to watch episodes in, of one of `replay_suffixes`.

        Args:
            path: of the file.
            policy: that plays.
            seed: [2] int32: `Evaluator` with the same one plays the same episodes.
            num_episodes: that are shown, of the B.
            title: for people to read.
        Raises:
            ValueError: it has no replays.
        """
        raise ValueError(f"{self.name} has no replays")

    def close(self) -> None:  # noqa: B027 - most worlds have nothing to end
        """Ends what runs beside this process, if anything does."""


class CompiledWorld(World):
    """All of it is compiled: Python loops and conditions on tensors need `graph.converted`."""

    compiles = True

    @abc.abstractmethod
    def resize(self, num_envs: int) -> "CompiledWorld": ...

    @abc.abstractmethod
    def reset(self, seed: tf.Tensor) -> State:
        """B fresh episodes. Args: seed [2] int32."""

    @abc.abstractmethod
    def step(self, state: State, action: tf.Tensor, seed: tf.Tensor) -> State:
        """One env step. Args: action int32 [B, N]; seed [2] int32."""

    @abc.abstractmethod
    def time_step(self, state: State) -> ts.TimeStep:
        """What the agents get to know, [B, ...]."""

    def info(self, state: State) -> dict[str, tf.Tensor]:
        """What only the record-keeper gets to know, [B] each; the `outcomes` among it."""
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
        """Step `t` of the episodes that began with `reset(seed)`: whoever plays them anew takes the same chances.

        Returns: the state and what it shows, and the policy's step, which holds its state.
        """
        policy_seed, env_seed = tf.unstack(
            tf.random.experimental.stateless_split(tf.random.experimental.stateless_fold_in(seed, t), 2)
        )
        action_step = policy.action(time_step, policy_state, seed=policy_seed)
        state = self.step(state, action_step.action, env_seed)
        return state, self.time_step(state), action_step


class LiveWorld(World):
    """Arrays go in and out. What it shows last is its state: that can be neither copied nor taken back.

    An episode can break off: then the next time step is a FIRST one though the last was no LAST, and what came before
    it in that row is void. A row that has to wait for its episode shows such FIRST steps, of a team that is dead.
    """

    compiles = False

    one_episode: bool = False  # whether a row rests after its episode, until the next `reset`

    @abc.abstractmethod
    def resize(self, num_envs: int) -> "LiveWorld": ...

    @abc.abstractmethod
    def reset(self) -> ts.TimeStep:
        """Fresh episodes; what they show, arrays [B, ...]. Raises WorldFailedError: it cannot go on."""

    @abc.abstractmethod
    def step(self, action: np.ndarray) -> ts.TimeStep:
        """One env step in all environments at once. Args: action int32 [B, N]. Raises: as `reset`."""

    def info(self) -> dict[str, np.ndarray]:
        """As a compiled world's, of what was shown last."""
        return {}

    def seconds_at_work(self, now: float) -> float:
        """How long an environment was at work on average, of all time so far. Args: now, of `time.monotonic`."""
        return now

    def metrics(self) -> dict[str, float]:
        """What there is to record of it besides the episodes."""
        return {}
