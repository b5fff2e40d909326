"""IQL, VDN and QMIX: what they explore, what they fit, whom they leave out, and what they can represent."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from tf_marl import agents, export
from tf_marl.agents.learner import Rollout
from tf_marl.agents.replay import sequences
from tf_marl.environments.matrix_game import TWO_STEP_GAME, TwoStepGame
from tf_marl.training.train import Trainer

VARIANTS = [agents.iql, agents.vdn, agents.qmix]
GAMMA = 0.9


@pytest.fixture(scope="module")
def make(specs):
    """Gives a function (algorithm, **options) -> agent for the task, with small networks and without a GRU."""

    def agent(algorithm=agents.vdn, **options):
        small = {"hidden": (8,), "num_updates": 2, "batch_size": 4, "replay_rows": 100, "gamma": GAMMA}
        return algorithm(*specs, **small | options)

    return agent


@pytest.fixture
def rollout(experience, split):
    """A rollout of the task, without recurrent states."""
    rows, final = split(experience)
    return Rollout(rows._replace(policy_info={"policy_state": ()}), final)


@pytest.fixture
def time_step(rollout):
    """A time step in which each agent may do this or that, [B, ...]."""
    return rollout.final_time_step


@pytest.fixture
def values(rng, experience):
    """Action values of the network that learns and of the target network, [B, T + 1, N, A] each."""
    shape = experience.observation["avail_actions"].shape
    return tuple(tf.constant(rng.normal(size=shape), tf.float32) for _ in range(2))


@pytest.mark.parametrize("algorithm", VARIANTS)
def test_the_greedy_policy_takes_the_best_available_action(make, algorithm, time_step):
    agent = make(algorithm)
    q, _ = agent.actor.values(time_step.observation, time_step.step_type)
    available = time_step.observation["avail_actions"]
    best = np.argmax(np.where(available, q, -np.inf), axis=-1)
    np.testing.assert_array_equal(agent.policy.action(time_step).action, best)


def test_exploring_takes_available_actions_by_epsilon(make, time_step):
    agent = make(epsilon_start=0.3)
    probabilities = agent.collect_policy.distribution(time_step).action.distribution.probs_parameter().numpy()
    available = time_step.observation["avail_actions"].numpy()
    best = np.eye(4)[agent.policy.action(time_step).action]
    np.testing.assert_allclose(
        probabilities, 0.7 * best + 0.3 * available / available.sum(-1, keepdims=True), atol=1e-6
    )


def test_epsilon_falls_with_the_env_steps(make, rollout):
    agent = make(epsilon_env_steps=100, epsilon_end=0.5)
    decided = int((~rollout.experience.is_boundary().numpy()).sum())
    told = [float(agent.learn(rollout)["value/epsilon"]) for _ in range(5)]
    assert told == pytest.approx([max(1 - 0.5 * decided * i / 100, 0.5) for i in range(5)])


@pytest.mark.parametrize("double_q", [True, False])
def test_the_target_is_the_reward_and_the_value_of_the_greedy_joint_action(make, rollout, values, double_q):
    agent, batch = make(lambda_=0.0), sequences(rollout)
    q, target_q = (leaf.numpy() for leaf in values)
    chooses = q if double_q else target_q
    available, alive = (batch.observation[name].numpy() for name in ("avail_actions", "alive"))
    best = np.argmax(np.where(available, chooses, -np.inf), axis=-1)
    value = (np.take_along_axis(target_q, best[..., None], axis=-1)[..., 0] * alive).sum(axis=-1)
    expected = batch.reward + GAMMA * batch.discount * value[:, 1:]
    target = agent.returns(batch, tf.constant(chooses), tf.constant(target_q)).numpy()[..., 0]
    inside = ~batch.boundary.numpy()
    np.testing.assert_allclose(target[inside], expected.numpy()[inside], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algorithm", VARIANTS)
def test_values_of_unavailable_actions_do_not_matter(make, algorithm, rollout, values):
    agent, batch = make(algorithm), sequences(rollout)
    more = [tf.where(batch.observation["avail_actions"], q, q + 100.0) for q in values]
    np.testing.assert_array_equal(agent.returns(batch, *more), agent.returns(batch, *values))


@pytest.mark.parametrize("algorithm", VARIANTS)
def test_neither_the_dead_nor_boundaries_teach_anything(make, algorithm, rollout):
    rows = rollout.experience
    over = rows.is_boundary()
    nobody = ~rows.observation["alive"]
    other = rows._replace(
        reward=tf.where(over, 100.0, rows.reward),
        action=tf.where(over[..., None] | nobody, 0, rows.action),
        observation=rows.observation | {"obs": tf.where(nobody[..., None], 9.0, rows.observation["obs"])},
    )
    final = rollout.final_time_step
    first, second = make(algorithm), make(algorithm)
    told = first.learn(rollout), second.learn(Rollout(other, final))
    assert {name: float(x) for name, x in told[0].items()} == {name: float(x) for name, x in told[1].items()}


def test_sequences_count_by_their_weights_and_tell_their_errors(make, rollout):
    agent, batch, seed = make(learning_rate=1e-30), sequences(rollout), tf.constant([0, 0])
    told, priority = agent.gradient_step(batch, tf.constant([0.0, 3.0, 0.0, 0.0]), seed)
    one = tf.nest.map_structure(lambda leaf: leaf[1:2], batch)
    alone, of_one = agent.gradient_step(one, tf.ones([1]), seed)
    assert {name: float(x) for name, x in told.items()} == pytest.approx({name: float(x) for name, x in alone.items()})
    np.testing.assert_allclose(priority[1], of_one[0], rtol=1e-5)
    q, target_q = (team.q_network.values(one.observation, one.step_type)[0] for team in (agent.online, agent.target))
    chosen = agent.online.of(q[:, :-1], one.action, one.before)
    counts = ~one.boundary & tf.reduce_any(one.before["alive"], axis=-1)
    error = np.abs(agent.returns(one, q, target_q) - chosen)[..., 0][counts]
    np.testing.assert_allclose(of_one[0], 0.9 * error.max() + 0.1 * error.mean(), rtol=1e-4)


def test_what_is_drawn_gets_a_new_priority(make, rollout):
    agent = make(priority_exponent=0.6)
    agent.learn(rollout)
    (priorities,) = (variable for variable in agent.variables if variable.name == "value.replay_rows:0")
    assert np.all(priorities[:4] > 0)
    assert np.any(priorities[:4] != 1)
    assert not np.any(priorities[4:])


def test_rows_of_burn_in_teach_nothing_but_move_the_recurrent_state(make, rollout):
    rows, early = rollout.experience, tf.range(12) < 5
    rows = rows._replace(policy_info={"policy_state": tf.zeros([4, 12, 3, 6])}, step_type=tf.maximum(rows.step_type, 1))
    played = Rollout(rows, rollout.final_time_step)
    rewarded = Rollout(rows._replace(reward=tf.where(early, 50.0, rows.reward)), rollout.final_time_step)
    obs = tf.where(early[:, None, None], rows.observation["obs"] + 1.0, rows.observation["obs"])
    moved = Rollout(rows._replace(observation=rows.observation | {"obs": obs}), rollout.final_time_step)

    def loss(played):
        agent = make(rnn="gru", rnn_units=6, burn_in=5, lambda_=0.0, num_updates=1)
        return float(agent.learn(played)["loss/value"])

    assert loss(played) == loss(rewarded) != loss(moved)


@pytest.mark.parametrize(("rate", "every", "moved"), [(1.0, 4, (0.0, 1.0)), (0.5, 2, (0.5, None))])
def test_the_target_network_follows(make, rollout, rate, every, moved):
    """Two gradient steps per update: a copy after four of them, or a half of the way after two."""
    agent = make(agents.qmix, target_rate=rate, target_every=every)
    start = [variable.numpy() for variable in agent.target.variables]
    for share in moved:
        agent.learn(rollout)
        if share is not None:
            for before, mine, theirs in zip(start, agent.target.variables, agent.online.variables, strict=True):
                np.testing.assert_allclose(mine, before + share * (theirs - before), rtol=1e-5, atol=1e-6)
    assert any(np.any(before != mine) for before, mine in zip(start, agent.online.variables, strict=True))


@pytest.mark.parametrize("algorithm", VARIANTS)
def test_a_recurrent_team_learns_from_the_states_at_the_start_of_its_sequences(make, algorithm, rollout, rng):
    agent = make(algorithm, rnn="gru", rnn_units=6)

    def learned(state):
        rows = rollout.experience
        state = tf.constant(np.broadcast_to(state, (*rows.reward.shape, 3, 6)), tf.float32)
        rows = rows._replace(policy_info={"policy_state": state}, step_type=tf.maximum(rows.step_type, 1))
        return sequences(Rollout(rows, rollout.final_time_step))

    none, some = learned(0.0), learned(rng.normal(size=6))
    q = [agent.actor.values(rows.observation, rows.step_type, rows.state)[0].numpy() for rows in (none, some)]
    assert np.all(np.any(q[0] != q[1], axis=(1, 2, 3)))
    told = agent.learn(
        Rollout(
            rollout.experience._replace(policy_info={"policy_state": tf.zeros([4, 12, 3, 6])}), rollout.final_time_step
        )
    )
    assert all(np.isfinite(float(value)) for value in told.values())


@pytest.mark.parametrize(("algorithm", "earns"), [(agents.vdn, 7.0), (agents.qmix, 8.0)])
def test_only_a_mixture_tells_which_of_two_games_is_worth_more(algorithm, earns, tmp_path):
    """All explore at random: VDN fits 6.5 to the second game's best joint action, which is worth 8 (Rashid et al.)."""
    team = functools.partial(
        algorithm,
        hidden=(32,),
        num_updates=10,
        lambda_=0.0,
        epsilon_end=1.0,
        replay_rows=32 * 3 * 50,
        learning_rate=3e-3,
        target_every=50,
    )
    trainer = Trainer(
        TwoStepGame(TWO_STEP_GAME, num_envs=32),
        team,
        root_dir=tmp_path,
        num_env_steps=64 * 60,
        rollout_steps=3,
        eval_every_env_steps=64 * 60,
        eval_episodes=1,
    )
    assert trainer.run().evaluation["eval/return_mean"] == earns


