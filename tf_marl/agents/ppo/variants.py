"""IPPO, MAPPO, JR-PPO and CoPPO differ in two choices: what the critic sees, and how the ratio is formed.

    variant   critic sees             ratio that is clipped                                      advantage
    IPPO      what its agent sees     each agent's                                               each agent's
    MAPPO     the battle's state      each agent's                                               each agent's
    JR-PPO    the battle's state      the joint one, product over the living                     the team's
    CoPPO     the battle's state      each agent's, times the clipped product of the others'     each agent's

Algorithms that move the actor in another way are in `trust_region.py`. All other settings are in one gin scope, `ppo`,
whichever algorithm `train.agent` names. "The paper" below is "Monotonic Improvement Guarantees under Non-stationarity
for Decentralized PPO".
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import gin
import numpy as np
import pydantic
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from tf_marl import diagnostics
from tf_marl.agents.ppo.agent import PPOAgent
from tf_marl.agents.ppo.config import PPOConfig
from tf_marl.agents.ppo.step import Maker
from tf_marl.config import STRICT, naming
from tf_marl.networks import Actor, ActorCritic, Critic
from tf_marl.ops import surrogate

GIVEN_IN_CODE = ["time_step_spec", "action_spec", "seed", "unit_types"]
_OF_THE_STATE = ("state", "state+obs")


class Algorithm(NamedTuple):
    """Describes what sets an algorithm apart from the others that one learner serves."""

    name: str
    critic_inputs: Sequence[str] = _OF_THE_STATE  # values of `critic_input` that it allows; the first is its default
    has_team_value: bool = False  # whether the value and the advantage are the team's, instead of one per agent
    ratio: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = surrogate.independent_ratio
    make_step: Maker | None = None  # moves the actor by itself; None is PPO's clipped epochs
    defaults: Mapping[str, Any] = {}  # of fields of `PPOConfig`, where they differ
    required: Mapping[str, Any] = {}  # the only values of fields of `PPOConfig` that make sense
    settings: Mapping[str, Any] = {}  # its own, by their gin names


@gin.configurable(denylist=GIVEN_IN_CODE)
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
    return ppo(Algorithm("ippo", ("obs",)), time_step_spec, action_spec, unit_types, **options)


@gin.configurable(denylist=GIVEN_IN_CODE)
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
    return ppo(Algorithm("mappo"), time_step_spec, action_spec, unit_types, **options)


@gin.configurable(denylist=GIVEN_IN_CODE)
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
    algorithm = Algorithm("jr_ppo", has_team_value=True, ratio=surrogate.joint_ratio)
    return ppo(algorithm, time_step_spec, action_spec, unit_types, **options)


@gin.configurable(denylist=GIVEN_IN_CODE)
def coppo(
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None = None,
    inner_clip: float = 0.1,
    **options: Any,
) -> PPOAgent:
    """Makes an agent of coordinated PPO (Wu et al. 2021).

    The critic sees the battle's state. What is clipped is an agent's ratio times the product of its team mates', which
    is clipped itself, more narrowly. The network that mixes advantages in the authors' code is left out.

    Args:
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: [N] names of the agents' unit types; needed for `parameter_sharing = "unit_type"`.
        inner_clip: half-width of the clip range of the team mates' product, in [0, 1). 0 is MAPPO.
        **options: fields of `PPOConfig`; they override what gin sets for `ppo`. `critic_input` is "state" by default,
            or "state+obs".
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    with naming("coppo"):
        inner_clip = _InnerClip(inner_clip=inner_clip).inner_clip
    ratio = functools.partial(surrogate.coordinated_ratio, inner_epsilon=inner_clip)
    algorithm = Algorithm("coppo", ratio=ratio, settings={"coppo.inner_clip": inner_clip})
    return ppo(algorithm, time_step_spec, action_spec, unit_types, **options)


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class _InnerClip:
    inner_clip: Annotated[float, pydantic.Field(ge=0, lt=1)]


@gin.configurable(denylist=["algorithm", *GIVEN_IN_CODE])
def ppo(
    algorithm: Algorithm,
    time_step_spec: ts.TimeStep,
    action_spec: types.NestedTensorSpec,
    unit_types: Sequence[str] | None,
    **options: Any,
) -> PPOAgent:
    """Makes the agent of any algorithm.

    Args:
        algorithm: what sets it apart.
        time_step_spec: of one environment.
        action_spec: int32 [N].
        unit_types: [N] names of the agents' unit types; needed for `parameter_sharing = "unit_type"`.
        **options: fields of `PPOConfig`; they override what gin sets for `ppo`.
    Raises:
        ValueError: an option is unknown or its value does not fit; the message names it.
    """
    if options.get("critic_input") is None:
        options["critic_input"] = algorithm.critic_inputs[0]
    with naming("ppo"):
        config = PPOConfig(**{**algorithm.defaults, **options})
    _check(algorithm, config, options)
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
        team=algorithm.has_team_value,
        fills_dead=config.death_masking,
        value_decay=config.value_statistics_decay if config.normalize_values else None,
        torso=actor.torso if config.share_torso else None,
    )
    return PPOAgent(
        time_step_spec,
        action_spec,
        ActorCritic(actor, critic),
        algorithm.ratio,
        config,
        diagnostics.Full(),
        algorithm.make_step,
        algorithm.settings,
    )


def _check(algorithm: Algorithm, config: PPOConfig, options: Mapping[str, Any]) -> None:
    """Raises a ValueError, which names the setting, where settings do not fit an algorithm."""
    name = algorithm.name
    if config.critic_input not in algorithm.critic_inputs:
        known = " or ".join(f'"{known}"' for known in algorithm.critic_inputs)
        others = "ippo or itrpo" if config.critic_input == "obs" else "mappo, jr_ppo and others"
        raise ValueError(f'ppo.critic_input: {name} sees {known}, not "{config.critic_input}", which is for {others}')
    if config.share_torso and algorithm.make_step is not None:
        raise ValueError(f"ppo.share_torso: {name} moves the actor by itself; set it to False")
    for setting, value in algorithm.required.items():
        if getattr(config, setting) != value:
            raise ValueError(f"ppo.{setting}: {name} needs {value!r}, not {options[setting]!r}")
