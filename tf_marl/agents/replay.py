"""Off-policy learners learn from earlier rollouts too; these are kept in a ring of tensors.

A rollout of B environments is B sequences of T rows, which may hold boundaries between episodes. Each sequence also has
the observation after its last row, to bootstrap from, and the recurrent states before its first. The ring compiles with
the learner, under XLA too, and drawing sequences is one gather per tensor. TF-Agents' `TFUniformReplayBuffer` keeps
single rows under a lock that XLA cannot compile, and would need a recurrent state for every row.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.learner import Rollout


class Sequences(NamedTuple):
    """Holds S sequences of T rows, and the observation after the last row."""

    reward: tf.Tensor  # [S, T]
    discount: tf.Tensor  # [S, T]
    action: tf.Tensor  # [S, T, N] int32
    step_type: tf.Tensor  # [S, T + 1] int32
    observation: types.NestedTensor  # [S, T + 1, ...]
    state: types.NestedTensor  # [S, N, H], recurrent states before the first row; () without a GRU

    @property
    def boundary(self) -> tf.Tensor:
        """Returns which rows hold the last observation of an episode, [S, T] bool; nothing is learned there."""
        return self.step_type[:, :-1] == ts.StepType.LAST

    @property
    def before(self) -> types.NestedTensor:
        """Returns the observations of the T rows, [S, T, ...] each."""
        return tf.nest.map_structure(lambda leaf: leaf[:, :-1], self.observation)


class Draw(NamedTuple):
    """Tells which sequences were drawn from a replay."""

    rows: tf.Tensor  # [S] int32, their places in it
    weight: tf.Tensor  # [S], importance weights of their errors; all 1 where they were drawn uniformly


class Priorities(NamedTuple):
    """Says how often sequences are drawn, and how the bias that this brings is taken out of their errors.

        P(i) = p_i^a / sum_j p_j^a                              Schaul et al. 2016, eq. 1
        w_i = (n P(i))^-b                                       section 3.4, for n sequences

    Losses are means with these weights, where the paper divides the weights by the largest one. A running sum over all
    priorities finds the sequences. Of a few thousand that takes less time than a gradient step, so there is no tree.
    """

    variable: tf.Variable  # p, [R * B] or longer; 0 where there is no sequence yet
    exponent: float  # a, positive
    importance_exponent: float  # b; 1 takes out all of the bias

    def add(self, rows: tf.Tensor) -> None:
        """Gives new sequences the largest priority so far, so that all are soon drawn.

        Args:
            rows: [B] int32, their places.
        """
        largest = tf.reduce_max(self.variable)
        largest = tf.where(largest > 0.0, largest, 1.0)
        self.set(rows, tf.fill(tf.shape(rows), largest))

    def set(self, rows: tf.Tensor, priority: tf.Tensor) -> None:
        """Sets priorities.

        Args:
            rows: [S] int32, places of sequences.
            priority: [S], positive.
        """
        self.variable.scatter_update(tf.IndexedSlices(priority, rows))

    def draw(self, size: int, filled: tf.Tensor, seed: tf.Tensor) -> Draw:
        """Draws sequences with replacement.

        Args:
            size: S, how many.
            filled: scalar int32, n, how many there are; they have the first places.
            seed: [2] int32.
        """
        share = self.variable**self.exponent
        total = tf.cumsum(share)
        rows = tf.searchsorted(total, tf.random.stateless_uniform([size], seed) * total[-1], side="right")
        rows = tf.minimum(rows, filled - 1)
        probability = tf.gather(share, rows) / total[-1]
        return Draw(rows, (tf.cast(filled, tf.float32) * probability) ** -self.importance_exponent)


def sequences(rollout: Rollout) -> Sequences:
    """Returns a rollout as sequences, one per environment.

    Args:
        rollout: experience [B, T, ...]; its `policy_info` holds `policy_state`, the recurrent states before each row.
    """
    experience, final = rollout

    def with_final(leaf: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        return tf.concat([leaf, last[:, None]], axis=1)

    return Sequences(
        reward=experience.reward,
        discount=experience.discount,
        action=experience.action,
        step_type=with_final(experience.step_type, final.step_type),
        observation=tf.nest.map_structure(with_final, experience.observation, final.observation),
        state=tf.nest.map_structure(lambda leaf: leaf[:, 0], experience.policy_info["policy_state"]),
    )


class Replay:
    """Keeps the sequences of the latest rollouts and draws some of them, uniformly or by priority.

    The tensors are made when the first rollout comes, because they depend on its size. They are no part of what
    TensorFlow saves in a checkpoint: `write` and `read` keep them in one file per rollout, so a checkpoint writes
    only the rollouts that came since the one before. The place that the next rollout takes is never read before it
    comes, so setting `added` back takes back the latest rollout.

    Args:
        num_rows: rows to keep, those of a whole number of rollouts.
        added: scalar int64 variable, how many rollouts have come so far; the owner keeps it in its checkpoints.
        setting: the name of `num_rows` for users.
        priorities: by which sequences are drawn; the owner keeps their variable in its checkpoints. None draws
            uniformly.
    """

    def __init__(self, num_rows: int, added: tf.Variable, setting: str, priorities: Priorities | None = None):
        self._num_rows, self._added, self._setting = num_rows, added, setting
        self._priorities = priorities
        self._structure: Sequences | None = None
        self._ring: list[tf.Variable] = []  # [R * B, ...] each, R rollouts of B sequences
        self._num_envs = self._num_rollouts = 0  # B and R

    def num_rollouts(self, num_envs: int, num_steps: int) -> int:
        """Returns R, how many rollouts of B environments and T steps are kept.

        Args:
            num_envs: B.
            num_steps: T.
        Raises:
            ValueError: not even one fits.
        """
        rows = num_envs * num_steps
        if rows > self._num_rows:
            raise ValueError(
                f"{self._setting} = {self._num_rows:,} is less than the {rows:,} rows of one rollout of {num_envs:,}"
                f" environments and {num_steps:,} env steps; raise it"
            )
        return self._num_rows // rows

    def add(self, new: Sequences) -> None:
        """Adds a rollout's sequences, in the place of the oldest if the ring is full.

        Args:
            new: [B, T, ...].
        Raises:
            ValueError: the ring holds sequences of another size, or a rollout is larger than the ring.
        """
        leaves = tf.nest.flatten(new)
        self._structure = tf.nest.map_structure(lambda leaf: leaf.dtype, new)
        self._make([tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in leaves])
        if self._ring[0].shape[1] != new.reward.shape[1]:
            raise ValueError(
                f"train.rollout_steps = {new.reward.shape[1]}: the replay of this run holds sequences of"
                f" {self._ring[0].shape[1]} env steps; set it back"
            )
        self._put(leaves, self._added)
        if self._priorities is not None:
            self._priorities.add(self._rows(self._added))
        self._added.assign_add(1)

    def sample(self, size: int, seed: tf.Tensor) -> tuple[Sequences, Draw]:
        """Draws sequences with replacement; a rollout has been added before.

        Args:
            size: S, how many to draw.
            seed: [2] int32.
        Returns:
            The sequences, [S, T, ...], and where they are.
        """
        filled = tf.cast(tf.minimum(self._added, self._num_rollouts) * self._num_envs, tf.int32)
        if self._priorities is None:
            draw = Draw(tf.random.stateless_uniform([size], seed, 0, filled, tf.int32), tf.ones([size]))
        else:
            draw = self._priorities.draw(size, filled, seed)
        return tf.nest.pack_sequence_as(self._structure, [tf.gather(kept, draw.rows) for kept in self._ring]), draw

    def set_priorities(self, rows: tf.Tensor, priority: tf.Tensor) -> None:
        """Says how much there is left to learn from sequences; it does nothing where they are drawn uniformly.

        Args:
            rows: [S] int32, their places.
            priority: [S], positive.
        """
        if self._priorities is not None:
            self._priorities.set(rows, priority)

    def write(self, folder: pathlib.Path, earlier: pathlib.Path | None) -> list[str]:
        """Writes the rollouts to a folder, one file each; those that another folder has are linked instead.

        Args:
            folder: to write to; it exists.
            earlier: a folder that the same run has written to or read from before; None if there is none.
        Returns:
            The files' names.
        Raises:
            OSError: a file cannot be written.
        """
        names = []
        for number in self._numbers():
            names.append(_name(number))
            if not (earlier and _linked(earlier / names[-1], folder / names[-1])):
                rows = self._rows(tf.constant(number, tf.int64))
                np.savez(folder / names[-1], *(tf.gather(kept, rows).numpy() for kept in self._ring))
        return names

    def read(self, folder: pathlib.Path) -> None:
        """Reads the rollouts that belong to the present value of `added`.

        Args:
            folder: that `write` has written to.
        Raises:
            ValueError: the folder lacks rollouts, because the ring was smaller when it was written.
        """
        added = int(self._added)
        if added:
            newest = _read(folder / _name(added - 1))
            self._make([tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in newest])
        for number in self._numbers():
            path = folder / _name(number)
            if not path.exists():
                raise ValueError(f"{self._setting} = {self._num_rows:,} is more than {folder} holds; set it back")
            self._put(_read(path), tf.constant(number, tf.int64))

    def _make(self, specs: list[tf.TensorSpec]) -> None:
        """Makes the tensors for rollouts like one whose leaves, [B, ...] each, have these specs."""
        if self._ring:
            return
        num_envs, num_steps = specs[0].shape  # the reward's
        self._num_envs, self._num_rollouts = num_envs, self.num_rollouts(num_envs, num_steps)
        with tf.init_scope():  # outside of any graph that is being traced
            self._ring = [
                tf.Variable(tf.zeros([self._num_rollouts * num_envs, *spec.shape[1:]], spec.dtype), trainable=False)
                for spec in specs
            ]

    def _put(self, leaves: Sequence[Any], number: tf.Tensor) -> None:
        rows = self._rows(number)
        for kept, leaf in zip(self._ring, leaves, strict=True):
            kept.scatter_update(tf.IndexedSlices(leaf, rows))

    def _rows(self, number: tf.Tensor) -> tf.Tensor:
        """Returns where the sequences of the rollout of that number are, [B] int32."""
        return tf.cast(number % self._num_rollouts, tf.int32) * self._num_envs + tf.range(self._num_envs)

    def _numbers(self) -> range:
        """Returns the numbers of the rollouts that are kept now, oldest first."""
        added = int(self._added)
        return range(max(0, added - self._num_rollouts), added)


def _name(number: int) -> str:
    return f"rollout_{number:012}.npz"


def _read(path: pathlib.Path) -> list[np.ndarray]:
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


def _linked(source: pathlib.Path, path: pathlib.Path) -> bool:
    """Links a file to a second place and returns whether that worked; not all disks can."""
    try:
        os.link(source, path)
    except OSError:
        return False
    return True
