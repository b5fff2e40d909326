"""The weights: an actor that turns observations into a team policy, and a critic that turns them into values.

    observation -> torso (dense layers, then a GRU if wanted) -> head (dense layers) -> logits or values

Agents share weights and are told apart by an agent id, a learned vector per agent in the first layer, which is what
appending a one-hot id to the observation amounts to, without the copy. Or each group of agents has its own.

Shapes: B environments, T steps, N agents, F features, H units. Networks take one step, [B, ...], or sequences,
[B, T, ...]; recurrent states are [B, N, H], and zeros at the first step of an episode.
"""

from tf_marl.networks.actor import Actor
from tf_marl.networks.actor_critic import ActorCritic, training_flops
from tf_marl.networks.architecture import Architecture
from tf_marl.networks.critic import Critic

__all__ = ["Actor", "ActorCritic", "Architecture", "Critic", "training_flops"]
