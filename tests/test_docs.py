"""The documentation is true: its code runs, and its commands, flags, files and links exist."""

import functools
import pathlib
import re
import shlex
import subprocess
import sys

import gin
import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
COMMAND = re.compile(r"(?:^    |`)tf-marl ([a-z_]+)([^`\n#|]*)", re.MULTILINE)
A_RUNS_OWN = "config.gin"
SHORTER = {"num_envs=128": "num_envs=4", "num_env_steps=1_000_000": "num_env_steps=500", "episodes=64": "episodes=32"}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: pathlib.Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: pathlib.Path) -> list[tuple[str, list[str]]]:
    """The commands that a page shows: (COMMAND, its arguments)."""
    return [(name, shlex.split(rest)) for name, rest in COMMAND.findall(page.read_text("utf-8"))]


@functools.cache
def flags_of(command: str) -> frozenset[str]:
    """The flags that a command has, as its help lists them, those that switch something off too."""
    done = subprocess.run(
        [sys.executable, "-m", f"launch.{command}", "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, f"there is no command {command}: {done.stderr}"
    found = re.findall(r"^\s+--(\[no\])?(\w+)", done.stdout, re.MULTILINE)
    return frozenset(prefix + name for can_be_off, name in found for prefix in (("", "no") if can_be_off else ("",)))


def parse_with_gin(*settings: str) -> None:
    """Has gin read settings on top of an algorithm and a map."""
    from tf_marl import agents, environments  # noqa: F401 - they make names known to gin
    from tf_marl.training import train  # noqa: F401

    gin.add_config_file_search_path(str(ROOT / "gin"))
    gin.parse_config_files_and_bindings([str(ROOT / "gin/ippo.gin"), str(ROOT / "gin/maps/3m.gin")], [*settings])


def test_the_readme_is_read_at_one_sitting():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize(
    "page",
    # README begins as library.md does, and is enough for every day.
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.name == "library.md" else [], id=page.name)
        for page in PAGES
        if blocks(page, "python")
    ],
)
def test_its_python_runs(page, tmp_path, monkeypatch, clean_gin):
    """The blocks of a page one after the other, on fewer battles and for fewer env steps."""
    monkeypatch.chdir(tmp_path)
    if page.name == "worlds.md":
        pytest.importorskip("mpe2", reason="the extra `worlds` is not there")
    if page.name == "serving.md":
        _export_to("EXPORTED/VERSION")
    names: dict = {}
    for block in blocks(page, "python"):
        for long, short in SHORTER.items():
            block = block.replace(long, short)
        exec(compile(block, str(page), "exec"), names)


def _export_to(folder: str) -> None:
    """Exports a team for 3m that has learned nothing."""
    from tf_marl import agents, environments, export

    world = environments.make("3m")
    agent = agents.ippo(world.time_step_spec, world.action_spec, hidden=(8,))
    export.save(agent, pathlib.Path(folder).parent, env_steps=0).rename(folder)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "ini")], ids=lambda page: page.name)
def test_its_settings_are_read_by_gin(page, clean_gin):
    for block in blocks(page, "ini"):
        gin.clear_config()
        parse_with_gin(block)


@every_page
def test_its_commands_flags_and_gin_files_exist(page, clean_gin):
    for command, arguments in commands(page):
        assert (ROOT / "launch" / f"{command}.py").is_file(), f"there is no command {command}"
        for argument in arguments:
            if not argument.startswith("--"):
                continue
            name, _, value = argument.removeprefix("--").partition("=")
            assert name in flags_of(command), f"tf-marl {command} has no --{name}"
            if name == "gin_file":
                assert (ROOT / "gin" / value).is_file() or (ROOT / value).is_file(), value
            if name == "gin_bindings":
                gin.clear_config()
                parse_with_gin(value)


@every_page
def test_a_flag_that_it_names_is_one_of_some_command(page):
    known = frozenset({"help"}).union(*(flags_of(command) for each in PAGES for command, _ in commands(each)))
    named = set(re.findall(r"`--([a-z]\w*)", page.read_text("utf-8")))
    assert named <= known, named - known


@every_page
def test_files_that_it_names_exist(page):
    text = page.read_text("utf-8")
    paths = re.findall(r"`((?:tf_marl|launch|tests|gin|docs/examples|mlflow_artifacts/results)/[\w./-]*)`", text)
    settings = set(re.findall(r"`([\w/]+\.gin)`", text)) - {A_RUNS_OWN}
    missing = [path for path in paths if not (ROOT / path).exists()]
    missing += [path for path in settings if not (ROOT / "gin" / path).is_file() and not (ROOT / path).is_file()]
    assert not missing


@every_page
def test_its_make_targets_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^    |`|\(|\w=\w+ )make ([a-z][\w-]*)", page.read_text("utf-8"), re.MULTILINE))
    assert named <= targets, named - targets


@every_page
def test_its_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith("http"):
            continue
        path, _, heading = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if heading:
            assert heading in _anchors(there), target


def _anchors(page: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", tmp_path / "doctrees"]
    done = subprocess.run([*command, DOCS, tmp_path / "html"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "api" / "tf_marl.agents.html").is_file()