@pytest.mark.parametrize("rnn", ["none", "gru"])
def test_the_last_action_is_seen_in_sequences_as_it_is_in_play(make, rollout, rnn):
    agent = make(observes_last_action=True, rnn=rnn, rnn_units=6, epsilon_start=1.0)
    rows, policy = rollout.experience, agent.collect_policy
    state, actions, states, played = policy.get_initial_state(4), [], [], []
    for t in range(12):
        observation, step_type = ({k: v[:, t] for k, v in rows.observation.items()}, rows.step_type[:, t])
        played.append(agent.actor.values(observation, step_type, state)[0])
        step = policy.action(ts.TimeStep(step_type, *[tf.zeros([4])] * 2, observation), state, seed=[0, t])
        actions.append(step.action)
        states.append(state)
        state = step.state
    later = {name: leaf[:, 4:] for name, leaf in rows.observation.items()}
    action = tf.stack(actions, axis=1)[:, 4:-1]
    q, after = agent.actor.values(later, rows.step_type[:, 4:], states[4], action)
    np.testing.assert_allclose(q, tf.stack(played, axis=1)[:, 4:], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(agent.actor.torso.remember(after, actions[-1]), state, rtol=1e-5, atol=1e-6)
    other, _ = agent.actor.values(later, rows.step_type[:, 4:], states[4], (action + 1) % 4)
    starts = rows.step_type[:, 5:] == ts.StepType.FIRST
    np.testing.assert_array_equal(other[:, 0], q[:, 0])
    assert np.all(np.any(other != q, axis=(2, 3))[:, 1:][~starts])
    if rnn == "none":
        np.testing.assert_array_equal(other[:, 1:][starts], q[:, 1:][starts])
    played_on = Rollout(rows._replace(policy_info={"policy_state": tf.stack(states, axis=1)}), rollout.final_time_step)
    assert all(np.isfinite(float(value)) for value in agent.learn(played_on).values())


@pytest.mark.parametrize("width", [6, 10], ids=["without the last action", "with it"])
def test_a_q_network_is_exported_as_an_actor_is(make, time_step, width, tmp_path):
    agent = make(agents.qmix, rnn="gru", rnn_units=6, observes_last_action=width > 6)
    folder = export.save(agent, tmp_path, env_steps=7)
    served = export.ServedPolicy(agent.time_step_spec, agent.action_spec, folder)
    state, told = agent.policy.get_initial_state(4), served.get_initial_state(4)
    for _ in range(3):
        expected, step = agent.policy.action(time_step, state), served.action(time_step, told)
        np.testing.assert_array_equal(step.action, expected.action)
        state, told = expected.state, step.state
        time_step = time_step._replace(step_type=tf.fill([4], ts.StepType.MID))
    decide = tf.saved_model.load(str(folder)).signatures["team_sampled"]
    inputs = {name: time_step.observation[name] for name in ("obs", "avail_actions")}
    answer = decide(**inputs, state_gru=tf.zeros([4, 3, width]), seed=tf.constant([0, 0]))
    np.testing.assert_array_equal(answer["probabilities"].numpy().max(axis=-1), 1.0)
    np.testing.assert_array_equal(answer["action"], answer["probabilities"].numpy().argmax(axis=-1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gama": 0.9}, "value.gama: unexpected keyword argument"),
        ({"lambda_": None}, "value: set one of lambda_ and n_steps, and the other one to None"),
        ({"n_steps": 3}, "value: set one of lambda_ and n_steps, and the other one to None"),
        ({"batch_size": 0}, "value.batch_size: input should be greater than 0, not 0"),
        ({"burn_in": 3}, 'value: burn_in: only with rnn = "gru"; there are no recurrent states'),
    ],
)
def test_what_does_not_fit_is_named(make, complaint, options, message):
    assert complaint(make, **options) == message


def test_a_burn_in_of_whole_sequences_is_refused(make, complaint):
    agent = make(rnn="gru", burn_in=8)
    agent.check(2, 9)
    assert complaint(agent.check, 2, 8) == (
        "value.burn_in = 8: sequences of 8 env steps then leave nothing to learn from; lower it"
    )
