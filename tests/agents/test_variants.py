"""IPPO, MAPPO and JR-PPO side by side: where they agree, where they differ, and TF-Agents' PPO as the witness."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.agents.ppo import ppo_clip_agent
from tf_agents.networks import network
from tf_agents.trajectories import time_step as ts

from tf_marl import agents
from tf_marl.agents.ppo.agent import Batch
from tf_marl.agents.ppo.natural_gradient import mean_kl
from tf_marl.agents.ppo.trust_region import natural_gradient
from tf_marl.environments.matrix_game import MatrixGame
from tf_marl.ops import categorical
from tf_marl.training.train import Trainer

ALGORITHMS = [agents.ippo, agents.mappo, agents.jr_ppo]
FAMILIES = {
    "clipped": [*ALGORITHMS, agents.coppo, agents.happo, agents.a2po],
    "natural gradient": [
        functools.partial(algorithm, step=natural_gradient(limit=mean_kl(0.01)))
        for algorithm in (agents.trpo, agents.itrpo, agents.ps_trpo, agents.hatrpo)
    ],
}
# One best joint action out of nine, and a step of one agent alone never leads away from it.
EASY_GAME = np.array([[8, 2, 0], [2, 6, 0], [0, 0, 4]])


class Value(network.Network):
    """TF-Agents wants a value network; the policy loss does not."""

    def call(self, observation, step_type=None, network_state=(), training=False):
        return observation["state"][..., 0], network_state


@pytest.mark.parametrize("scale", [0.02, 3.0])  # hardly a ratio clipped; most of them
@pytest.mark.parametrize(("algorithm", "num_agents"), [(agents.ippo, 1), (agents.jr_ppo, 1), (agents.jr_ppo, 3)])
def test_policy_loss_and_gradient_are_those_of_tf_agents(rng, algorithm, num_agents, scale):
    """For TF-Agents an int32 [N] action has one log-probability, the joint one; of one agent that is its own."""
    world = MatrixGame(np.zeros([5] * num_agents), num_envs=1)
    spec, rows = world.time_step_spec, 64
    ours = algorithm(spec, world.action_spec, hidden=(16,), clip_range=0.2)
    theirs = ppo_clip_agent.PPOClipAgent(
        spec,
        world.action_spec,
        optimizer=tf.keras.optimizers.legacy.Adam(),
        actor_net=ours.actor,
        value_net=Value(spec.observation),
        importance_ratio_clipping=0.2,
        normalize_observations=False,
        normalize_rewards=False,
    )

    def normal(*shape):
        return tf.constant(rng.normal(size=shape), tf.float32)

    for variable in ours.actor.trainable_variables:
        variable.assign(normal(*variable.shape))
    avail = rng.random((rows, num_agents, 5)) < 0.7
    avail[..., 0] = True
    if num_agents > 1:
        avail[::3, 0] = np.arange(5) == 0  # dead now and then
    observation = {
        "obs": normal(rows, num_agents, 6),
        "state": normal(rows, 1 + 5 * num_agents),
        "avail_actions": tf.constant(avail),
        "alive": tf.constant(avail.sum(axis=-1) > 1) | (num_agents == 1),
    }
    team, _ = ours.actor(observation)
    action = team.sample(seed=tf.constant([0, 1]))
    old_log_prob = team.distribution.log_prob(action)
    old_log_prob += scale * normal(rows, num_agents) * tf.cast(observation["alive"], tf.float32)
    advantage = normal(rows)

    def our_loss():
        nothing = tf.zeros([rows, 1, 1])
        batch = Batch(
            observation=tf.nest.map_structure(lambda leaf: leaf[:, None], observation),
            step_type=tf.ones([rows, 1], tf.int32),
            state=ours.networks.state_spec,
            action=action[:, None],
            old_log_prob=old_log_prob[:, None],
            old_value=nothing,
            advantage=advantage[:, None, None],
            returns=nothing,
            learns=observation["alive"][:, None],
            alive=observation["alive"][:, None],
        )
        return ours.losses(batch)["loss/policy"]

    def their_loss():
        zeros = tf.zeros([rows])
        return theirs.policy_gradient_loss(
            ts.TimeStep(tf.ones([rows], tf.int32), zeros, zeros + 1.0, observation),
            action,
            tf.reduce_sum(old_log_prob, axis=-1),
            advantage,
            ours.actor(observation)[0],
            weights=tf.ones([rows]),
        )

    def with_gradient(loss):
        with tf.GradientTape() as tape:
            value = loss()
        return [value, *tape.gradient(value, ours.actor.trainable_variables)]

    def close(ours: tf.Tensor, theirs: tf.Tensor) -> None:
        largest = np.abs(theirs).max()  # small entries are what large terms leave of each other, in float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 + 1e-6 * largest)

    tf.nest.map_structure(close, with_gradient(our_loss), with_gradient(their_loss))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="dense"),
        pytest.param({"rnn": "gru", "rnn_units": 8, "num_minibatches": 1}, id="gru", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_of_one_agent_that_sees_the_state_all_are_the_same(experience, options, family, split, weights):
    one = slice(0, 1)
    seen = {name: leaf[:, :, one] for name, leaf in experience.observation.items() if name != "state"}
    rows = experience._replace(
        action=experience.action[..., one],
        observation=seen | {"state": seen["obs"][:, :, 0]},
        policy_info={"logits": experience.policy_info["logits"][:, :, one]},
    )
    spec = ts.time_step_spec(
        {name: tf.TensorSpec(leaf.shape[2:], leaf.dtype) for name, leaf in rows.observation.items()}
    )
    action_spec = MatrixGame(np.zeros([rows.observation["avail_actions"].shape[-1]]), num_envs=1).action_spec
    made = [
        algorithm(spec, action_spec, **{"hidden": (16,), "num_epochs": 2} | options) for algorithm in FAMILIES[family]
    ]
    before = weights(made[0])
    if options:  # recurrent: what the rollout left on record
        zeros = tf.zeros([*rows.reward.shape, 1, 8])
        record = {"policy_state": {"actor": zeros, "critic": zeros}, "value": rows.reward[..., None]}
        rows = rows._replace(policy_info=rows.policy_info | record)
    metrics = [agent.update(*split(rows)).metrics for agent in made]
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    for agent, measured in zip(made[1:], metrics[1:], strict=True):
        told = metrics[0].keys() - {"trust_region/epochs"}  # which counts turns where agents take turns
        tf.nest.map_structure(close, *({name: some[name] for name in told} for some in (measured, metrics[0])))
        tf.nest.map_structure(close, weights(agent), weights(made[0]))
    assert any((a != b).any() for a, b in zip(before, weights(made[0]), strict=True))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("share_torso", [False, True])
def test_leaving_out_what_does_not_count_changes_no_loss_value_or_gradient(
    experience, algorithm, share_torso, small_agent, split
):
    if share_torso and algorithm is not agents.ippo:
        pytest.skip("their critics see more than the actor, so they have torsos of their own")
    agent = small_agent(algorithm, share_torso=share_torso)
    batch = agent.batch(*split(experience))
    assert (
        len(agent.networks.decisions(batch.learns))
        == np.count_nonzero(batch.learns)
        < batch.learns.shape.num_elements()
    )
    variables = [*agent.actor.trainable_variables, *agent.critic.trainable_variables]

    def measured():
        with tf.GradientTape(persistent=True) as tape:
            found = agent.losses(batch)
        return found, [tape.gradient(loss, variables, unconnected_gradients="zero") for loss in found.values()]

    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    # XLA's programs leave nothing out.
    tf.nest.map_structure(close, measured(), tf.function(measured, jit_compile=True)())
    values, whole = agent.advantages(*split(experience))[1], agent.critic(experience.observation)[0][:, :-1]
    close(values, whole)


def test_of_several_agents_they_differ(experience, small_agent, split):
    ippo, mappo, jr_ppo = (small_agent(algorithm) for algorithm in ALGORITHMS)
    for agent in (mappo, jr_ppo):
        agent.actor.set_weights(ippo.actor.get_weights())
    metrics = [agent.update(*split(experience)).metrics for agent in (ippo, mappo, jr_ppo)]
    assert len({float(m["loss/policy"]) for m in metrics}) == 3
    assert [agent.critic(experience.observation)[0].shape[-1] for agent in (ippo, mappo, jr_ppo)] == [3, 3, 1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_critic_sees_what_the_algorithm_says(experience, algorithm, small_agent):
    agent = small_agent(algorithm)
    observation = experience.observation
    value, _ = agent.critic(observation)
    for entry in ("obs", "state"):
        changed, _ = agent.critic(observation | {entry: observation[entry] + 1.0})
        sees = entry == ("obs" if algorithm is agents.ippo else "state")
        assert np.any(changed != value) == sees


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_dead_agents_contribute_exactly_nothing(experience, algorithm, small_agent, rng, split, weights):
    """Neither what they see nor what they did nor what they were likely to do."""
    agent, other = small_agent(algorithm), small_agent(algorithm)
    alive = experience.observation["alive"]
    assert not alive.numpy().all()

    def noise(leaf):
        return tf.constant(rng.normal(size=leaf.shape), tf.float32)

    obs, logits = experience.observation["obs"], experience.policy_info["logits"]
    changed = experience._replace(
        observation=experience.observation | {"obs": tf.where(alive[..., None], obs, noise(obs))},
    )
    metrics = agent.update(*split(experience)).metrics
    assert {name: float(value) for name, value in other.update(*split(changed)).metrics.items()} == {
        name: float(value) for name, value in metrics.items()
    }
    tf.nest.map_structure(np.testing.assert_array_equal, weights(other), weights(agent))
    # A ratio of exactly 1: only one action is left, before and after.
    for team in (agent.actor(experience.observation)[0], categorical.team_distribution(logits)):
        np.testing.assert_array_equal(team.distribution.log_prob(experience.action).numpy()[~alive.numpy()], 0.0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_solves_the_matrix_game(algorithm, tmp_path):
    trainer = Trainer(
        world=MatrixGame(EASY_GAME, num_envs=16),
        root_dir=str(tmp_path),
        agent=functools.partial(algorithm, hidden=(32,), actor_learning_rate=1e-2),
        num_env_steps=5_000,
        rollout_steps=16,
        eval_every_env_steps=5_000,
        eval_episodes=4,
    )
    won = []
    result = trainer.run(lambda _, metrics: won.append(metrics.get("train/optimal_mean")))
    assert won[0] < 0.5
    assert result.evaluation["eval/optimal_mean"] == 1.0
    assert result.evaluation["eval/return_mean"] == 8.0


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        (agents.ippo, {"critic_input": "state"}, r"ppo\.critic_input: ippo sees .*, not \"state\""),
        (agents.mappo, {"critic_input": "obs"}, r"ppo\.critic_input: mappo sees .*, not \"obs\""),
        (agents.mappo, {"critic_input": "states"}, r"ppo\.critic_input: .*'states'"),
        (agents.jr_ppo, {"clip_range": 0}, r"ppo\.clip_range: .*not 0"),
        (agents.jr_ppo, {"parameter_sharing": "unit_type"}, r"ppo\.parameter_sharing: .*unit_types"),
        (agents.mappo, {"share_torso": True}, r"ppo: share_torso needs critic_input"),
        (agents.ippo, {"share_torso": True, "order": "critic_first"}, r"ppo: share_torso needs order"),
        (agents.ippo, {"num_critic_epochs": 3}, r"ppo: num_critic_epochs needs order"),
        (agents.ippo, {"sequence_length": 8}, r"ppo: sequence_length needs rnn"),
    ],
)
def test_what_does_not_fit_together_is_named(algorithm, options, message, small_agent):
    with pytest.raises(ValueError, match=rf"^{message}"):
        small_agent(algorithm, **options)
