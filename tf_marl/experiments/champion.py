"""The champion of a registered model, which is the version that carries the alias `champion`.

A challenger and the champion play the same fresh episodes, which played no part in choosing either of them. The alias
moves to the challenger if it does better than chance explains. The first version becomes champion without a challenge.
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
EPISODES = 256  # that each version plays
CONFIDENCE = 0.95
_RETURN = "return_mean"
_BLOCKS = 16  # of episodes, where mean returns are compared: one mean for each block


class Challenge(NamedTuple):
    """Holds the result of a challenge."""

    champion: int  # the version that is champion from now on
    verdict: str  # a sentence for a person to read
    metric: str | None  # what the two were compared by, such as `battle_won_mean`; None if nobody played
    scores: dict[int, float]  # the metric's value for each version; empty if nobody played


def challenge(
    tracking_uri: str, name: str, version: int, episodes: int = EPISODES, confidence: float = CONFIDENCE
) -> Challenge:
    """Lets a version of a registered model challenge the champion, and moves the alias if the challenger wins.

    If the world has outcomes, such as `battle_won`, the two are compared by the share of episodes with the first of
    them (`chance_of_rate`), otherwise by the mean return (`chance_of_returns`). The verdict is kept as the version's
    tag `challenge`. A version that is made for other environment settings than the champion's cannot win.

    Args:
        tracking_uri: address of the MLflow store.
        name: name of the registered model.
        version: the version that challenges.
        episodes: number of episodes that each of the two plays.
        confidence: confidence in (0, 1) that the challenger is better, which it needs to win.

    Returns:
        The champion from now on, and how that was decided.

    Raises:
        ValueError: a version does not exist or cannot play.
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
    if won:  # the alias before the tag: a process that is stopped in between then challenges again
        client.set_registered_model_alias(name, CHAMPION, str(version))
    client.set_model_version_tag(name, str(version), "challenge", verdict)
    return Challenge(version if won else champion, verdict, metric, scores)


def challenged(tracking_uri: str, name: str, version: int) -> str | None:
    """Returns the verdict of a version's challenge, or None if it has not challenged or the model has no champion.

    Args:
        tracking_uri: address of the MLflow store.
        name: name of the registered model.
        version: the version.
    """
    client = tracking.client(tracking_uri)
    if CHAMPION not in client.get_registered_model(name).aliases:
        return None
    return client.get_model_version(name, str(version)).tags.get("challenge")


def chance_of_rate(rate: float, other: float, episodes: int) -> float:
    """Returns the p value of Boschloo's exact test (1970) against the alternative that the first share is larger.

    Args:
        rate: the challenger's share of episodes with the outcome, in [0, 1].
        other: the champion's share.
        episodes: number of episodes that each played.
    """
    from scipy import stats  # imported here because launchers read the constants of this module, and SciPy is slow

    happened = [round(value * episodes) for value in (rate, other)]
    counts = [happened, [episodes - count for count in happened]]
    return float(stats.boschloo_exact(counts, alternative="greater").pvalue)


def chance_of_returns(returns: Sequence[float], others: Sequence[float]) -> float:
    """Returns the p value of the exact paired permutation test against the alternative that the first are higher.

    Args:
        returns: the challenger's mean return in each of K >= 2 blocks of episodes, [K].
        others: the champion's mean return in each block, [K].
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
    environment: dict[str, Any]  # all settings of the environment, defaults included


def _load(tracking_uri: str, name: str, version: int) -> _Team:
    policy, world, facts = load_model(f"models:/{name}/{version}", tracking_uri)
    return _Team(policy, world, facts["environment"] | world.settings())


def _play(teams: Mapping[int, _Team], seed: Sequence[int], episodes: int) -> tuple[str, dict[int, list[float]]]:
    """Plays episodes with teams of one world.

    Returns:
        The metric that the teams are compared by, and for each version its value in every block of episodes.
    """
    import tensorflow as tf

    from tf_marl.training.evaluate import Evaluator

    played = {}
    for number, team in teams.items():
        metric = f"{team.world.outcomes[0]}_mean" if team.world.outcomes else _RETURN
        # The share of an outcome determines its variance, so one block is enough; returns need several means.
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
