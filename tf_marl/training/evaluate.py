"""A fixed policy is evaluated on whole episodes."""

import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import time_step as ts

from tf_marl.compile import graph
from tf_marl.environments.world import CompiledWorld, LiveWorld, World


def win_interval(battle_won_mean: float, episodes: int) -> tuple[float, float]:
    """Computes the 95% confidence interval of a win rate (Wilson 1927).

    Args:
        battle_won_mean: share of the episodes that were won, in [0, 1].
        episodes: number of episodes.
    Returns:
        The lower and the upper end, in [0, 1].
    """
    from scipy import stats  # SciPy takes half a second to import, which training does without

    interval = stats.binomtest(round(battle_won_mean * episodes), episodes).proportion_ci(method="wilson")
    return interval.low, interval.high


class Evaluator:
    """Plays one episode in each environment of a world, all at once.

    Args:
        world: a world of its own, with as many environments as episodes are wanted.
        policy: plays; usually greedy.
    """

    def __init__(self, world: World, policy: tf_policy.TFPolicy):
        self._outcomes = world.outcomes
        self._policy = policy
        if isinstance(world, CompiledWorld):
            self._world: CompiledWorld | _Played = world
            self._play = graph.function(self._episodes, jit_compile=True)
        else:
            assert isinstance(world, LiveWorld)
            self._world = _Played(world, policy)
            self._play = self._episodes

    def __call__(self, seed: tf.Tensor) -> dict[str, float]:
        """Plays the episodes.

        Args:
            seed: [2] int32. In compiled worlds equal seeds and weights give equal episodes.
        Returns:
            Means over the episodes by name. They are `return_mean`, `episode_length_mean` (env steps) and, for each
            outcome of the world, the share of episodes with it, in [0, 1], such as `battle_won_mean`.
        """
        return {name: float(tf.reduce_mean(value)) for name, value in self._play(seed).items()}

    def _episodes(self, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Plays the episodes and returns each metric per episode, [B]."""
        world = self._world

        def step(t, state, time_step, policy_state, going, totals):
            state, time_step, action_step = world.play_step(self._policy, seed, t, state, time_step, policy_state)
            first = going & time_step.is_first()  # an episode begins, or the one before broke off
            counts = tf.cast(going & ~first, tf.float32)
            last, info = time_step.is_last(), world.info(state)
            now = {f"{name}_mean": tf.cast(last & info[name], tf.float32) for name in self._outcomes}
            now |= {"return_mean": time_step.reward, "episode_length_mean": 1.0}
            totals = {name: tf.where(first, 0.0, total) + counts * now[name] for name, total in totals.items()}
            return t + 1, state, time_step, action_step.state, going & ~time_step.is_last(), totals

        state = world.reset(seed)
        names = [*(f"{name}_mean" for name in self._outcomes), "return_mean", "episode_length_mean"]
        totals = dict.fromkeys(names, tf.zeros([world.num_envs]))
        going = tf.ones([world.num_envs], tf.bool)
        return tf.while_loop(
            lambda t, state, time_step, policy_state, going, totals: tf.reduce_any(going),
            step,
            (0, state, world.time_step(state), self._policy.get_initial_state(world.num_envs), going, totals),
        )[-1]


class _Played:
    """Adapts a live world to the interface of a compiled one; its state is the time step that it showed last.

    Only the policy is compiled, as a program by itself.
    """

    def __init__(self, world: LiveWorld, policy: tf_policy.TFPolicy):
        self._world = world
        self._act = graph.function(policy.action, jit_compile=True)
        self.num_envs = world.num_envs

    def reset(self, seed: tf.Tensor) -> ts.TimeStep:
        del seed  # a live world has randomness of its own
        return self._tensors(self._world.reset())

    def play_step(self, policy, seed, t, state, time_step, policy_state):
        """Plays step `t`: the policy draws as in `CompiledWorld.play_step`, the live world from its own randomness."""
        del policy
        policy_seed, _ = tf.unstack(
            tf.random.experimental.stateless_split(tf.random.experimental.stateless_fold_in(seed, t), 2)
        )
        action_step = self._act(time_step, policy_state, seed=policy_seed)
        state = self._tensors(self._world.step(action_step.action.numpy()))
        return state, state, action_step

    def time_step(self, state: ts.TimeStep) -> ts.TimeStep:
        return state

    def info(self, state: ts.TimeStep) -> dict[str, tf.Tensor]:
        return {name: tf.constant(fact) for name, fact in self._world.info().items()}

    @staticmethod
    def _tensors(shown: ts.TimeStep) -> ts.TimeStep:
        # Copied, because TensorFlow may share the memory of an array that the world writes to again.
        return tf.nest.map_structure(lambda leaf: tf.constant(leaf.copy()), shown)
