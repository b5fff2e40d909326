"""Sweeps and the figures drawn from them, from the command line: stopped and resumed, with a run that fails."""

import re
import signal

import mlflow
import pandas as pd
import pytest

from tf_marl import environments
from tf_marl.experiments import sweep
from tf_marl.places import STORE_FOLDER

LAPTOP = "paper/laptop.gin"
GIN = """
sweep.grids = [{"algorithm": ["ippo"], "map": ["3m"], "rule": ["broken", 0.1]}]
sweep.rules = {"broken": ["ppo.num_minibatches = 1000"]}
sweep.seeds = 1
sweep.only = {"map": ["3m"]}
sweep.bindings = [
    "train.num_env_steps = 300",
    "train.rollout_steps = 8",
    "train.eval_episodes = 2",
    "train.num_shards = 1",
    "environment.num_envs = 4",
    "ppo.hidden = (8,)",
]
"""

pytestmark = pytest.mark.usefixtures("clean_gin")


@pytest.fixture(scope="module")
def swept(launch, store_in, tmp_path_factory):
    """(*arguments) -> what the sweep came to; its folder."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "sweep.gin").write_text(GIN)
    store = f"--tracking_uri={store_in(folder)}"

    def start(*arguments, **options):
        where = ("--gin_file=sweep.gin", "--out=out", store, "--processes=1", "--json")
        return launch("launch.sweep", *where, *arguments, cwd=folder, **options)

    start.folder = folder
    start.stopped = start(send_after=("1 of 2", signal.SIGTERM))  # while the other run is under way
    start.resumed = start()
    return start


def test_a_run_that_fails_stops_no_other_and_is_told_at_the_end(swept):
    outcome = swept.resumed
    assert outcome.code == 1
    *_, last = outcome.stderr.strip().splitlines()
    assert last.startswith("failed: ippo_3m_broken_seed0: error: num_minibatches")
    (run,) = pd.read_csv(swept.folder / "out" / "runs.csv").to_dict("records")
    assert (run["rule"], run["num_agents"]) == (0.1, 3)
    assert run["env_steps"] >= 300
    curves = pd.read_csv(swept.folder / "out" / "curves.csv")
    assert curves["trust_region/joint_tv_max"].notna().sum() >= 300 / (4 * 8)
    assert curves["eval/return_mean"].notna().sum() >= 1


def test_a_report_is_written_from_the_tables_of_a_sweep(swept, launch):
    outcome = launch("launch.report", "--sweep=out", "--map=3m", "--json", cwd=swept.folder)
    told = outcome.json()
    assert told["out"] == str(swept.folder / "out" / "report")
    assert {"report.md", "maps.tex", "marl_eval.json", "learning_curves.png"} <= set(told["files"])
    (row,) = pd.read_csv(swept.folder / "out" / "report" / "maps.csv").to_dict("records")
    assert (row["algorithm"], row["seeds"]) == ("ippo", 1)
    assert 0.0 <= row["best_won"] <= 1.0
    assert "# Training runs" in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["--sweep=nowhere"],
            "error: --sweep=nowhere: there is no runs.csv in it; tf-marl sweep --out=nowhere writes it",
        ),
        (["--sweep=out", "--map=8m"], "error: --map=8m: no run has it; choose among 3m"),
    ],
)
def test_a_report_refuses_what_is_not_there(swept, launch, arguments, error):
    outcome = launch("launch.report", *arguments, cwd=swept.folder)
    assert (outcome.code, outcome.stderr.strip()) == (2, error)


def test_a_sweep_that_is_stopped_goes_on_where_it_was(swept):
    assert swept.stopped.code == 143
    assert "2 runs, 0 of them done" in swept.stopped.stdout
    later = re.findall("2 of 2: .*", swept.stopped.stderr)  # none if it had not begun
    assert all("ippo_3m_0.1_seed0: stopped" in line for line in later)
    assert "2 of 2: ippo_3m_0.1_seed0" in swept.resumed.stderr
    outcome = swept("--dry_run")
    assert outcome.code == 0, outcome.stderr
    (command,) = [line for line in outcome.stdout.splitlines() if line.startswith("tf-marl train")]
    assert "num_minibatches = 1000" in command
    assert "2 runs, 1 of them done; the rest may take 0:0" in outcome.stdout


def test_runs_are_children_of_one_mlflow_run(swept):
    client = mlflow.MlflowClient(f"sqlite:///{swept.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("tf_marl")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"out", "ippo_3m_0.1_seed0"}
    parent, child = runs["out"], runs["ippo_3m_0.1_seed0"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.status == "FINISHED"
    assert parent.info.status == "FAILED"
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {"runs.csv", "curves.csv"}


def test_a_figure_of_runs_that_are_there_is_drawn_and_the_claims_are_judged(swept, launch):
    bindings = [f"--gin_bindings={line}" for line in GIN.replace(",\n", ",").replace("[\n", "[").splitlines() if line]
    arguments = ("--figure=2", f"--out={swept.folder}/out", f"--tracking_uri=sqlite:///{swept.folder}/mlflow.db")
    outcome = launch("launch.figure", *arguments, *bindings, "--notrain", "--json", cwd=swept.folder)
    result = outcome.json()
    assert (result["figures"], result["wanted"]) == ({"2": 1}, {"2": 2})
    assert result["verdicts"]["The range of ratios grows with epochs"] == "supported"  # figure 1's data
    assert result["verdicts"]["IPPO and MAPPO are equivalent"] == "undecided"
    names = {"figure_2.png", "verdicts.csv", "verdicts.md"}
    assert names <= {path.name for path in (swept.folder / "out").iterdir()}


@pytest.mark.parametrize("scale", ["quick", "laptop", "paper"])
def test_the_papers_figures_share_runs_at_every_scale(scale):
    names = (*"2345678", "alpha")
    figures = {name: sweep.read([f"paper/figure_{name}.gin", f"paper/{scale}.gin"]) for name in names}
    assert all(figures.values())
    assert set(figures["2"]) <= set(figures["4"])
    assert set(figures["3"]) & set(figures["2"])
    assert set(figures["7"]) & set(figures["5"])
    distinct = {run for runs in figures.values() for run in runs}
    assert len({run.name for run in distinct}) == len(distinct)  # so that no two runs have one folder


def test_the_runs_in_the_repository_are_those_of_the_papers_figures():
    wanted = {run for name in (*"2345678", "alpha") for run in sweep.read([f"paper/figure_{name}.gin", LAPTOP])}
    tables = sweep.open_tables(STORE_FOLDER / "results" / "paper" / "laptop")
    missing = sweep.missing(sorted(wanted), tables)  # which finds none of other settings
    assert len(wanted) - len(missing) == len(tables["runs"]) == 288


def test_the_benchmark_is_two_algorithms_on_every_map():
    maps = environments.map_names()
    found = sweep.read(["benchmark/smac.gin"])
    assert {run.map for run in found} == set(maps)
    assert {run.algorithm for run in found} == {"ippo", "mappo"}
    assert len({run.name for run in found}) == len(found) == len(maps) * 2 * 3


@pytest.mark.parametrize(
    ("binding", "error"),
    [
        ("sweep.grids = [{'map': ['3m']}]", "sweep.grids: each has the axes algorithm, map, rule, not map"),
        ("sweep.grids = [{'algorithm': ['ipo'], 'map': ['3m'], 'rule': [0.1]}]", "ipo.gin: no such file"),
        ("sweep.sedes = 1", "doesn't have a parameter named 'sedes'"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_told_in_a_line(binding, error):
    with pytest.raises(ValueError, match=re.escape(error)):
        sweep.read(["paper/figure_2.gin"], [binding])


def test_a_damaged_journal_of_a_sweep_is_named_and_what_to_do_about_it(warm_launch, store_in, tmp_path):
    (tmp_path / "sweep.gin").write_text(GIN)
    journal = tmp_path / "out" / "runs" / "tracking" / "journal.jsonl"
    journal.parent.mkdir(parents=True)
    journal.touch()
    where = (f"--gin_file={tmp_path}/sweep.gin", f"--out={tmp_path}/out", f"--tracking_uri={store_in(tmp_path)}")
    outcome = warm_launch("launch.sweep", *where)
    assert outcome.code == 2
    assert f"error: --out={tmp_path}/out: {journal}, line 1: " in outcome.stderr
    assert f"move {journal.parent} elsewhere" in outcome.stderr
