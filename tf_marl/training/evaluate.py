"""Playing whole episodes with a fixed policy."""

import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import time_step as ts

from tf_marl.environments.functional import FunctionalCore, State


def play_step(
    core: FunctionalCore,
    policy: tf_policy.TFPolicy,
    seed: tf.Tensor,
    t: tf.Tensor,
    state: State,
    time_step: ts.TimeStep,
) -> tuple[State, ts.TimeStep]:
    """Step `t` of the episodes that began with `core.reset(seed)`: whoever plays them anew takes the same chances."""
    policy_seed, env_seed = tf.unstack(
        tf.random.experimental.stateless_split(tf.random.experimental.stateless_fold_in(seed, t), 2)
    )
    action = policy.action(time_step, seed=policy_seed).action
    state = core.step(state, action, env_seed)
    return state, core.time_step(state)


class Evaluator:
    """Plays one episode in each environment of a core of its own, all at once.

    Args:
        core: as many environments as episodes are wanted.
        policy: greedy, as a rule.
    """

    def __init__(self, core: FunctionalCore, policy: tf_policy.TFPolicy):
        self._core = core
        self._policy = policy
        self._play = tf.function(self._episodes, jit_compile=True)

    def __call__(self, seed: tf.Tensor) -> dict[str, float]:
        """Args: seed [2] int32; equal seeds and weights give equal episodes.

        Returns: `battle_won_mean` in [0, 1], `return_mean`, `episode_length_mean` (env steps).
        """
        return {name: float(tf.reduce_mean(value)) for name, value in self._play(seed).items()}

    def _episodes(self, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        core = self._core
        zeros = tf.zeros([core.num_envs])

        def step(t, state, time_step, going, totals):
            state, time_step = play_step(core, self._policy, seed, t, state, time_step)
            counts = tf.cast(going, tf.float32)
            won = tf.cast(time_step.is_last() & core.info(state)["battle_won"], tf.float32)
            totals = {
                "battle_won_mean": totals["battle_won_mean"] + counts * won,
                "return_mean": totals["return_mean"] + counts * time_step.reward,
                "episode_length_mean": totals["episode_length_mean"] + counts,
            }
            return t + 1, state, time_step, going & ~time_step.is_last(), totals

        state = core.reset(seed)
        totals = {"battle_won_mean": zeros, "return_mean": zeros, "episode_length_mean": zeros}
        going = tf.ones([core.num_envs], tf.bool)
        return tf.while_loop(
            lambda t, state, time_step, going, totals: tf.reduce_any(going),
            step,
            (0, state, core.time_step(state), going, totals),
        )[-1]
