"""What actor and critic are made of."""

from typing import Annotated, Literal

import pydantic

from tf_marl.config import STRICT, Count

_Units = Annotated[Count, pydantic.Field(le=2**15)]  # a square layer of so many takes 4 gigabytes
Sizes = Annotated[tuple[_Units, ...], pydantic.Field(strict=False)]  # gin writes lists and tuples alike


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Architecture:
    """What actor and critic are made of."""

    hidden: Annotated[Sizes, pydantic.Field(min_length=1)] = (128, 128)  # units of the torso's dense layers
    rnn: Literal["none", "gru"] = "none"  # after them
    rnn_units: _Units = 128
    head_hidden: Sizes = ()  # units of the dense layers after that, of actor and critic each
    activation: Literal["relu", "tanh"] = "relu"
    # Of the kernels; fan_in is PyTorch's, uniform within 1 / sqrt(inputs), and draws agent ids as well.
    initializer: Literal["orthogonal", "fan_in"] = "orthogonal"
    hidden_gain: pydantic.PositiveFloat = 2**0.5  # of orthogonal initial weights
    actor_gain: pydantic.PositiveFloat = 0.01  # of the last layer; small: the policy starts close to uniform
    critic_gain: pydantic.PositiveFloat = 1.0
    normalize_observations: bool = False  # by their running mean and variance
