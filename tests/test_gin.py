"""Every configuration that ships can be read."""

import pathlib

import gin
import pytest

from tf_marl import environments
from tf_marl.training.train import Trainer

GIN_FOLDER = pathlib.Path(__file__).parent.parent / "gin"
# But for sweeps, which are read in tests/launch/test_sweep.py.
GIN_FILES = sorted(path for path in GIN_FOLDER.rglob("*.gin") if "sweep." not in path.read_text())


@pytest.fixture(autouse=True)
def _gin_folder(clean_gin):
    gin.add_config_file_search_path(str(GIN_FOLDER))


@pytest.mark.parametrize("path", GIN_FILES, ids=lambda path: str(path.relative_to(GIN_FOLDER)))
def test_every_gin_file_parses_and_names_a_map_there_is(path):
    # An algorithm's file leaves the map open, a map's file leaves the algorithm open; later files win.
    gin.parse_config_files_and_bindings(
        [*map(str, (GIN_FOLDER / "ippo.gin", GIN_FOLDER / "maps" / "3m.gin", path))], []
    )
    backend, name = environments.resolve(
        *(gin.query_parameter(f"environment.{key}") for key in ("map_name", "backend"))
    )
    assert name in environments.names(backend)
    assert gin.query_parameter("train.agent").configurable.name


ALGORITHM_FILES = [
    path
    for path in GIN_FILES
    if path.parent.name not in ("maps", "worlds")
    and path.stem not in ("common", "natural_gradient", "ppo", "rnn", "sc2", "value")
]
RECURRENT = ("coma", "iql", "maddpg", "vdn", "qmix")  # besides those that say so in their names
MAPS = {name: backend for backend in ("combat", "matrix_game") for name in environments.names(backend)}


@pytest.mark.parametrize("path", ALGORITHM_FILES, ids=lambda path: str(path.relative_to(GIN_FOLDER)))
def test_an_algorithms_file_makes_a_trainer(path, tmp_path):
    """Every setting in it is known and fits the others."""
    bindings = ["environment.num_envs = 4", "train.num_shards = 1"]
    gin.parse_config_files_and_bindings([str(path), str(GIN_FOLDER / "maps" / "3m.gin")], bindings)
    trainer = Trainer(world=environments.make(), root_dir=str(tmp_path))
    assert path.stem.endswith(gin.query_parameter("train.agent").configurable.name) or path.stem.endswith("_rnn")
    is_recurrent = bool(trainer.agent.collect_policy.policy_state_spec)
    assert is_recurrent == ("rnn" in path.stem or path.stem in RECURRENT or path.parent != GIN_FOLDER)


def test_every_map_has_a_gin_file_of_its_name():
    there_are = {path.stem for path in (GIN_FOLDER / "maps").glob("*.gin")}
    assert set(environments.names("combat")) <= there_are <= set(MAPS)


@pytest.mark.parametrize("map_name", [name for name in MAPS if (GIN_FOLDER / "maps" / f"{name}.gin").exists()])
def test_a_maps_gin_file_names_that_map(map_name):
    gin.parse_config_files_and_bindings([str(GIN_FOLDER / "maps" / f"{map_name}.gin")], [])
    assert gin.query_parameter("environment.map_name") == map_name


def test_the_gin_folder_does_not_shadow_the_gin_library():
    assert not list(GIN_FOLDER.rglob("__init__.py"))
    assert GIN_FOLDER not in pathlib.Path(gin.__file__).parents
