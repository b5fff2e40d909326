"""What sees and decides: torso, actor, critic, and the running statistics that scale what they see."""

from tf_marl.networks.networks import Actor, ActorCritic, Architecture, Critic, training_flops

__all__ = ["Actor", "ActorCritic", "Architecture", "Critic", "training_flops"]
