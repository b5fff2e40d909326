"""Who is champion of a registered model: the version that the alias `champion` is on.

Challenger and champion play the same fresh episodes, which neither was chosen by. The alias moves to the challenger if
it does better beyond chance; where there is no champion yet, it moves without a challenge.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tf_marl import tracking
from tf_marl.experiments.runs import load_model

if TYPE_CHECKING:
    from tf_agents.policies import tf_policy

    from tf_marl.environments.world import World

CHAMPION = "champion"  # the alias
EPISODES = 256
CONFIDENCE = 0.95
_RETURN = "return_mean"
_BLOCKS = 16  # that episodes are played in where mean returns are compared


class Challenge(NamedTuple):
    """What came of one."""

    champion: int  # version, from now on
    verdict: str  # for a person to read
    metric: str | None  # that the two were compared by, such as `battle_won_mean`; None if nobody played
    scores: dict[int, float]  # that metric, by version; empty if nobody played


def challenge(
    tracking_uri: str, name: str, version: int, episodes: int = EPISODES, confidence: float = CONFIDENCE
) -> Challenge:
    """Lets a version of a registered model challenge the one that is its champion.

    They are compared by how often the first of the world's `outcomes` comes true, where it has any, else by the mean
    return: see `chance_of_rate` and `chance_of_returns`.

    Args:
        tracking_uri: of the store.
        name: of the registered model.
        version: that challenges.
        episodes: that each plays.
        confidence: in (0, 1), that it takes to win.
    Raises:
        ValueError: there is no such version, or none that can play.
        mlflow.exceptions.MlflowException: the store does not answer.
    """
    client = tracking.client(tracking_uri)
    champion = int(client.get_registered_model(name).aliases.get(CHAMPION, 0))
    if champion == version:
        return Challenge(champion, f"version {version} is the champion", None, {})
    metric, scores = None, {}
    if not champion:
        won, verdict = True, f"version {version} is the champion, the first"
    else:
        teams = {number: _load(tracking_uri, name, number) for number in (version, champion)}
        environment, other = (team.environment for team in teams.values())
        if environment != other:
            changed = ", ".join(key for key in environment | other if environment.get(key) != other.get(key))
            won, verdict = False, f"version {champion} stays the champion: version {version} is for another {changed}"
        else:
            metric, played = _play(teams, [version, 9], episodes)
            scores = {number: float(np.mean(values)) for number, values in played.items()}
            if metric == _RETURN:
                chance = chance_of_returns(played[version], played[champion])
            else:
                chance = chance_of_rate(scores[version], scores[champion], episodes)
            won = chance < 1 - confidence
            verdict = f"version {version} is the champion" if won else f"version {champion} stays the champion"
            verdict += f": {_told(metric, scores, episodes)} (confidence asked for: {confidence:.0%})"
    if won:  # before it is written down: who was stopped between the two challenges again
        client.set_registered_model_alias(name, CHAMPION, str(version))
    client.set_model_version_tag(name, str(version), "challenge", verdict)
    return Challenge(version if won else champion, verdict, metric, scores)


def challenged(tracking_uri: str, name: str, version: int) -> str | None:
    """What came of it when a version challenged the champion, if it did; no challenge counts where there is none."""
    client = tracking.client(tracking_uri)
    if CHAMPION not in client.get_registered_model(name).aliases:
        return None
    return client.get_model_version(name, str(version)).tags.get("challenge")


def chance_of_rate(rate: float, other: float, episodes: int) -> float:
    """How likely so much higher a share of episodes is if both are equally good: p of Boschloo's exact test (1970)."""
    from scipy import stats  # here, for who reads the constants alone waits for none of it

    happened = [round(value * episodes) for value in (rate, other)]
    counts = [happened, [episodes - count for count in happened]]
    return float(stats.boschloo_exact(counts, alternative="greater").pvalue)


def chance_of_returns(returns: Sequence[float], others: Sequence[float]) -> float:
    """How likely so much higher returns are if both are equally good: p of the exact permutation test of pairs.

    Args: returns, others: [K] each, K >= 2: mean returns over the same K blocks of episodes.
    """
    from scipy import stats

    return float(
        stats.permutation_test(
            (returns, others), _mean_difference, permutation_type="samples", n_resamples=np.inf, alternative="greater"
        ).pvalue
    )


def _mean_difference(returns: np.ndarray, others: np.ndarray, axis: int) -> np.ndarray:
    return np.mean(returns, axis) - np.mean(others, axis)


class _Team(NamedTuple):
    policy: "tf_policy.TFPolicy"
    world: "World"
    environment: dict[str, Any]  # its settings, those left at their defaults too


def _load(tracking_uri: str, name: str, version: int) -> _Team:
    policy, world, facts = load_model(f"models:/{name}/{version}", tracking_uri)
    return _Team(policy, world, facts["environment"] | world.settings())


def _play(teams: Mapping[int, _Team], seed: Sequence[int], episodes: int) -> tuple[str, dict[int, list[float]]]:
    """The metric that teams of one world are compared by, and what each comes to, in every block of episodes."""
    import tensorflow as tf

    from tf_marl.training.evaluate import Evaluator

    played = {}
    for number, team in teams.items():
        metric = f"{team.world.outcomes[0]}_mean" if team.world.outcomes else _RETURN
        # An outcome's share tells all of its spread; of returns that takes several means.
        blocks = max(min(_BLOCKS, episodes), 2) if metric == _RETURN else 1
        world = team.world.resize(-(-episodes // blocks))
        play = Evaluator(world, team.policy)
        first, second = seed
        played[number] = [play(tf.constant([first, second + block]))[metric] for block in range(blocks)]
        world.close()
    return metric, played


def _told(metric: str, scores: Mapping[int, float], episodes: int) -> str:
    if metric == _RETURN:
        score = ", ".join(f"version {number} {value:.3g}" for number, value in scores.items())
        return f"of {episodes} fresh episodes the mean return is {score}"
    score = ", ".join(f"version {number} {rate:.1%}" for number, rate in scores.items())
    happened = metric.removesuffix("_mean").rsplit("_", 1)[-1]  # "won", of `battle_won`
    return f"of {episodes} fresh episodes {happened} {score}"
