"""Reads training runs as they lie on disk or in a registry: their settings, their policies, the worlds they are for."""

import ast
import fcntl
import os
import pathlib
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import gin

from tf_marl import settings
from tf_marl.config import first_line

if TYPE_CHECKING:
    from tf_marl.agents.learner import Learner
    from tf_marl.environments.world import World
    from tf_marl.export import ServedPolicy
    from tf_marl.training import Trainer

CONFIG_NAME = "config.gin"  # a run's operative configuration, in its root_dir and among its artifacts
TRACKING_NAME = "tracking"  # in its root_dir: what is on its way to MLflow
SHARDS = "train.num_shards"


def config_of(root_dir: str | pathlib.Path) -> str:
    """Returns the configuration of the training run in a folder, a gin text.

    Raises:
        ValueError: no run began there, or the file is damaged.
    """
    config = pathlib.Path(root_dir) / CONFIG_NAME
    if not config.is_file():
        raise ValueError(f"--root_dir={root_dir}: holds no {CONFIG_NAME}, so no training run began there")
    try:
        return config.read_text("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"--root_dir={root_dir}: its {CONFIG_NAME} is no text; put back the run's own") from None


def load_run(root_dir: str | pathlib.Path, best: bool) -> "tuple[World, Learner, int]":
    """Loads what a training run made.

    Args:
        root_dir: folder of the run.
        best: whether the agent is the one that evaluated best, not that of the newest checkpoint.
    Returns:
        The world that the agent is for, the agent, and the env steps that it trained for.
    Raises:
        ValueError: no run began there, or it has saved no such agent yet, or none that this code can read.
    """
    from tf_marl import environments
    from tf_marl.training import Trainer

    config = config_of(root_dir)
    _check_version(root_dir, settings.flat(config))
    try:
        settings.read_untrusted(config)
        _check_trust(training_facts(config)["environment"])
        # Its policy is wanted alone, and it may have trained on a larger machine.
        trainer = Trainer(environments.make(), root_dir=root_dir, max_gigabytes=float(sys.maxsize))
    except Exception as error:  # gin's are of many kinds
        raise ValueError(f"--root_dir={root_dir}: its {CONFIG_NAME} cannot be used: {first_line(error)}") from error
    try:
        env_steps = trainer.restore_policy(best)
    except Exception as error:
        raise ValueError(f"--root_dir={root_dir}: its checkpoint cannot be read; {first_line(error)}") from error
    if env_steps is None:
        lacks = "nothing was evaluated yet, so none is best; add --nobest or" if best else "holds no checkpoint yet;"
        raise ValueError(f"--root_dir={root_dir}: {lacks} train for longer")
    return trainer.world, trainer.agent, env_steps


def load_model(model_uri: str, tracking_uri: str) -> "tuple[ServedPolicy, World, dict[str, Any]]":
    """Loads a policy from MLflow's registry.

    Args:
        model_uri: MLflow's address of the model.
        tracking_uri: address of the store that has it.
    Returns:
        What `load_export` returns of it.
    Raises:
        ValueError: no such model, or none that tf_marl logged.
    """
    from tf_marl import tracking

    with tempfile.TemporaryDirectory() as folder:
        try:
            model = tracking.download(model_uri, tracking_uri, pathlib.Path(folder))
        except Exception as error:
            raise ValueError(f"{model_uri}: {first_line(error)}") from error
        return load_export(model, model_uri)


def load_export(model: pathlib.Path, name: str) -> "tuple[ServedPolicy, World, dict[str, Any]]":
    """Loads an exported policy.

    Args:
        model: the SavedModel's folder.
        name: what errors call it.
    Returns:
        The policy, the world that it is for, and facts about it: `env_steps` that it trained for, and the
        `training_facts` of its run.
    Raises:
        ValueError: the folder holds no policy that tf_marl exported.
    """
    from tf_marl import environments, export

    try:
        page = export.read_page(model)
        facts = page["training"] | {"env_steps": page["env_steps"]}
        _check_trust(facts["environment"])
        world = environments.make(**facts["environment"])
        return export.ServedPolicy(world.time_step_spec, world.action_spec, model), world, facts
    except Exception as error:
        raise ValueError(f"{name}: {first_line(error)}") from error


def _check_trust(environment: dict[str, Any]) -> None:
    """Checks that settings, which may be a stranger's, start nothing but what a user of this process has named.

    Args:
        environment: arguments of `environments.make`.
    Raises:
        ValueError: they would import another module, or start another interpreter; names it.
    """
    from tf_marl import environments
    from tf_marl.environments.adapters import core
    from tf_marl.environments.processes.options import PYTHON

    told = {name: environment[name] for name in ("map_name", "backend") if name in environment}
    backend, name = environments.resolve(**told)
    module = core.imported(backend, name)
    if module and not settings.is_trusted(module):
        raise ValueError(f"environment.map_name = {name!r} imports {module}; if you trust it, add --plugin={module}")
    python = environment.get("python")
    if python and python != os.environ.get(PYTHON):
        raise ValueError(f"environment.python = {python!r}: if you trust it, export {PYTHON}={python}")


def algorithm_and_map() -> tuple[str, str]:
    """Returns the names of the algorithm and of the map that gin was told.

    Raises:
        ValueError: `train.agent` is no reference to an algorithm.
    """
    from tf_marl import environments

    agent = settings.value("train.agent")
    if not isinstance(agent, gin.config.ConfigurableReference) or agent.evaluate:  # with parentheses
        raise ValueError(f"train.agent: should be an algorithm such as @ippo, not {agent!r}")
    return agent.configurable.name, environments.resolve(settings.value("environment.map_name"))[1]


def lock(root_dir: pathlib.Path) -> None:
    """Keeps other processes from training in a folder until this process ends, however it does.

    Raises:
        ValueError: another process trains there; names it.
    """
    descriptor = os.open(root_dir / ".lock", os.O_RDWR | os.O_CREAT)  # never closed, so held to the end
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 20).decode()
        raise ValueError(
            f"--root_dir={root_dir}: process {owner} trains there; wait for it or name another folder"
        ) from None
    os.truncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())


