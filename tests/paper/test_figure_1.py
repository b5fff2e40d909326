"""Figure 1 from its tables: what they lack, and what is drawn of them."""

import pandas as pd
import pytest

from tf_marl.paper import figure_1, published
from tf_marl.plots import JOINT_TVS


def put(folder, table, percentiles):
    table.to_csv(folder / "table.csv", index=False)
    percentiles.to_csv(folder / "percentiles.csv", index=False)
    return figure_1.open_tables(folder)


def test_what_the_tables_lack_is_asked_for_start_by_start(tmp_path):
    nothing = figure_1.open_tables(tmp_path)
    everything = figure_1.missing("1a", 2, nothing)
    assert everything == [figure_1.FirstUpdates("2s3z", seed, figure_1.CLIPS) for seed in (0, 1)]
    assert {updates.map for updates in figure_1.missing("1c", 1, nothing)} == set(figure_1.MAPS)
    keys = [("2s3z", clip, 0) for clip in figure_1.CLIPS if clip != 0.3]
    rows = pd.DataFrame(keys, columns=["map", "clip_epsilon", "seed"])
    tables = put(tmp_path, rows, rows)
    assert figure_1.missing("1a", 1, tables) == [figure_1.FirstUpdates("2s3z", 0, (0.3,))]
    assert figure_1.missing("1d", 1, tables) == []
    assert figure_1.missing("1d", 2, tables) == [figure_1.FirstUpdates("2s3z", 1, (0.1,))]


def test_all_of_it_is_drawn_and_held_against_the_paper(table, percentiles, tmp_path):
    result, files = figure_1.draw(figure_1.WHOLE, 2, put(tmp_path, table, percentiles))
    assert result["panels"] == ["1a", "1b", "1c", "1d"]
    assert set(result["fits"]) == set(JOINT_TVS)
    assert result["fits"]["joint_tv"]["slope"] == pytest.approx(0.025)
    assert {path.name for path in files} == {path.name for path in tmp_path.iterdir()}
    page = (tmp_path / "figure_1.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in page.splitlines()]
    assert sum(row[:2] == ["2s3z", "5"] for row in rows) == len(published.EPOCHS_COMPARED) * 3
    assert ["2s3z", "5", "none", "99"] in rows


def test_a_measure_that_old_tables_lack_is_left_out(table, percentiles, tmp_path):
    old = table.drop(columns="joint_tv_hellinger_max"), percentiles[percentiles.quantity != "joint_tv_hellinger"]
    result, _ = figure_1.draw(figure_1.WHOLE, 2, put(tmp_path, *old))
    assert set(result["fits"]) == JOINT_TVS.keys() - {"joint_tv_hellinger"}
    assert "Hellinger" not in (tmp_path / "figure_1.md").read_text("utf-8")


def test_the_page_names_the_seeds_that_there_are(table, percentiles, tmp_path):
    figure_1.draw(figure_1.WHOLE, 5, put(tmp_path, table, percentiles))
    assert "`tf-marl figure --figure=1 --seeds=2`" in (tmp_path / "figure_1.md").read_text("utf-8")


def test_what_was_not_measured_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match="nothing that figure 1b shows"):
        figure_1.draw("1b", 2, figure_1.open_tables(tmp_path))
