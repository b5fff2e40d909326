"""IQL, VDN and QMIX have these settings; the values that suit them are in `gin/`."""

from typing import Annotated

import pydantic

from tf_marl.agents.exploration import Exploration, Fraction
from tf_marl.config import STRICT, Count
from tf_marl.networks import Architecture


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class ValueConfig(Architecture, Exploration):
    """Holds the settings of the value-based learners: those of architecture and exploration, and these."""

    actor_gain: pydantic.PositiveFloat = 1.0  # of the Q-network's last layer
    mixer_units: Count = 32  # of QMIX's mixer
    hypernet_units: Count = 64  # of the networks that give QMIX's mixer its weights

    gamma: Fraction = 0.99  # per env step
    # The returns that values are fitted to: TD(lambda), or so many rewards and then a value. One of the two is None.
    lambda_: Fraction | None = 0.6  # trace decay per env step
    n_steps: Count | None = None
    double_q: bool = True  # whether the network that learns chooses the action that the target network rates

    replay_rows: Count = 200_000  # rows of the latest rollouts that are kept to learn from
    num_updates: Count = 16  # gradient steps per rollout
    batch_size: Count = 32  # sequences per gradient step; a rollout has one per environment
    learning_rate: pydantic.PositiveFloat = 5e-4  # of Adam
    adam_epsilon: pydantic.PositiveFloat = 1e-5
    max_grad_norm: pydantic.PositiveFloat | None = 10.0  # None does not clip
    # How far the target network moves towards the one that learns, and after how many gradient steps: 1 and 200 for a
    # copy now and then, 0.01 and 1 for a slow follower.
    target_rate: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    target_every: Count = 200  # gradient steps
    seed: pydantic.NonNegativeInt = 0  # of the weights and of the batches

    @pydantic.model_validator(mode="after")
    def _has_one_kind_of_return(self):
        if (self.lambda_ is None) == (self.n_steps is None):
            raise ValueError("set one of lambda_ and n_steps, and the other one to None")
        return self
