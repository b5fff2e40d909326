"""IPPO, MAPPO and JR-PPO differ in two choices: what the critic sees, and how the ratio is formed.

    variant   critic sees                      ratio that is clipped                      advantage
    IPPO      what its agent sees              each agent's                               each agent's
    MAPPO     the battle's state               each agent's                               each agent's
    JR-PPO    the battle's state               the joint one, product over the living     the team's

All other settings are in one gin scope, `ppo`, whichever algorithm `train.agent` names. "The paper" below is "Monotonic
Improvement Guarantees under Non-stationarity for Decentralized PPO".
"""

from collections.abc import Sequence
from typing import Any

import gin
import numpy as np
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl import diagnostics
from tf_marl.agents.ppo.agent import PPOAgent
from tf_marl.agents.ppo.config import PPOConfig
from tf_marl.config import naming
from tf_marl.networks import Actor, ActorCritic, Critic
from tf_marl.ops import surrogate

_GIVEN_IN_CODE = ["time_step_spec", "action_spec", "seed", "unit_types"]
_OF_THE_STATE = ("state", "state+obs")


@gin.configurable(denylist=_GIVEN_IN_CODE)
def ippo(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    **options: Any,
) -> PPOAgent:
    """Makes an agent of independent PPO (de Witt et al. 2020).

    The critic sees what its agent sees. The ratio of each agent is clipped by itself.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: [N] names of the agents' unit types; needed for `parameter_sharing = "unit_type"`. None where each
            battle draws its own.
        **options: fields of `PPOConfig`; they override what gin sets for `ppo`. `critic_input` can only be "obs".
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    return ppo("ippo", time_step_spec, action_spec, unit_types, ("obs",), False, **options)


@gin.configurable(denylist=_GIVEN_IN_CODE)
def mappo(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    **options: Any,
) -> PPOAgent:
    """Makes an agent of multi-agent PPO (Yu et al. 2022).

    The critic sees the battle's state. The ratio of each agent is clipped by itself.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: [N] names of the agents' unit types; needed for `parameter_sharing = "unit_type"`. None where each
            battle draws its own.
        **options: fields of `PPOConfig`; they override what gin sets for `ppo`. `critic_input` is "state" by default,
            or "state+obs".
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    return ppo("mappo", time_step_spec, action_spec, unit_types, _OF_THE_STATE, False, **options)


@gin.configurable(denylist=_GIVEN_IN_CODE)
def jr_ppo(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    **options: Any,
) -> PPOAgent:
    """Makes an agent of joint-ratio PPO (Algorithm 1 of the paper).

    The critic sees the battle's state. The team has one value and one advantage, and the joint ratio is clipped.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: [N] names of the agents' unit types; needed for `parameter_sharing = "unit_type"`. None where each
            battle draws its own.
        **options: fields of `PPOConfig`; they override what gin sets for `ppo`. `critic_input` is "state" by default,
            or "state+obs".
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    return ppo("jr_ppo", time_step_spec, action_spec, unit_types, _OF_THE_STATE, True, **options)


@gin.configurable(denylist=["algorithm", *_GIVEN_IN_CODE, "critic_inputs", "joint"])
def ppo(
    algorithm: str,
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None,
    critic_inputs: Sequence[str],
    joint: bool,
    **options: Any,
) -> PPOAgent:
    """Makes the agent of any variant.

    Args:
        algorithm: the variant's name, for error messages.
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: [N] names of the agents' unit types; needed for `parameter_sharing = "unit_type"`. None where each
            battle draws its own.
        critic_inputs: values of `critic_input` that the variant allows; the first is its default.
        joint: whether the ratio, the value and the advantage are the team's.
        **options: fields of `PPOConfig`; they override what gin sets for `ppo`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    if options.get("critic_input") is None:
        options["critic_input"] = critic_inputs[0]
    with naming("ppo"):
        config = PPOConfig(**options)
    if config.critic_input not in critic_inputs:
        known = " or ".join(f'"{known}"' for known in critic_inputs)
        others = "ippo" if config.critic_input == "obs" else "mappo or jr_ppo"
        raise ValueError(
            f'ppo.critic_input: {algorithm} sees {known}, not "{config.critic_input}", which is for {others}'
        )
    num_agents = action_spec.shape[0]
    if config.parameter_sharing == "unit_type":
        if unit_types is None:
            raise ValueError(
                'ppo.parameter_sharing: "unit_type" needs unit_types, a name per agent, which no map has that draws'
                ' its units for each battle; use "all"'
            )
        groups = [sorted(set(unit_types)).index(unit_type) for unit_type in unit_types]
    else:
        groups = [0] * num_agents if config.parameter_sharing == "all" else list(range(num_agents))
    observation_spec = time_step_spec.observation
    actor_seed, critic_seed = (int(seed) for seed in np.random.SeedSequence(config.seed).generate_state(2))
    actor = Actor(observation_spec, groups, config, actor_seed)
    critic = Critic(
        observation_spec,
        groups,
        config,
        critic_seed,
        inputs=str(config.critic_input).split("+"),
        team=joint,
        fills_dead=config.death_masking,
        value_decay=config.value_statistics_decay if config.normalize_values else None,
        torso=actor.torso if config.share_torso else None,
    )
    ratio = surrogate.joint_ratio if joint else surrogate.independent_ratio
    networks = ActorCritic(actor, critic)
    return PPOAgent(time_step_spec, action_spec, networks, ratio, config, diagnostics.Full())
