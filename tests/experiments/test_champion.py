"""Who is champion of a registered model, and what it takes to become it."""

import mlflow
import numpy as np
import pytest

from tf_marl import environments, export, tracking
from tf_marl.agents import ippo
from tf_marl.experiments import champion

NAME = "tf_marl.ippo.3m"
SAME, SPARSE = {"map_name": "3m"}, {"map_name": "3m", "reward_sparse": True}


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """A policy nobody trained, as one of 3m and as one of another 3m: folders to make models of, and the signature."""
    folder = tmp_path_factory.mktemp("policies")
    environment = environments.load("3m")
    agent = ippo(environment.time_step_spec(), environment.action_spec(), hidden=(4,))
    pages = [
        export.save_model(agent, folder / kind / tracking.SAVED_MODEL, 100, {"environment": settings})
        for kind, settings in (("same", SAME), ("sparse", SPARSE))
    ]
    return folder, pages[0]["signatures"]["serving_default"]


@pytest.fixture(scope="module")
def store(policies, tmp_path_factory):
    """With versions 1, 2 and 3 of the model: the last is of another environment."""
    uri = tracking.local_store(tmp_path_factory.mktemp("store"))
    folder, signature = policies
    tracker = tracking.Tracker(uri, "battles", "run", {}, {}, tmp_path_factory.mktemp("run"))
    for step, kind in enumerate(("same", "same", "sparse")):
        tracker.model(folder / kind, NAME, "", step, signature, {"model/battle_won_mean": 0.0})
    assert tracker.finish("FINISHED") is None
    return uri


@pytest.fixture
def play(monkeypatch):
    """(rate of the challenger, rate of the champion): how the next battles end."""

    def set_rates(*rates):
        rates = list(rates)

        class Evaluator:
            def __init__(self, world, policy):
                self.rate = rates.pop(0)

            def __call__(self, seed):
                return {"battle_won_mean": self.rate}

        monkeypatch.setattr("tf_marl.training.evaluate.Evaluator", Evaluator)

    set_rates()  # nobody plays
    return set_rates


@pytest.fixture
def crowned(store):
    """Version 1 is champion, and version 2 has not challenged it."""
    client = mlflow.MlflowClient(store)
    client.set_registered_model_alias(NAME, "champion", "1")
    client.delete_model_version_tag(NAME, "2", "challenge")


def title_holder(store):
    return int(mlflow.MlflowClient(store).get_registered_model(NAME).aliases["champion"])


def test_the_first_to_come_is_champion_without_a_battle(store, play):
    client = mlflow.MlflowClient(store)
    for _ in range(2):  # the alias is lost again, and with it whatever came of challenges
        client.delete_registered_model_alias(NAME, "champion")
        assert champion.challenged(store, NAME, 1) is None
        assert champion.challenge(store, NAME, 1).champion == title_holder(store) == 1
        assert champion.challenged(store, NAME, 1) == "version 1 is the champion, the first"
    assert champion.challenge(store, NAME, 1) == (1, "version 1 is the champion", None, {})


# p of Boschloo's test with 256 episodes each: 0.0049, 0.12, 0.996
@pytest.mark.parametrize(("rates", "winner"), [((0.75, 0.644), 2), ((0.75, 0.703), 1), ((0.644, 0.75), 1)])
def test_a_challenger_wins_by_more_than_chance(rates, winner, store, play, crowned):
    play(*rates)
    outcome = champion.challenge(store, NAME, 2)
    assert (outcome.metric, outcome.scores) == ("battle_won_mean", {2: rates[0], 1: rates[1]})
    assert outcome.champion == title_holder(store) == winner
    assert champion.challenged(store, NAME, 2) == outcome.verdict
    assert f"version 2 {rates[0]:.1%}, version 1 {rates[1]:.1%}" in outcome.verdict


def test_the_confidence_asked_for_decides(store, play, crowned):
    play(0.75, 0.703)
    assert champion.challenge(store, NAME, 2, confidence=0.85).champion == title_holder(store) == 2


@pytest.mark.parametrize("step", ["set_model_version_tag", "set_registered_model_alias"])
def test_a_challenge_that_was_cut_short_is_settled_by_the_next(step, store, play, crowned, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    play(0.75, 0.644)
    with monkeypatch.context() as stopped:
        stopped.setattr(mlflow.MlflowClient, step, stop)
        with pytest.raises(KeyboardInterrupt):
            champion.challenge(store, NAME, 2)
    assert champion.challenged(store, NAME, 2) is None
    play(0.75, 0.644)
    assert champion.challenge(store, NAME, 2).champion == title_holder(store) == 2


def test_policies_of_other_environments_are_not_compared(store, play, crowned):
    outcome = champion.challenge(store, NAME, 3)
    assert outcome.champion == title_holder(store) == 1
    assert "another reward_sparse" in outcome.verdict


def test_what_is_not_registered_cannot_play(store, play, crowned):
    with pytest.raises(ValueError, match=f"^models:/{NAME}/7: "):
        champion.challenge(store, NAME, 7)


def test_a_share_of_episodes_is_held_against_chance():
    assert champion.chance_of_rate(0.75, 0.644, 256) == pytest.approx(0.0049, abs=1e-4)
    assert champion.chance_of_rate(0.644, 0.75, 256) > 0.99


def test_returns_are_held_against_chance_block_by_block():
    hard, easy = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.1, 2.1, 3.1, 4.1])
    # Of the 2^4 ways to exchange who played which block, one alone gives so large a difference.
    assert champion.chance_of_returns(easy, hard) == pytest.approx(1 / 16)
    assert champion.chance_of_returns(hard, easy) == 1.0
    assert champion.chance_of_returns(hard, hard) == 1.0


@pytest.mark.slow  # compiles two policies in two environments
def test_a_battle_is_played_for_real(store, crowned):
    outcome = champion.challenge(store, NAME, 2, episodes=8)
    assert outcome.champion == 1  # equals draw
    assert outcome.scores[1] == outcome.scores[2]
