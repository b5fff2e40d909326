"""PPO has these settings; the values that suit an algorithm or a map are in `gin/`."""

from typing import Annotated, Literal

import pydantic

from tf_marl.agents.ppo.clip_range import ClipRange
from tf_marl.agents.ppo.restraints import AdaptEpsilon, Restraints
from tf_marl.config import STRICT, Count
from tf_marl.networks import Architecture

Fraction = Annotated[float, pydantic.Field(ge=0, le=1)]
Schedule = Literal["constant", "linear"]  # linear: to 0 at the end of training


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class PPOConfig(Architecture):
    """Holds the settings of PPO: those of the networks' architecture, and these."""

    # Who shares weights: all agents, those of one unit type, or nobody.
    parameter_sharing: Literal["all", "unit_type", "none"] = "all"
    # Whether actor and critic share one torso; then one optimiser, with the actor's learning rate, minimises one loss.
    share_torso: bool = False
    critic_input: Literal["obs", "state", "state+obs"] | None = None  # None: the algorithm's default

    gamma: Fraction = 0.99  # per env step
    lambda_: Fraction = 0.95  # per env step
    # Epsilon of the ratio's clip range, a number or a rule of clip_range.py; None does not clip.
    clip_range: Annotated[ClipRange, pydantic.Field(validate_default=True)] = 0.2
    enforce: Restraints = ()  # what restrains the total variation of updates, in this order: see restraints.py
    entropy_coefficient: pydantic.NonNegativeFloat = 0.01  # nats
    entropy_schedule: Schedule = "constant"
    value_loss: Literal["squared", "huber"] = "squared"
    huber_delta: pydantic.PositiveFloat = 10.0  # in the units of the values, normalised if they are
    value_clip: pydantic.PositiveFloat | None = None  # how far a value may move from the old one, in the same units
    value_coefficient: pydantic.PositiveFloat = 0.5  # of the value loss within the loss of a shared torso
    normalize_values: bool = False  # PopArt
    value_statistics_decay: Fraction = 0.99  # per update
    death_masking: bool = True  # whether dead agents, who have one available action, are left out of all losses

    # Whether actor and critic learn in the same epochs, or the critic learns first and its new values give the
    # advantages that the actor then learns from.
    order: Literal["together", "critic_first"] = "together"
    num_epochs: Count = 4  # passes over a rollout
    num_critic_epochs: Count | None = None  # num_epochs by default; another number needs order "critic_first"
    num_minibatches: Count = 4  # gradient steps per pass
    sequence_length: Count | None = None  # env steps a recurrent network is unrolled over; a whole rollout by default

    optimizer: Literal["adam", "adamw"] = "adam"
    actor_learning_rate: pydantic.PositiveFloat = 5e-4
    critic_learning_rate: pydantic.PositiveFloat = 1e-3
    learning_rate_schedule: Schedule = "constant"
    adam_epsilon: pydantic.PositiveFloat = 1e-5
    weight_decay: pydantic.NonNegativeFloat = 0.01  # of AdamW
    max_grad_norm: pydantic.PositiveFloat | None = 0.5  # of each network by itself; None does not clip
    seed: pydantic.NonNegativeInt = 0  # of the weights and of the minibatches
    # Whether XLA compiles the passes over a rollout, into one program per core; otherwise TensorFlow runs them one
    # operation after another, each on all cores. On a CPU, XLA takes about 0.7 of the time for a GRU's many small
    # operations, and 1.4 times as long for dense layers alone. None compiles them if there is a GRU.
    jit_compile: bool | None = None

    @pydantic.model_validator(mode="after")
    def _fits_together(self):
        if self.order == "together" and self.num_critic_epochs not in (None, self.num_epochs):
            raise ValueError('num_critic_epochs needs order = "critic_first"')
        if self.share_torso and self.order == "critic_first":
            raise ValueError('share_torso needs order = "together"')
        if self.share_torso and self.critic_input not in (None, "obs"):
            raise ValueError('share_torso needs critic_input = "obs", which is what the actor sees')
        if self.sequence_length and self.rnn == "none":
            raise ValueError('sequence_length needs rnn = "gru"')
        if self.clip_range is None and any(isinstance(held, AdaptEpsilon) for held in self.enforce):
            raise ValueError("adapt_epsilon needs a clip_range to adapt")
        return self
