"""IQL, VDN and QMIX have these settings; the values that suit them are in `gin/`."""

import pydantic

from tf_marl.agents.exploration import Fraction
from tf_marl.agents.off_policy import OffPolicyConfig
from tf_marl.config import STRICT, Count


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class ValueConfig(OffPolicyConfig):
    """Holds the settings of the value-based learners: those of all off-policy learners, and these."""

    actor_gain: pydantic.PositiveFloat = 1.0  # of the Q-network's last layer
    observes_last_action: bool = False  # whether an agent's own last action is an input of its Q-network
    mixer_units: Count = 32  # of QMIX's mixer
    hypernet_units: Count = 64  # of the networks that give QMIX's mixer its weights
    learning_rate: pydantic.PositiveFloat = 5e-4  # of Adam
    # The returns that values are fitted to: TD(lambda), or so many rewards and then a value. One of the two is None.
    lambda_: Fraction | None = 0.6  # trace decay per env step
    n_steps: Count | None = None
    double_q: bool = True  # whether the network that learns chooses the action that the target network rates

    @pydantic.model_validator(mode="after")
    def _has_one_kind_of_return(self):
        if (self.lambda_ is None) == (self.n_steps is None):
            raise ValueError("set one of lambda_ and n_steps, and the other one to None")
        return self
