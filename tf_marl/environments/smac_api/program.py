"""A battle is one compiled function here, and what the API tells about it comes out of the same call."""

import functools
import math
import os
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from tf_marl.compile import graph
from tf_marl.environments.combat import scenarios
from tf_marl.environments.combat.environment import Combat, State
from tf_marl.environments.combat.options import Options

Battle = str | tuple[Any, ...]


class Facts(NamedTuple):
    """Holds all that the API tells about a battle: float32 arrays, with U = N + M units."""

    obs: Any  # [N, O]
    state: Any  # [S]
    avail_actions: Any  # [N, A], 0 or 1
    units: Any  # [7, U]: x, y, health, shield, energy, cooldown, kind (where types are drawn), in the map's order
    order: Any  # [M]: which of the map's enemies each enemy slot shows
    look: Any  # [N]: the direction in which each agent looks, with `conic_fov`
    outcome: Any  # [6]: reward, discount, step type, is the battle won, unscaled reward for damage, largest return


class Program:
    """Compiles a battle as one function, which all environments with the same map and options share.

    A call into TensorFlow costs as much time as a step of a small battle, and more with every tensor that goes in or
    comes out. So everything travels in two vectors: the battle, which only TensorFlow reads, and the facts. On 3m, a
    battle of 25 tensors is eight times as slow. Without XLA it is eighteen times as slow.

    Args:
        battle: the name of a map, or the arguments of `scenarios.drawn` without the profile.
        options: SMAC's, SMACv2's and our options.
    """

    def __init__(self, battle: Battle, options: Options):
        # The API always needs the state's own rows; `obs_instead_of_state` replaces them in `get_state`.
        self._arguments = battle, options
        if isinstance(battle, str):
            scenario = scenarios.scenario(battle, options.profile)
        else:
            scenario = scenarios.drawn(*battle, profile=options.profile)
        self.world = Combat(scenario, 1, replace(options, obs_instead_of_state=False))
        task = self.world.task
        n, m = scenario.num_agents, scenario.num_enemies
        shapes = Facts(
            obs=(n, task.obs_size),
            state=(task.state_size,),
            avail_actions=(n, task.num_actions),
            units=(7, n + m),
            order=(m,),
            look=(n,),
            outcome=(6,),
        )
        ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
        self._cuts = [(slice(*cut), shape) for *cut, shape in zip([0, *ends], ends, shapes, strict=False)]

    def __reduce__(self) -> tuple[Any, ...]:
        return program_of, self._arguments  # a copy is the same program; another process makes its own

    @functools.cached_property
    def _likeness(self) -> State:
        """Returns a state whose leaves have the right shapes and types but no values."""
        return graph.function(self.world.reset).get_concrete_function(tf.TensorSpec([2], tf.int32)).structured_outputs

    @functools.cached_property
    def _over(self) -> tf.Tensor:
        """Returns a battle [K] that is over and otherwise blank. Its next step starts a battle."""
        blank = tf.nest.map_structure(lambda leaf: tf.zeros(leaf.shape, leaf.dtype), self._likeness)
        return _join(blank._replace(step_type=tf.constant([ts.StepType.LAST])))

    @functools.cached_property
    def _advance(self) -> Any:
        """Returns the compiled step: a function of the battle [K] and the message int32 [3 + N] of `play`.

        It returns the next battle [K] and the facts, joined in one vector.
        """
        leaves = tf.nest.flatten(self._likeness)
        sizes = [math.prod(leaf.shape) for leaf in leaves]

        def advance(battle: tf.Tensor, message: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            parts = [
                tf.cast(tf.reshape(part, leaf.shape), leaf.dtype)
                for part, leaf in zip(tf.split(battle, sizes), leaves, strict=True)
            ]
            # `CompiledEnvironment` draws its seeds in the same way.
            seed = tf.random.experimental.stateless_fold_in(tf.stack([message[0], 0]), message[1])
            before = tf.nest.pack_sequence_as(self._likeness, parts)
            restarts = message[2] > 0
            before = before._replace(step_type=tf.where(restarts, ts.StepType.LAST, before.step_type))
            state = self.world.step(before, message[None, 3:], seed)
            return _join(state), _join(self._facts(before, state))

        battle, message = tf.TensorSpec([sum(sizes)]), tf.TensorSpec([3 + self.world.scenario.num_agents], tf.int32)
        # A concrete function looks for no trace, which makes 1.5 times as many calls per second on 3m.
        return graph.function(advance, jit_compile=True).get_concrete_function(battle, message)

    def play(self, battle: Any, message: list[int]) -> tuple[tf.Tensor, Facts]:
        """Plays one env step, or starts the next battle.

        Args:
            battle: [K], all K numbers of the battle's state, as an earlier call returned them. None starts the first
                battle.
            message: 3 + N integers: the root and the count of the seed, whether the next battle starts, and the
                agents' actions.
        Returns:
            The battle after the step, [K], and the facts about it.
        Raises:
            RuntimeError: this process was forked after TensorFlow had started.
        """
        if _lost_runtime:
            raise RuntimeError(
                "this process was forked after TensorFlow had started, and lacks its threads; fork workers before the"
                " first reset() in their parent, or start them by multiprocessing's 'spawn'"
            )
        with tf.device("CPU:0"):  # one battle is far too little for a GPU
            battle, told = self._advance(
                self._over if battle is None else battle, tf.constant(np.array(message, np.int32))
            )
        vector = told.numpy()
        return battle, Facts(*(vector[cut].reshape(shape) for cut, shape in self._cuts))

    def _facts(self, before: State, state: State) -> Facts:
        """Returns the facts about a step, from the state before it and after it."""
        time_step, units = self.world.time_step(state), state.units
        damage = self.world.task.battle_reward(before.units, units)  # it is the same for all types
        world, blank = self.world, np.zeros(len(self.world.scenario.units))
        is_drawn = world.scenario.lottery is not None
        return Facts(
            obs=time_step.observation["obs"],
            state=time_step.observation["state"],
            avail_actions=time_step.observation["avail_actions"],
            units=[
                *(units.x, units.y, units.health, units.shield, units.energy, units.cooldown),
                state.kinds if is_drawn else blank,
            ],
            order=state.order if world.options.shuffle_enemies else np.arange(world.scenario.num_enemies),
            look=state.look if world.options.conic_fov else blank[: world.scenario.num_agents],
            outcome=[
                *(state.reward, state.discount, state.step_type, state.battle_won, damage),
                state.max_reward if is_drawn else [world.task.max_reward],
            ],
        )


def _join(nest: Any) -> tf.Tensor:
    """Joins all tensors of a nest in one float32 vector. Whole numbers below 2^24 keep their values."""
    return tf.concat([tf.reshape(tf.cast(leaf, tf.float32), [-1]) for leaf in tf.nest.flatten(nest)], axis=0)


@functools.cache
def program_of(battle: Battle, options: Options) -> Program:
    """Returns the program of a battle with these options; equal arguments give the same one.

    Args:
        battle: the name of a map, or the arguments of `scenarios.drawn` without the profile.
        options: SMAC's, SMACv2's and our options.
    """
    return Program(battle, options)


# Whether this process was forked from one whose TensorFlow had started, so that its threads are missing here.
_lost_runtime = False


def _runtime_has_started() -> bool:
    """Returns whether TensorFlow has computed anything in this process."""
    threading = tf.config.threading
    threads = threading.get_inter_op_parallelism_threads()
    try:
        threading.set_inter_op_parallelism_threads(threads + 1)
    except RuntimeError:  # it can only be set before TensorFlow computes anything
        return True
    threading.set_inter_op_parallelism_threads(threads)
    return False


def _after_fork() -> None:
    global _lost_runtime
    _lost_runtime = _lost_runtime or _runtime_has_started()


os.register_at_fork(after_in_child=_after_fork)
