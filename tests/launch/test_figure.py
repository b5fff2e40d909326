"""Figures from the command line: run once, resumed where they stopped, drawn from tables alone."""

import io

import mlflow
import pandas as pd
import pytest

SMALL = (
    "--gin_bindings=environment.num_envs = 2",
    "--gin_bindings=ppo.hidden = (8,)",
    "--gin_bindings=ppo.rnn = 'none'",
)


@pytest.fixture(scope="module")
def figure(warm_launch, store_in, tmp_path_factory):
    """(*arguments) -> what figure 1b makes of one seed, small; its folder."""
    folder = tmp_path_factory.mktemp("figure")
    store = f"--tracking_uri={store_in(folder)}"

    def draw(*arguments):
        return warm_launch("launch.figure", "--seeds=1", f"--out={folder}/out", store, *SMALL, "--json", *arguments)

    draw.folder = folder / "out"
    draw.first = draw("--figure=1b")
    return draw


def test_a_figure_is_tables_and_plots_in_its_folder_and_in_mlflow(figure):
    result = figure.first.json()
    names = {"table.csv", "percentiles.csv", "figure_1b.png"}
    assert {path.name for path in figure.folder.iterdir()} == names
    client = mlflow.MlflowClient(f"sqlite:///{figure.folder.parent}/mlflow.db")
    assert {file.path for file in client.list_artifacts(result["run_id"])} == names
    assert client.get_run(result["run_id"]).info.status == "FINISHED"


def test_tables_hold_every_clip_range_from_the_same_start(figure):
    table = pd.read_csv(figure.folder / "table.csv")
    assert sorted(table.clip_epsilon.unique()) == [0.1, 0.2, 0.3, 0.4, 0.5, 10.0]
    assert set(table.groupby("clip_epsilon").epoch.count()) == {100}
    assert (table[table.epoch == 0].ratio_max == 1).all()
    before_any_clipping = table[table.epoch == 1]
    assert before_any_clipping.ratio_max.nunique() == 1
    assert before_any_clipping.agent_tv_max.iloc[0] > 0
    at_the_end = table[table.epoch == 99].set_index("clip_epsilon")
    assert at_the_end.agent_tv_max[0.1] < at_the_end.agent_tv_max[10.0]
    measured = table.dropna(subset="joint_tv_max")
    assert set(measured.epoch) == {1, 3, 10, 20, 50, 99}
    assert (measured.exact == 1).all()
    assert (measured.joint_tv_max <= measured.joint_tv_product_max + 1e-6).all()


@pytest.mark.slow
def test_what_is_in_the_table_is_not_run_again(figure):
    path = figure.folder / "table.csv"
    before = path.read_bytes()
    outcome = figure("--figure=1d")  # its setting is one of 1b's
    assert outcome.code == 0, outcome.stderr
    assert " of " not in outcome.stderr
    assert (figure.folder / "figure_1d.png").is_file()
    table = pd.read_csv(path)
    table[table.clip_epsilon != 0.3].to_csv(path, index=False)
    outcome = figure("--figure=1a")
    assert "1 of 1: 2s3z, seed 0" in outcome.stderr
    pd.testing.assert_frame_equal(
        pd.read_csv(path).sort_values(["clip_epsilon", "epoch"], ignore_index=True),
        pd.read_csv(io.BytesIO(before)).sort_values(["clip_epsilon", "epoch"], ignore_index=True),
    )
