"""Actor and critic are built from one set of settings."""

from typing import Annotated, Literal

import pydantic

from tf_marl.config import STRICT, Count

_Units = Annotated[Count, pydantic.Field(le=2**15)]  # a square layer of this size takes 4 gigabytes
Sizes = Annotated[tuple[_Units, ...], pydantic.Field(strict=False)]  # gin writes lists and tuples alike


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Architecture:
    """Holds the sizes, initial weights and normalisation that actor and critic have in common."""

    hidden: Annotated[Sizes, pydantic.Field(min_length=1)] = (128, 128)  # units of the torso's dense layers
    rnn: Literal["none", "gru"] = "none"  # the recurrent layer after the dense ones
    rnn_units: _Units = 128
    head_hidden: Sizes = ()  # units of the dense layers of each head, actor's and critic's, before its last layer
    activation: Literal["relu", "tanh"] = "relu"
    # Initial kernels. fan_in is PyTorch's default, uniform within 1 / sqrt(inputs); with it, agent ids are drawn too
    # instead of starting at zero.
    initializer: Literal["orthogonal", "fan_in"] = "orthogonal"
    hidden_gain: pydantic.PositiveFloat = 2**0.5  # of orthogonal initial weights
    actor_gain: pydantic.PositiveFloat = 0.01  # of the actor's last layer; small, so the policy starts near uniform
    critic_gain: pydantic.PositiveFloat = 1.0  # of the critic's last layer
    normalize_observations: bool = False  # by their running mean and variance
