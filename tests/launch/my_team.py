"""This module adds what a user may add: a world (a game of agreement), a learner that only counts, and a sink."""

import pathlib
from typing import NamedTuple

import gin
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from tf_marl import environments, tracking
from tf_marl.agents.learner import Learner
from tf_marl.agents.policy import TeamPolicy
from tf_marl.environments.world import CompiledWorld
from tf_marl.networks import Actor, Architecture


class State(NamedTuple):
    step_type: tf.Tensor
    reward: tf.Tensor


class Agree(CompiledWorld):
    """Pays two agents 1 if they choose the same of two actions. An episode has one env step, and no outcomes."""

    def __init__(self, num_envs: int):
        self.name, self.num_envs, self.episode_limit, self.unit_types = "agree", num_envs, 1, ("a", "b")
        self.time_step_spec = ts.time_step_spec(
            {
                "obs": tf.TensorSpec([2, 1], tf.float32, "obs"),
                "state": tf.TensorSpec([1], tf.float32, "state"),
                "avail_actions": tf.TensorSpec([2, 2], tf.bool, "avail_actions"),
                "alive": tf.TensorSpec([2], tf.bool, "alive"),
            }
        )
        self.action_spec = tensor_spec.BoundedTensorSpec([2], tf.int32, 0, 1, "action")

    def resize(self, num_envs):
        return Agree(num_envs)

    def reset(self, seed):
        return State(tf.fill([self.num_envs], ts.StepType.FIRST), tf.zeros([self.num_envs]))

    def step(self, state, action, seed):
        over = state.step_type == ts.StepType.LAST
        reward = tf.cast(action[:, 0] == action[:, 1], tf.float32)
        return State(tf.where(over, ts.StepType.FIRST, ts.StepType.LAST), tf.where(over, 0.0, reward))

    def time_step(self, state):
        ones = tf.ones([self.num_envs, 2])
        seen = {
            "obs": ones[..., None],
            "state": ones[:, :1],
            "avail_actions": tf.cast(tf.ones([self.num_envs, 2, 2]), tf.bool),
            "alive": tf.cast(ones, tf.bool),
        }
        discount = tf.where(state.step_type == ts.StepType.LAST, 0.0, 1.0)
        return ts.TimeStep(state.step_type, state.reward, discount, seen)


environments.register("agreeing", lambda map_name, num_envs, seed: Agree(num_envs), lambda: ("agree",))


class Counting(Learner):
    """Counts its rollouts and learns nothing."""

    def __init__(self, time_step_spec, action_spec):
        self.actor = Actor(time_step_spec.observation, [0, 0], Architecture(hidden=(4,)), 0)
        self.actor.create_variables()
        policies = [TeamPolicy(time_step_spec, action_spec, self.actor, greedy) for greedy in (True, False)]
        super().__init__(time_step_spec, action_spec, *policies, weights={"actor": self.actor})

    def learn(self, rollout):
        return {"count/rollouts": tf.cast(self.train_step_counter.assign_add(1), tf.float32)}

    @property
    def learning_variables(self):
        return [self.train_step_counter]


@gin.configurable
def counting(time_step_spec, action_spec, unit_types=None, seed=0):
    return Counting(time_step_spec, action_spec)


class Lines(tracking.Sink):
    """Writes one line to a file for every event of a run."""

    def _tell(self, *what):
        with open(pathlib.Path(self.address.removeprefix("lines:")), "a", encoding="utf-8") as file:
            print(*what, file=file)

    def check_reachable(self):
        pass

    def start(self, experiment, run_name, params, tags, time):
        self.run_id = self.experiment_id = run_name
        self._tell("start", run_name, params["train.agent"])

    def resume(self, tags):
        self._tell("resume")

    def record(self, rows):
        for row in rows:
            self._tell("record", row.step, *sorted(row.values))

    def artifact(self, name, path):
        self._tell("artifact", name)

    def model(self, model):
        self._tell("model", model.name)

    def finish(self, status, error, time):
        self._tell("finish", status)


tracking.register("lines", Lines)
