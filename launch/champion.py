"""Lets a registered policy challenge the champion of its algorithm and map.

python -m launch.champion --model=tf_marl.ippo.3m --version=4

Both play the same fresh episodes, which neither was chosen by. The alias `champion` moves to the challenger if its win
rate is the higher one beyond chance; where there is no champion yet, it moves without a battle. Training does this at
its end; the command is for when it could not.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags

from launch import app

if TYPE_CHECKING:
    from tf_agents.policies import tf_policy

    from tf_marl.environments.combat.environment import Combat
    from tf_marl.environments.sc2.core import StarCraft2

FLAGS = flags.FLAGS
CHAMPION = "champion"  # the alias
EPISODES = 256
CONFIDENCE = 0.95


class Challenge(NamedTuple):
    """What came of one."""

    champion: int  # version, from now on
    verdict: str  # for a person to read
    win_rates: dict[int, float]  # by version; empty if nobody played


def main() -> int:
    from tf_marl import tracking

    if not FLAGS.model:
        raise app.BadInput("give --model=NAME, of a registered model such as tf_marl.ippo.3m")
    if FLAGS.tracking_uri:
        with app.bad_input("--tracking_uri: "):
            tracking.check_reachable(FLAGS.tracking_uri)
    app.import_quietly()
    with app.bad_input(f"--model={FLAGS.model}: "):
        version = FLAGS.version or max(tracking.versions(app.tracking_uri(), FLAGS.model))
        outcome = challenge(app.tracking_uri(), FLAGS.model, version, FLAGS.episodes, FLAGS.confidence)
    print(f"{FLAGS.model}: {outcome.verdict}")
    if FLAGS.json:
        app.print_json(outcome._asdict())
    return 0


def challenge(
    tracking_uri: str, name: str, version: int, episodes: int = EPISODES, confidence: float = CONFIDENCE
) -> Challenge:
    """Lets a version of a registered model challenge the one that is its champion.

    Args:
        tracking_uri: of the store.
        name: of the registered model.
        version: that challenges.
        episodes: that each plays.
        confidence: in (0, 1), that it takes to win.
    Raises:
        app.BadInput: there is no such version, or none that can play.
        mlflow.exceptions.MlflowException: the store does not answer.
    """
    from tf_marl import tracking

    client = tracking.client(tracking_uri)
    champion = int(client.get_registered_model(name).aliases.get(CHAMPION, 0))
    if champion == version:
        return Challenge(champion, f"version {version} is the champion", {})
    rates: dict[int, float] = {}
    if not champion:
        won, verdict = True, f"version {version} is the champion, the first"
    else:
        teams = {number: _load(tracking_uri, name, number) for number in (version, champion)}
        environment, other = (team.environment for team in teams.values())
        if environment != other:
            changed = ", ".join(key for key in environment | other if environment.get(key) != other.get(key))
            won, verdict = False, f"version {champion} stays the champion: version {version} is for another {changed}"
        else:
            rates = {number: _win_rate(team, [version, 9], episodes) for number, team in teams.items()}
            won = _chance(rates[version], rates[champion], episodes) < 1 - confidence
            verdict = f"version {version} is the champion" if won else f"version {champion} stays the champion"
            score = ", ".join(f"version {number} {rate:.1%}" for number, rate in rates.items())
            verdict += f": of {episodes} fresh episodes won {score} (confidence asked for: {confidence:.0%})"
    if won:  # before it is written down: who was stopped between the two challenges again
        client.set_registered_model_alias(name, CHAMPION, str(version))
    client.set_model_version_tag(name, str(version), "challenge", verdict)
    return Challenge(version if won else champion, verdict, rates)


def challenged(tracking_uri: str, name: str, version: int) -> str | None:
    """What came of it when a version challenged the champion, if it did; no challenge counts where there is none."""
    from tf_marl import tracking

    client = tracking.client(tracking_uri)
    if CHAMPION not in client.get_registered_model(name).aliases:
        return None
    return client.get_model_version(name, str(version)).tags.get("challenge")


class _Team(NamedTuple):
    policy: "tf_policy.TFPolicy"
    world: "Combat | StarCraft2"
    environment: dict[str, Any]  # its settings, those left at their defaults too


def _load(tracking_uri: str, name: str, version: int) -> _Team:
    policy, world, facts = app.load_model(f"models:/{name}/{version}", tracking_uri)
    return _Team(policy, world, facts["environment"] | dataclasses.asdict(world.options))


def _win_rate(team: _Team, seed: list[int], episodes: int) -> float:
    import tensorflow as tf

    from tf_marl.environments.sc2.core import StarCraft2
    from tf_marl.training.evaluate import Evaluator

    rate = Evaluator(team.world.resize(episodes), team.policy)(tf.constant(seed))["battle_won_mean"]
    if isinstance(team.world, StarCraft2):
        team.world.close()
    return rate


def _chance(rate: float, other: float, episodes: int) -> float:
    """How likely so much higher a rate is if both are equally good: the p-value of Boschloo's exact test (1970)."""
    from scipy import stats

    won = [round(value * episodes) for value in (rate, other)]
    return stats.boschloo_exact([won, [episodes - count for count in won]], alternative="greater").pvalue


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "Name of a registered model, such as tf_marl.ippo.3m.")
    flags.DEFINE_integer("version", None, "Version that challenges; by default the newest.", lower_bound=1)
    flags.DEFINE_integer("episodes", EPISODES, "Fresh episodes that each plays.", lower_bound=1)
    flags.DEFINE_float("confidence", CONFIDENCE, "That the difference is not chance.", lower_bound=0.5, upper_bound=1)
    app.define_json_flag()
    app.define_store_flag()
    app.run(main)
