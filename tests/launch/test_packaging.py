"""What pip installs: the library, its gin files and its commands, from any directory and without the checkout."""

import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Callable

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent.parent
TF_AGENTS = "tf-agents==0.19.0"
TRAIN = """
from tf_marl import agents, environments, settings
from tf_marl.training import Trainer
settings.read(["ippo.gin", "maps/climbing.gin"], ["ppo.hidden = (16,)"])
world = environments.make("climbing", backend="matrix_game", num_envs=8)
trainer = Trainer(world, agents.ippo, root_dir="run", num_env_steps=64, rollout_steps=16, eval_episodes=2)
result = trainer.run()
print(result.env_steps, environments.load("3m").batch_size, environments.__file__)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> pathlib.Path:
    """Where the wheel and the source distribution are, built by the backend that pyproject.toml names."""
    folder = tmp_path_factory.mktemp("dist")
    for target in ("wheel", "sdist"):
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", folder],
            cwd=CHECKOUT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return folder


@pytest.fixture(scope="module")
def wheel(built) -> pathlib.Path:
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> pathlib.Path:
    """An interpreter that has the wheel installed, and of the checkout's environment all but the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    target = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], text=True
    ).strip()
    # The folder alone: what its own .pth files add, the checkout among it, is not followed.
    (pathlib.Path(target) / "others.pth").write_text(sysconfig.get_paths()["purelib"])
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    return python


@pytest.fixture
def run(python, tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """(program of the environment, *arguments) -> the ended process; it ran in an empty directory."""
    folder = tmp_path / "empty"
    folder.mkdir()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [python.parent / program, *arguments]
        return subprocess.run(command, cwd=folder, env=env | more, text=True, capture_output=True, timeout=300)

    return run


def modules(folder: str) -> set[str]:
    return {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / folder).rglob("*.py")}


def test_the_wheel_is_one_package_with_everything_in_it(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == {"tf_marl"}
    assert modules("tf_marl") <= names
    assert {f"tf_marl/{name}" for name in modules("launch")} <= names
    assert {f"tf_marl/{path.relative_to(CHECKOUT)}" for path in (CHECKOUT / "gin").rglob("*.gin")} <= names
    assert {"tf_marl/py.typed", "tf_marl/data/figure_1_published.csv"} <= names
    assert any(name.startswith("tf_marl/environments/combat/replay/web/") for name in names)


def test_the_source_distribution_can_be_built_from_and_tested(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "Makefile", "requirements.lock", "gin/ippo.gin"} <= names
    assert modules("tf_marl") | modules("launch") | modules("tests") <= names
    assert not any(name.startswith("mlflow_artifacts/results") for name in names)


def imported_distributions() -> set[str]:
    """Distributions that the code imports from, the standard library and this project left out."""
    sources = "\n".join((CHECKOUT / name).read_text() for folder in ("tf_marl", "launch") for name in modules(folder))
    tops = {name.partition(".")[0] for name in re.findall(r"^\s*(?:from|import) ([\w.]+)", sources, re.MULTILINE)}
    known = importlib.metadata.packages_distributions()
    return {
        re.sub(r"[-_.]+", "-", distribution).lower()
        for top in tops - set(sys.stdlib_module_names) - {"tf_marl", "launch"}
        for distribution in sorted(known.get(top, ()), key=len)[:1]  # mlflow, not the mlflow-skinny beneath it
    }


def test_what_is_imported_is_required():
    with open(CHECKOUT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    texts = project["dependencies"] + extras["sc2"] + extras["worlds"]
    required = {re.split(r"[^\w.-]", text)[0].lower().replace("_", "-") for text in texts}
    assert "tf-agents" not in required  # pip would refuse its pins
    # gym's notices are gym's own; smac is on no package index, and JAX runs what we export on machines without us.
    assert imported_distributions() - required == {"tf-agents", "gym-notices"}


def test_the_library_trains_from_any_directory_and_prints_nothing_of_its_own(run):
    ended = run("python", "-c", TRAIN)
    assert ended.returncode == 0, ended.stderr
    env_steps, batch_size, file = ended.stdout.split()
    assert int(env_steps) >= 64
    assert batch_size == "1"
    assert not pathlib.Path(file).is_relative_to(CHECKOUT)
    assert ended.stderr == ""


def test_the_commands_work_from_any_directory(run, tmp_path):
    files = ("--gin_file=ippo.gin", "--gin_file=maps/climbing.gin")
    ended = run(
        "tf-marl", "train", *files, "--gin_bindings=train.num_env_steps = 100", "--noregister", "--noreplay", "--json"
    )
    assert ended.returncode == 0, ended.stderr
    (root_dir,) = (tmp_path / "empty" / "mlflow_artifacts" / "runs").iterdir()
    assert (tmp_path / "empty" / "mlflow_artifacts" / "mlflow.db").is_file()
    played = run("tf-marl", "evaluate", f"--root_dir={root_dir}", "--episodes=2")
    assert "2 episodes: optimal" in played.stdout, played.stderr


def test_a_command_that_does_not_exist_is_one_line_and_help_lists_them_all(run):
    wrong = run("tf-marl", "trian")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert re.fullmatch(r"error: tf-marl trian: no such command; choose one of: .*\btrain\b.*\n", wrong.stderr)
    helped = run("tf-marl", "--help")
    assert {path.stem for path in (CHECKOUT / "launch").glob("*.py")} - {"__init__", "app"} <= set(
        re.findall(r"\w+", helped.stdout)
    )
    assert "--gin_file" in run("tf-marl", "train", "--help").stdout


@pytest.mark.parametrize(
    "program", [("tf-marl", "train", "--gin_file=ippo.gin"), ("python", "-c", "import tf_marl.training")]
)
def test_a_missing_tf_agents_says_how_to_install_it(program, run, tmp_path):
    blocks = tmp_path / "blocks"
    blocks.mkdir()
    (blocks / "sitecustomize.py").write_text(
        "import importlib.machinery as m\n"
        "found = m.PathFinder.find_spec\n"
        "m.PathFinder.find_spec = staticmethod(\n"
        "    lambda name, *more: None if name == 'tf_agents' else found(name, *more)\n"
        ")\n"
    )
    ended = run(*program, PYTHONPATH=str(blocks))
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert f"pip install --no-deps {TF_AGENTS}" in last
    if program[0] == "tf-marl":
        assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_two_pip_commands_in_a_fresh_environment(wheel, tmp_path):
    """pip itself resolves, downloads and installs everything; needs the package index."""
    venv.create(tmp_path / "env", with_pip=True, symlinks=True)
    folder, bin_ = tmp_path / "empty", tmp_path / "env" / "bin"
    folder.mkdir()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command) -> str:
        ended = subprocess.run(command, cwd=folder, env=env, text=True, capture_output=True)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    run(bin_ / "pip", "install", "--no-deps", TF_AGENTS)
    run(bin_ / "pip", "install", wheel)
    run(bin_ / "python", "-c", TRAIN)
    run(bin_ / "tf-marl", "doctor")
    learned = run(bin_ / "tf-marl", "train", "--gin_file=ippo.gin", "--gin_file=maps/3m.gin")
    assert float(re.search(r"wins (\d+)%", learned)[1]) >= 90
