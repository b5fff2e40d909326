"""IQL, VDN and QMIX learn action values; they differ in how a joint value is made of the agents' own.

    IQL     each agent's value by itself                 fitted to each agent's own greedy value
    VDN     the sum                                      fitted to the team's
    QMIX    a monotone mixture that depends on the state fitted to the team's

All settings are in one gin scope, `value`, whichever algorithm `train.agent` names.
"""

from collections.abc import Callable, Sequence
from typing import Any

import gin
import numpy as np
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl.agents.value.agent import ValueAgent
from tf_marl.agents.value.config import ValueConfig
from tf_marl.agents.value.networks import TeamValue
from tf_marl.config import naming
from tf_marl.networks import QNetwork, mixers

_GIVEN_IN_CODE = ["time_step_spec", "action_spec", "seed", "unit_types"]
_Mixing = Callable[[ValueConfig, int], mixers.Mixer]


@gin.configurable(denylist=_GIVEN_IN_CODE)
def iql(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    **options: Any,
) -> ValueAgent:
    """Makes an agent of independent Q-learning (Tan 1993), with networks as in QMIX's.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: ignored, because all agents share their weights.
        **options: fields of `ValueConfig`; they override what gin sets for `value`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    del unit_types
    return value(lambda *_: mixers.Separate(action_spec.shape[0]), time_step_spec, action_spec, **options)


@gin.configurable(denylist=_GIVEN_IN_CODE)
def vdn(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    **options: Any,
) -> ValueAgent:
    """Makes an agent of value decomposition networks (Sunehag et al. 2018).

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: ignored, because all agents share their weights.
        **options: fields of `ValueConfig`; they override what gin sets for `value`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    del unit_types
    return value(lambda *_: mixers.Sum(action_spec.shape[0]), time_step_spec, action_spec, **options)


@gin.configurable(denylist=_GIVEN_IN_CODE)
def qmix(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    **options: Any,
) -> ValueAgent:
    """Makes an agent of QMIX (Rashid et al. 2018).

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: ignored, because all agents share their weights.
        **options: fields of `ValueConfig`; they override what gin sets for `value`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    del unit_types

    def monotonic(config: ValueConfig, seed: int) -> mixers.Mixer:
        return mixers.Monotonic(time_step_spec.observation, config.mixer_units, config.hypernet_units, config, seed)

    return value(monotonic, time_step_spec, action_spec, **options)


@gin.configurable(denylist=["mixing", *_GIVEN_IN_CODE])
def value(
    mixing: _Mixing, time_step_spec: ts.TimeStep, action_spec: types.NestedTensorSpec, **options: Any
) -> ValueAgent:
    """Makes the agent of any variant.

    Args:
        mixing: (config, seed) -> the mixer.
        time_step_spec: of one environment.
        action_spec: int32 [N].
        **options: fields of `ValueConfig`; they override what gin sets for `value`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    with naming("value"):
        config = ValueConfig(**options)
    observation_spec = time_step_spec.observation
    everyone = [0] * action_spec.shape[0]  # one group: all share weights
    q_seed, mixer_seed = (int(seed) for seed in np.random.SeedSequence(config.seed).generate_state(2))

    def networks() -> TeamValue:
        q_network = QNetwork(observation_spec, everyone, config, q_seed, config.observes_last_action, name="QNetwork")
        return TeamValue(q_network, mixing(config, mixer_seed))

    return ValueAgent(time_step_spec, action_spec, networks(), networks(), config)
