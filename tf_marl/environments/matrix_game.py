"""In a matrix game all agents choose at once and share one entry of a payoff table, so its optimum is known."""

from typing import Any, NamedTuple

import numpy as np
import pydantic
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from tf_marl.config import STRICT, Count
from tf_marl.environments.world import CompiledWorld, team_specs

# Two agents; the best joint action costs much if only one of them takes it (Claus & Boutilier 1998, the climbing game).
CLIMBING_GAME = np.array([[11, -30, 0], [-30, 7, 6], [0, 0, 5]], np.float32)
# Two agents; agreeing on either corner is best, disagreeing costs (Claus & Boutilier 1998, the penalty game).
PENALTY_GAME = np.array([[10, 0, -10], [0, 2, 0], [-10, 0, 10]], np.float32)
GAMES = {"climbing": CLIMBING_GAME, "penalty": PENALTY_GAME}
# Two agents; the first one's first action says which of two games is played then (Rashid et al. 2018, section 5).
TWO_STEP_GAME = np.array([[[7, 7], [7, 7]], [[0, 1], [1, 8]]], np.float32)


class State(NamedTuple):
    """Holds the states of B games."""

    last_action: tf.Tensor  # [B, N] int32; -1 before the first step
    step_count: tf.Tensor  # [B] int32, env steps into the episode
    step_type: tf.Tensor  # [B] int32, as in TimeStep
    reward: tf.Tensor  # [B], of the last step
    discount: tf.Tensor  # [B]: 0 if the last step ended the task, else 1


class MatrixGame(CompiledWorld):
    """Lets N agents with A actions each play one normal-form game, `episode_length` times in an episode.

    Observation:
        `obs` float32 [N, 1 + A] holds the fraction of the episode that is over, then the agent's own last action as a
        one-hot vector (zeros before the first). `state` float32 [1 + N A] holds the same fraction, then the last
        actions of all agents. `avail_actions` bool [N, A] and `alive` bool [N] are all True.
    Action:
        int32 [N], each at least 0 and less than A.
    Reward:
        `payoff[a_1, ..., a_N]`, one number for the team.
    Outcome:
        `optimal`: whether the last reward is the largest in the table.
    Episode end:
        after `episode_length` env steps. The discount is then 0, because the task is over. With `time_limit` it stays
        1, as if only the time were up.

    Args:
        payoff: [A, ..., A], one axis for each of the N agents.
        num_envs: B, how many games run side by side.
        episode_length: env steps.
        time_limit: whether an episode's end counts as truncation (discount 1) instead of termination (discount 0).
        name: the game's name.
    """

    outcomes = ("optimal",)

    def __init__(
        self,
        payoff: np.ndarray,
        num_envs: int,
        episode_length: int = 1,
        time_limit: bool = False,
        name: str = "matrix_game",
    ):
        self.name = name
        self.payoff = np.asarray(payoff, np.float32)
        self.num_envs = num_envs
        self.episode_limit = episode_length
        self.time_limit = time_limit
        self.unit_types = ("player",) * self.payoff.ndim
        n, a = self.payoff.ndim, self.payoff.shape[0]
        self.time_step_spec, self.action_spec = team_specs(n, a, obs_size=1 + a, state_size=1 + n * a)

    def resize(self, num_envs: int) -> "MatrixGame":
        return MatrixGame(self.payoff, num_envs, self.episode_limit, self.time_limit, self.name)

    def settings(self) -> dict[str, Any]:
        return {"episode_length": self.episode_limit, "time_limit": self.time_limit}

    def reset(self, seed: tf.Tensor) -> State:
        del seed  # there is no chance in the game
        return State(
            last_action=tf.fill([self.num_envs, *self.action_spec.shape], -1),
            step_count=tf.zeros([self.num_envs], tf.int32),
            step_type=tf.fill([self.num_envs], ts.StepType.FIRST),
            reward=tf.zeros([self.num_envs]),
            discount=tf.ones([self.num_envs]),
        )

    def step(self, state: State, action: tf.Tensor, seed: tf.Tensor) -> State:
        step_count = state.step_count + 1
        ends = step_count == self.episode_limit
        played = State(
            last_action=action,
            step_count=step_count,
            step_type=tf.where(ends, ts.StepType.LAST, ts.StepType.MID),
            reward=self._reward(state, action),
            discount=tf.where(ends & (not self.time_limit), 0.0, 1.0),
        )
        over = state.step_type == ts.StepType.LAST

        def fresh_if_over(fresh: tf.Tensor, played: tf.Tensor) -> tf.Tensor:
            return tf.where(tf.reshape(over, [-1] + [1] * (len(fresh.shape) - 1)), fresh, played)

        return tf.nest.map_structure(fresh_if_over, self.reset(seed), played)

    def _reward(self, state: State, action: tf.Tensor) -> tf.Tensor:
        return tf.gather_nd(self.payoff, action)

    def time_step(self, state: State) -> ts.TimeStep:
        n, a = self.time_step_spec.observation["avail_actions"].shape
        share = tf.cast(state.step_count, tf.float32)[:, None] / self.episode_limit  # [B, 1]
        chosen = tf.one_hot(state.last_action, a)  # [B, N, A]
        observation = {
            "obs": tf.concat([tf.repeat(share[:, None], n, axis=1), chosen], axis=-1),
            "state": tf.concat([share, tf.reshape(chosen, [-1, n * a])], axis=-1),
            "avail_actions": tf.ones([self.num_envs, n, a], tf.bool),
            "alive": tf.ones([self.num_envs, n], tf.bool),
        }
        return ts.TimeStep(state.step_type, state.reward, state.discount, observation)

    def info(self, state: State) -> dict[str, tf.Tensor]:
        """Returns `optimal`, bool [B]: whether the last joint action earned the largest payoff in the table.

        Args:
            state: the B games.
        """
        played = state.step_type != ts.StepType.FIRST
        return {"optimal": played & (state.reward == self.payoff.max())}


