"""A world of one's own: agents on a square grid who have to meet."""

from typing import NamedTuple

import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from tf_marl import environments
from tf_marl.environments.world import CompiledWorld

MAPS = {"pair": 2, "trio": 3}  # map name -> N
MOVES = tf.constant([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])  # stay, east, west, north, south


# state
class State(NamedTuple):
    """Holds B episodes."""

    position: tf.Tensor  # [B, N, 2] int32, cells
    step_count: tf.Tensor  # [B] int32, env steps so far
    step_type: tf.Tensor  # [B] int32, as in TimeStep
    reward: tf.Tensor  # [B], of the last env step
    discount: tf.Tensor  # [B]


# specs
class Rendezvous(CompiledWorld):
    """Plays B games in which N agents start in random cells and have to come to one cell.

    Observation: `obs` [N, 4], an agent's cell and the way from it to the middle of the team, in units of the grid;
        `state` [2 N], all cells; `avail_actions` [N, 5], the moves that stay on the grid; `alive` [N], all True.
    Reward: 1 for meeting, and -1 / `episode_limit` for every env step.
    Episode end: when all agents have met (discount 0), or at the time limit (discount 1).
    """

    outcomes = ("met",)
    episode_limit = 16

    def __init__(self, name: str, num_envs: int, size: int):
        self.name, self.num_envs, self.size = name, num_envs, size
        n = MAPS[name]
        self.unit_types = ("walker",) * n
        self.time_step_spec = ts.time_step_spec(
            {
                "obs": tf.TensorSpec([n, 4], tf.float32, "obs"),
                "state": tf.TensorSpec([2 * n], tf.float32, "state"),
                "avail_actions": tf.TensorSpec([n, 5], tf.bool, "avail_actions"),
                "alive": tf.TensorSpec([n], tf.bool, "alive"),
            }
        )
        self.action_spec = tensor_spec.BoundedTensorSpec([n], tf.int32, 0, 4, "action")

    def resize(self, num_envs):
        return Rendezvous(self.name, num_envs, self.size)

    def settings(self):
        return {"size": self.size}

    # step
    def reset(self, seed):
        return State(
            position=tf.random.stateless_uniform([self.num_envs, MAPS[self.name], 2], seed, 0, self.size, tf.int32),
            step_count=tf.zeros([self.num_envs], tf.int32),
            step_type=tf.fill([self.num_envs], ts.StepType.FIRST),
            reward=tf.zeros([self.num_envs]),
            discount=tf.ones([self.num_envs]),
        )

    def step(self, state, action, seed):
        position = tf.clip_by_value(state.position + tf.gather(MOVES, action), 0, self.size - 1)
        met, step_count = self._met(position), state.step_count + 1
        ends = met | (step_count == self.episode_limit)
        played = State(
            position=position,
            step_count=step_count,
            step_type=tf.where(ends, ts.StepType.LAST, ts.StepType.MID),
            reward=tf.cast(met, tf.float32) - 1.0 / self.episode_limit,
            discount=tf.where(met, 0.0, 1.0),
        )
        over = state.step_type == ts.StepType.LAST  # then the action is ignored and the next episode begins

        def choose(fresh, played):
            return tf.where(tf.reshape(over, [-1] + [1] * (played.shape.rank - 1)), fresh, played)

        return tf.nest.map_structure(choose, self.reset(seed), played)

    # time_step
    def time_step(self, state):
        cell = tf.cast(state.position, tf.float32) / self.size  # [B, N, 2]
        way = tf.reduce_mean(cell, axis=1, keepdims=True) - cell
        after = state.position[:, :, None] + MOVES  # [B, N, A, 2]
        observation = {
            "obs": tf.concat([cell, way], axis=-1),
            "state": tf.reshape(cell, [self.num_envs, -1]),
            "avail_actions": tf.reduce_all((after >= 0) & (after < self.size), axis=-1),
            "alive": tf.ones(state.position.shape[:2], tf.bool),
        }
        return ts.TimeStep(state.step_type, state.reward, state.discount, observation)

    def info(self, state):
        return {"met": self._met(state.position)}

    def _met(self, position):
        return tf.reduce_all(position == position[:, :1], axis=[1, 2])


# register
def make(map_name, num_envs, seed, size=4):
    if map_name not in MAPS:
        raise ValueError(f"unknown map {map_name!r}; rendezvous has: {', '.join(MAPS)}")
    return Rendezvous(map_name, num_envs, size)


environments.register("rendezvous", make, names=lambda: tuple(MAPS))