def keep_shards(began_with: dict[str, str]) -> None:
    """Sets the number of shards that a run began with, unless gin was told another, whatever this machine's cores.

    Args:
        began_with: the run's settings, name -> text; empty if it begins now. An older run does not tell its shards.
    """
    if SHARDS in began_with and not settings.is_set(SHARDS):
        with gin.unlock_config():
            gin.parse_config(f"{SHARDS} = {began_with[SHARDS]}")


def all_settings(trainer: "Trainer", seed: int) -> str:
    """Returns all settings that decide a run, as a gin text with a line per binding.

    They are those in use, those left at their defaults, and the seed and the shards, on which a run's future depends.

    Args:
        trainer: of the run.
        seed: of the run.
    """
    lines = [line for line in gin.operative_config_str(max_line_length=10_000).splitlines() if line[:5] != "# ==="]
    told = settings.flat("\n".join(lines))
    world = {f"environment.{name}": value for name, value in trainer.world.settings().items()}
    options = trainer.agent.settings() | world
    left = [f"{name} = {value!r}" for name, value in options.items() if name not in told]
    shards = f"{SHARDS} = {trainer.collector.num_shards}"  # as this machine has cores
    text = "\n".join([f"# seed = {seed}", *lines, "# Left at their defaults:", *left]) + "\n"
    return text.replace(f"{SHARDS} = None", shards)


def check_unchanged(root_dir: str | pathlib.Path, began_with: dict[str, str], now: dict[str, str]) -> None:
    """Compares a run's settings with those that it began with.

    Args:
        root_dir: folder of the run, for the error.
        began_with: the settings then, name -> text; empty if the run begins now.
        now: the settings now, name -> text.
    Raises:
        ValueError: settings differ; names them.
    """
    if not began_with:
        return
    _check_version(root_dir, began_with)
    before = began_with
    if SHARDS not in before:  # an older run, which tells nothing of what it left at its default; nor of this one
        before = {name: value for name, value in now.items() if name == SHARDS or not settings.is_set(name)} | before
    names = [name for name in before | now if before.get(name) != now.get(name)]
    if changed := [f"{name} = {now.get(name, 'unset')} (was {before.get(name, 'unset')})" for name in names]:
        raise ValueError(
            f"--root_dir={root_dir}: its run began with other settings: {'; '.join(changed)};"
            f" set them as they were, go on all the same with --allow_config_change, or name another folder"
        )


def _check_version(root_dir: str | pathlib.Path, began_with: dict[str, str]) -> None:
    if any(name.startswith(("ippo.", "mappo.", "jr_ppo.")) for name in began_with):
        raise ValueError(
            f"--root_dir={root_dir}: its run is of an older version, whose settings had other names (ippo.gamma is"
            " ppo.gamma now) and whose checkpoints cannot be taken up; name another folder"
        )


def training_facts(config: str) -> dict[str, Any]:
    """Returns what a policy that was trained with a configuration is for.

    Args:
        config: the run's configuration, a gin text.
    Returns:
        `algorithm` and `map`, their names, and `environment`, keyword arguments for `environments.make`.
    Raises:
        ValueError: a setting of the environment is no plain value, which nobody could set again without gin.
    """
    from tf_marl import environments

    told = settings.flat(config)
    environment = {}
    for name, value in told.items():
        if name.startswith("environment.") and name != "environment.num_envs":
            try:
                environment[name.removeprefix("environment.")] = ast.literal_eval(value)
            except (ValueError, SyntaxError) as error:
                raise ValueError(f"{name} = {value}: set it to a plain value; {first_line(error)}") from None
    algorithm = told["train.agent"].removeprefix("@")
    return {
        "algorithm": algorithm,
        "map": environments.resolve(environment["map_name"])[1],
        "environment": environment,
    }
