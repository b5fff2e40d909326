"""Teams that play and are not trained: of a run, of MLflow's registry, exported, or by a script; and how they do."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf

from tf_marl import environments
from tf_marl.config import prefixed
from tf_marl.experiments import runs
from tf_marl.training import Evaluator, memory, win_interval

if TYPE_CHECKING:
    from tf_agents.policies import tf_policy

    from tf_marl.environments.world import World

REPLAY_EPISODES = 8  # at most; more make a file that nobody watches to the end


class Team(NamedTuple):
    """Describes who plays, and where."""

    name: str
    world: "World"
    policy: "tf_policy.TFPolicy"
    facts: dict[str, Any]  # what is known of it: env steps of training, algorithm, map


def trained(root_dir: str, best: bool) -> Team:
    """Returns the team of a training run, which plays greedily.

    Args:
        root_dir: folder of the run.
        best: whether it is the one that evaluated best, not the newest.
    Raises:
        ValueError: the folder holds no run that this code can play; names it.
    """
    world, agent, env_steps = runs.load_run(root_dir, best)
    name = f"{pathlib.Path(root_dir).resolve().name} after {env_steps:,} env steps"
    return Team(name, world, agent.watched_policy, {"env_steps": env_steps})


def registered(model_uri: str, tracking_uri: str) -> Team:
    """Returns a team of MLflow's registry, which plays greedily.

    Args:
        model_uri: MLflow's address of the model, such as models:/tf_marl.ippo.3m@champion.
        tracking_uri: address of the store that has it.
    Raises:
        ValueError: the store has no such model, or none that tf_marl logged.
    """
    return _served(model_uri, *runs.load_model(model_uri, tracking_uri))


def exported(saved_model: str) -> Team:
    """Returns a team that was exported, which plays greedily.

    Args:
        saved_model: the SavedModel's folder, DIR/VERSION.
    Raises:
        ValueError: the folder holds no policy that tf_marl exported; names it.
    """
    return _served(saved_model, *runs.load_export(pathlib.Path(saved_model), f"--saved_model={saved_model}"))


def _served(name: str, policy: "tf_policy.TFPolicy", world: "World", facts: dict[str, Any]) -> Team:
    known = {key: facts[key] for key in ("algorithm", "map", "env_steps")}
    return Team(f"{name}, after {facts['env_steps']:,} env steps", world, policy, known)


def scripted(script: str, seed: int) -> Team:
    """Returns a team that follows a script in the world that gin's settings describe.

    Args:
        script: its name, such as "focus_fire".
        seed: root of the chance in live worlds.
    Raises:
        ValueError: a setting is wrong, or the world knows no such script.
    """
    world = environments.make(seed=seed)
    with prefixed(f"--policy={script}: "):
        policy = world.scripted(script)
    map_name = world.name
    return Team(f"{script} on {map_name}", world, policy, {"policy": script, "map": map_name})


def against(team: Team, enemies: Sequence[str]) -> dict[str, Team]:
    """Returns the same team in a world for each of some enemies, by the enemies' names.

    Args:
        team: who plays.
        enemies: their names; `["all"]` for all that the world has.
    Raises:
        ValueError: the world has no such enemies; names them and lists those that there are.
    """
    world = team.world
    if not world.enemies:
        raise ValueError(f"--enemies: {world.name} leaves no choice of enemies; drop the flag")
    names = world.enemies if list(enemies) == ["all"] else enemies
    with prefixed("--enemies: "):
        return {name: team._replace(name=f"{team.name}, against {name}", world=world.against(name)) for name in names}


class Match:
    """Plays episodes of a team and keeps some to be watched."""

    def __init__(self, team: Team, episodes: int, seed: int, max_gigabytes: float | None = None):
        """Checks that the episodes can be played.

        Args:
            team: who plays.
            episodes: how many, side by side.
            seed: of the episodes.
            max_gigabytes: of memory that they may take; None is what the machine has.
        Raises:
            ValueError: the episodes would take too much memory, or the game is not there.
        """
        self._team, self._episodes = team, episodes
        self._seed = [seed, 4]  # not a seed of the training's own evaluations
        self._world = team.world.resize(episodes)
        self.tags = self._world.tags()
        memory.check(memory.of_episodes(team.policy, episodes), max_gigabytes, f"--episodes={episodes}")

    def check_replay(self, path: pathlib.Path) -> None:
        """Raises ValueError: the world keeps no replays in files that end so."""
        if path.suffix not in self._world.replay_suffixes:
            known = " or ".join(self._world.replay_suffixes) or "none"
            raise ValueError(
                f"--replay={path.name}: replays of {self._world.name} are files that end in {known}; rename it"
            )

    def play(self) -> tuple[dict[str, float], str]:
        """Plays the episodes.

        Returns:
            Means over episodes, with the 95% interval of each outcome's share, by name; and the same as a phrase.
        """
        result = Evaluator(self._world, self._team.policy)(tf.constant(self._seed))
        told, intervals = [], {}
        for name in self._world.outcomes:
            share = result[f"{name}_mean"]
            intervals[f"{name}_low"], intervals[f"{name}_high"] = low, high = win_interval(share, self._episodes)
            told.append(f"{_label(name)} {share:.0%} (95% interval {low:.0%} to {high:.0%})")
        told += [f"return {result['return_mean']:.2f}", f"length {result['episode_length_mean']:.1f} env steps"]
        return result | intervals, ", ".join(told)

    def titles(self) -> list[str]:
        """Returns the titles of the columns of a table of matches."""
        return [*(_label(name) for name in self._world.outcomes), "return", "length"]

    def cells(self, result: Mapping[str, float]) -> list[str]:
        """Returns the row of such a table that a match's result makes: shares with their 95% intervals, and means.

        Args:
            result: as `play` returns it.
        """
        shares = [
            f"{result[f'{name}_mean']:.0%} ({result[f'{name}_low']:.0%} to {result[f'{name}_high']:.0%})"
            for name in self._world.outcomes
        ]
        return [*shares, f"{result['return_mean']:.2f}", f"{result['episode_length_mean']:.1f}"]

    def write_replay(self, path: pathlib.Path) -> str:
        """Keeps the first episodes in a file. Returns what there is to watch, a phrase.

        Raises:
            ValueError: the file cannot be written, or the game has no replay.
        """
        kept = min(self._episodes, REPLAY_EPISODES)
        with prefixed("--replay: "):
            self._world.write_replay(path, self._team.policy, self._seed, kept, self._team.name)
        return f"the first {kept} of them to watch" if self._world.compiles else "to watch in the game"


def _label(outcome: str) -> str:
    return "won" if outcome == "battle_won" else outcome
