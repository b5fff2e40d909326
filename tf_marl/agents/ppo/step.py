"""An update of the weights consists of steps: parts that can be exchanged.

    clipped epochs      gradient steps on minibatches, several passes         PPO; `epochs.py`
    natural gradient    one step, as long as a limit allows                   TRPO; `natural_gradient.py`
    turns               one agent after another, each by one of the above     HAPPO, A2PO, HATRPO; `turns.py`

A maker builds the step that moves an actor. It is handed the learning agent, the actor and its losses, so the same step
serves a whole team and a single member of it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import tensorflow as tf

from tf_marl import networks
from tf_marl.agents.learner import Metrics
from tf_marl.agents.ppo.batch import Batch
from tf_marl.agents.ppo.hooks import Actor, Change, Hook
from tf_marl.agents.ppo.losses import Losses
from tf_marl.agents.ppo.optimizers import Part


class Surroundings(NamedTuple):
    """Holds what a step may ask and tell during an update."""

    agent: Actor  # the learning agent, which the hooks may read and change
    change: Change  # from the policy that collected the rollout to the present one
    hooks: Sequence[Hook] = ()  # called after every round of the step
    # From weights of the trace after each row, [S, L], to the normalised advantages that they give, [S, L, K].
    advantages: Callable[[tf.Tensor], tf.Tensor] | None = None
    prepare: Callable[[Batch], Batch] = lambda batch: batch  # called on what a gradient is taken of, just before

    def after_round(self, rounds: tf.Tensor, memories: tuple[Any, ...]) -> tuple[tuple[Any, ...], "tf.Tensor | bool"]:
        """Calls the hooks after a round.

        Args:
            rounds: scalar int32, rounds done so far.
            memories: what the hooks remember, one nest of tensors per hook.
        Returns:
            The hooks' new memories, and whether this round is the last one, a scalar bool.
        """
        told = [
            hook.after_epoch(self.agent, self.change, rounds, memory)
            for hook, memory in zip(self.hooks, memories, strict=True)
        ]
        stops = [stop for _, stop in told]
        return tuple(memory for memory, _ in told), tf.reduce_any(stops) if stops else False


class Step(Protocol):
    """Describes one part of an update, which moves weights by learning from a batch.

    `names` are those of the metrics that it returns. Hooks are called after each of its rounds, at most `num_rounds`,
    and may end them early.
    """

    moves_actor: bool
    moves_critic: bool
    names: tuple[str, ...]
    num_rounds: int
    num_minibatches: int  # how many minibatches it cuts the batch into, for the memory that it needs

    @property
    def optimizer_variables(self) -> list[tf.Variable]:
        """Returns what the step remembers from one update to the next: step counts and moments of its optimisers."""

    def __call__(
        self, batch: Batch, seed: tf.Tensor, around: Surroundings, memories: tuple[Any, ...]
    ) -> tuple[Metrics, tf.Tensor, tuple[Any, ...]]:
        """Learns from a batch.

        Args:
            batch: the rollout with advantages, in sequences [S, L, ...].
            seed: [2] int32.
            around: the agent, its hooks, and what else the step may ask.
            memories: what the hooks remember, one nest of tensors per hook.
        Returns:
            Scalars to record, the number of rounds (scalar int32), and the hooks' new memories.
        """

    def flops(self) -> int:
        """Returns the floating-point operations of the step's matrix products, per row if all its decisions count."""


class Learning(Protocol):
    """Describes what the maker of a step can ask of the agent that learns."""

    config: Any
    jit_compile: bool

    def actor_part(self, actor: networks.Actor) -> Part:
        """Returns an actor's weights with an optimiser that maximises the surrogate and the entropy bonus."""

    def epsilon(self, alive: tf.Tensor) -> tf.Tensor | None:
        """Returns the half-width of the clip range for `alive` [..., N]: scalar, [..., 1], or None for no clipping."""


Maker: TypeAlias = Callable[[Learning, networks.Actor, Losses], Step]
