"""Playing whole episodes with a fixed policy."""

import tensorflow as tf
from scipy import stats
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.compile import graph
from tf_marl.environments.sc2.core import StarCraft2
from tf_marl.environments.world import CompiledWorld, State
from tf_marl.training.live import CompiledPolicy


def play_step(
    world: CompiledWorld,
    policy: tf_policy.TFPolicy,
    seed: tf.Tensor,
    t: tf.Tensor,
    state: State,
    time_step: ts.TimeStep,
    policy_state: types.NestedTensor,
) -> tuple[State, ts.TimeStep, policy_step.PolicyStep]:
    """Step `t` of the episodes that began with `world.reset(seed)`: whoever plays them anew takes the same chances.

    Returns: the state and what it shows, and the policy's step, which holds its state.
    """
    policy_seed, env_seed = tf.unstack(
        tf.random.experimental.stateless_split(tf.random.experimental.stateless_fold_in(seed, t), 2)
    )
    action_step = policy.action(time_step, policy_state, seed=policy_seed)
    state = world.step(state, action_step.action, env_seed)
    return state, world.time_step(state), action_step


def win_interval(battle_won_mean: float, episodes: int) -> tuple[float, float]:
    """The 95% confidence interval of a win rate (Wilson 1927). Args: battle_won_mean, over that many episodes."""
    interval = stats.binomtest(round(battle_won_mean * episodes), episodes).proportion_ci(method="wilson")
    return interval.low, interval.high


class Evaluator:
    """Plays one episode in each environment of a core of its own, all at once.

    Args:
        world: as many environments as episodes are wanted.
        policy: greedy, as a rule.
    """

    def __init__(self, world: CompiledWorld, policy: tf_policy.TFPolicy):
        compiles = not isinstance(world, StarCraft2)
        self._core = world
        self._policy = policy if compiles else CompiledPolicy(policy)
        self._play = graph.function(self._episodes, jit_compile=True) if compiles else self._episodes

    def __call__(self, seed: tf.Tensor) -> dict[str, float]:
        """Args: seed [2] int32; equal seeds and weights give equal episodes.

        Returns: `battle_won_mean` in [0, 1], `return_mean`, `episode_length_mean` (env steps).
        """
        return {name: float(tf.reduce_mean(value)) for name, value in self._play(seed).items()}

    def _episodes(self, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        world = self._core
        zeros = tf.zeros([world.num_envs])

        def step(t, state, time_step, policy_state, going, totals):
            state, time_step, action_step = play_step(world, self._policy, seed, t, state, time_step, policy_state)
            first = going & time_step.is_first()  # a game begins, or has broken off and begins anew
            counts = tf.cast(going & ~first, tf.float32)
            won = tf.cast(time_step.is_last() & world.info(state)["battle_won"], tf.float32)
            totals = {name: tf.where(first, 0.0, total) for name, total in totals.items()}
            totals = {
                "battle_won_mean": totals["battle_won_mean"] + counts * won,
                "return_mean": totals["return_mean"] + counts * time_step.reward,
                "episode_length_mean": totals["episode_length_mean"] + counts,
            }
            return t + 1, state, time_step, action_step.state, going & ~time_step.is_last(), totals

        state = world.reset(seed)
        totals = {"battle_won_mean": zeros, "return_mean": zeros, "episode_length_mean": zeros}
        going = tf.ones([world.num_envs], tf.bool)
        return tf.while_loop(
            lambda t, state, time_step, policy_state, going, totals: tf.reduce_any(going),
            step,
            (0, state, world.time_step(state), self._policy.get_initial_state(world.num_envs), going, totals),
        )[-1]