class TwoStepGame(MatrixGame):
    """Lets two agents with two actions each choose a game and then play it.

    The action of the first agent in the first step, for which there is no reward, is the number of the game.

    Observation:
        `obs` float32 [2, 3] is for both agents what `state` float32 [3] is: the place, one-hot, which is the start or
        one of the two games. `avail_actions` bool [2, 2] and `alive` bool [2] are all True.
    Action:
        int32 [2], each 0 or 1.
    Reward:
        0 in the first step, `payoff[game, a_1, a_2]` in the second.
    Outcome:
        `optimal`: whether the last reward is the largest in the tables.
    Episode end:
        after two env steps, with discount 0.

    Args:
        payoff: [2, 2, 2], the two games' tables.
        num_envs: B, how many games run side by side.
    """

    name = "two_step"

    def __init__(self, payoff: np.ndarray, num_envs: int):
        super().__init__(payoff[0], num_envs, episode_length=2, name=self.name)
        self.payoff = np.asarray(payoff, np.float32)
        places = {"obs": tf.TensorSpec([2, 3], tf.float32, "obs"), "state": tf.TensorSpec([3], tf.float32, "state")}
        self.time_step_spec = ts.time_step_spec(self.time_step_spec.observation | places)

    def resize(self, num_envs: int) -> "TwoStepGame":
        return TwoStepGame(self.payoff, num_envs)

    def settings(self) -> dict[str, Any]:
        return {}

    def _reward(self, state: State, action: tf.Tensor) -> tf.Tensor:
        game = tf.maximum(state.last_action[:, :1], 0)  # of no account in the first step
        return tf.where(state.step_count == 0, 0.0, tf.gather_nd(self.payoff, tf.concat([game, action], axis=1)))

    def time_step(self, state: State) -> ts.TimeStep:
        place = tf.one_hot(tf.where(state.step_count == 0, 0, 1 + state.last_action[:, 0]), 3)
        step = super().time_step(state)
        return step._replace(observation=step.observation | {"obs": tf.repeat(place[:, None], 2, 1), "state": place})


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Options:
    """Holds what a user may set.

    Args:
        episode_length: env steps, each of which plays the game once.
        time_limit: whether an episode's end counts as truncation (discount 1) instead of termination (discount 0).
    """

    episode_length: Count = 4
    time_limit: bool = False


def names() -> tuple[str, ...]:
    """Returns the names of the games, which `make` takes."""
    return (*GAMES, TwoStepGame.name)


def make(map_name: str, num_envs: int, seed: int, **options: Any) -> MatrixGame:
    """Makes the game of that name; `environments.make` calls this.

    Args:
        map_name: one of `names()`.
        num_envs: B, how many games run side by side.
        seed: not used, because the game has no randomness.
        **options: those of `Options`.
    Returns:
        The world.
    Raises:
        ValueError: there is no such game, or an option is unknown or has a wrong value.
    """
    del seed  # there is no chance in the game
    if map_name not in names():
        raise ValueError(f"unknown map {map_name!r}; matrix_game has: {', '.join(names())}")
    if map_name == TwoStepGame.name:
        if options:
            raise ValueError(f"environment.{min(options)}: {map_name} has no options")
        return TwoStepGame(TWO_STEP_GAME, num_envs)
    chosen = Options(**options)
    return MatrixGame(GAMES[map_name], num_envs, chosen.episode_length, chosen.time_limit, map_name)
