"""The theorems' table from the command line."""

import json
import shutil

import mlflow
import pandas as pd
import pytest

from tf_marl.dec_mdp.statements import READINGS


@pytest.fixture(scope="module")
def theory(warm_launch, store_in, tmp_path_factory):
    """A quick run: its outcome; its folder is `theory.folder`."""
    folder = tmp_path_factory.mktemp("theory")
    store = f"--tracking_uri={store_in(folder)}"
    return folder, warm_launch("launch.theory", "--quick", f"--out={folder}/out", store, "--json")


def test_the_table_leaves_no_statement_out(theory):
    folder, outcome = theory
    rows = outcome.json()["statements"]
    assert [(row["statement"], row["reading"]) for row in rows[:-2]] == [reading[:2] for reading in READINGS]
    assert all(row["reading"].startswith("PPO's updates with") for row in rows[-2:])
    for row in rows:
        verdict = row["verdict"]
        assert verdict == "held" or verdict.startswith(("violated (witness", "holds only if"))
        if "(witness" in verdict and "csv" not in verdict:
            name = verdict.partition("(witness ")[2].rstrip(")")
            record = json.loads((folder / "out" / "witnesses" / name).read_text())
            assert (record["statement"], record["reading"]) == (row["statement"], row["reading"])
    table = pd.read_csv(folder / "out" / "statements.csv")
    assert list(table.verdict) == [row["verdict"] for row in rows]
    page = (folder / "out" / "theory.md").read_text()
    assert all(row["reading"].replace("|", "\\|") in page for row in rows)


def test_tables_plots_and_witnesses_are_in_mlflow(theory):
    folder, outcome = theory
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    names = {path.name for path in (folder / "out").rglob("*") if path.is_file()}
    plots = {"monotonicity.png", "joint_tv.png", "certificate.png", "curves.png"}
    assert {"theory.md", "statements.csv", "learning.csv", "curves.csv"} | plots <= names
    assert {file.path for file in client.list_artifacts(outcome.json()["run_id"])} == names
    assert client.get_run(outcome.json()["run_id"]).info.status == "FINISHED"


def test_page_and_plots_are_drawn_again_from_the_tables_alone(theory, warm_launch, tmp_path):
    folder, outcome = theory
    for path in (folder / "out").glob("*.csv"):
        shutil.copy(path, tmp_path)
    again = warm_launch(
        "launch.theory", "--draw", f"--out={tmp_path}", f"--tracking_uri=sqlite:///{folder}/mlflow.db", "--json"
    )
    assert again.json()["statements"] == outcome.json()["statements"]
    drawn = {path.name for path in (folder / "out").glob("*.*")}
    assert {path.name for path in tmp_path.glob("*.*")} == drawn
    assert all((tmp_path / name).read_bytes() == (folder / "out" / name).read_bytes() for name in drawn)


def test_backtracking_is_never_beyond_alpha(theory):
    learned = pd.read_csv(theory[0] / "out" / "learning.csv")
    assert (learned[learned.rule == "backtrack"].beyond_alpha == 0).all()
    assert set(learned.num_agents) == {2, 3}


def test_a_folder_that_cannot_be_written_is_refused(warm_launch, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = warm_launch("launch.theory", "--quick", f"--out={tmp_path}/file/below")
    assert outcome.code == 2
    assert outcome.stderr.startswith("error: --out=")
