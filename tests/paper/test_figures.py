"""Plots show what their tables say."""

import numpy as np
import pandas as pd
import pytest

from tf_marl.paper import figures

EPOCHS = (1, 10, 50, 99)


@pytest.fixture
def table():
    """What `launch.figure` measures, made up: largest total variations that grow as 0.02 N, and 0.1 for one agent."""
    published = figures.published()
    settings = published[published.epoch.isin(EPOCHS)][["map", "num_agents", "clip_epsilon", "epoch"]]
    rows = []
    for seed in range(2):
        wide = settings.assign(seed=seed, ratio_min=0.8 - 0.1 * seed, ratio_max=1.5 + 0.5 * seed)
        num_agents = wide.num_agents
        sums = {f"{name}_max": (0.02 + 0.01 * seed) * num_agents for name in figures.QUANTITIES}
        rows.append(wide.assign(agent_tv_max=0.1, **sums))
    return pd.concat(rows, ignore_index=True)


@pytest.fixture
def percentiles(table):
    """Of the same settings: uniform distributions that end at the largest."""
    keys = ["map", "num_agents", "clip_epsilon", "epoch", "seed"]
    rows = []
    for quantity in ("agent_tv", *figures.QUANTITIES):
        columns = {f"p{p}": table[f"{quantity}_max"] * p / 100 for p in (0, 25, 50, 75, 100)}
        rows.append(table[keys].assign(quantity=quantity, **columns))
    return pd.concat(rows, ignore_index=True)


def of(rows, map_name=None, clip=None):
    if map_name:
        rows = rows[rows["map"] == map_name]
    return rows[rows.clip_epsilon == clip] if clip else rows


def curve(plot, label):
    (line,) = [line for line in plot.get_lines() if line.get_label() == label]
    return line


def styles_differ(plot):
    labelled = [line for line in plot.get_lines() if not line.get_label().startswith("_")]
    looks = [(str(line.get_linestyle()), line.get_marker()) for line in labelled]
    return len(set(looks)) == len(looks) > 1


def test_published_numbers_are_those_of_the_papers_learning_rate():
    published = figures.published()
    assert set(published.actor_learning_rate) == {5e-4}
    row = published[(published["map"] == "2s3z") & (published.clip_epsilon == 0.1) & (published.epoch == 99)]
    assert row.max_joint_tv_sum_mean.item() == 0.3492
    assert row.ratio_max_mean.item() == 1.4077


def test_figure_1a_shows_mean_and_range_of_the_ratios_beside_the_published_ones(table):
    drawing = figures.figure_1a(of(table, "2s3z"))
    plots = {plot.get_title(): plot for plot in drawing.axes if plot.get_title()}
    assert list(plots) == ["clip 0.1", "clip 0.3", "no clipping"]
    ours = curve(plots["clip 0.1"], "ours: mean and range over seeds")
    np.testing.assert_allclose(ours.get_ydata(), 1.75)
    band = plots["clip 0.1"].collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (1.5, 2.0)
    theirs = curve(plots["clip 0.1"], "published mean")
    assert theirs.get_ydata()[list(theirs.get_xdata()).index(99)] == 1.4077
    assert plots["clip 0.1"].get_ylabel()
    levels = [line.get_ydata()[0] for line in plots["clip 0.3"].get_lines() if line.get_linestyle() == ":"]
    np.testing.assert_allclose(levels, [0.7, 1.3])


def test_figure_1b_is_the_distribution_of_an_agents_tv_by_clip_range(percentiles):
    drawing = figures.figure_1b(of(percentiles, "2s3z"))
    assert [plot.get_title() for plot in drawing.axes] == ["epoch 10", "epoch 50", "epoch 99"]
    line = curve(drawing.axes[-1], "clip 0.3")
    np.testing.assert_allclose(line.get_xdata(), [0, 0.025, 0.05, 0.075, 0.1])
    np.testing.assert_allclose(line.get_ydata(), [0, 0.25, 0.5, 0.75, 1])
    (mark,) = [
        mark for mark in drawing.axes[-1].get_lines() if mark.get_marker() == "v" and mark.get_xdata() == [0.3916]
    ]
    assert mark.get_color() == pytest.approx(line.get_color())
    assert styles_differ(drawing.axes[0])


def test_figure_1c_shows_every_number_of_agents_and_a_line_against_it(percentiles, table):
    drawing = figures.figure_1c(of(percentiles, clip=0.1), of(table, clip=0.1))
    *distributions, against = drawing.axes
    assert [plot.get_title() for plot in distributions] == list(figures.QUANTITIES.values())
    labels = [line.get_label() for line in distributions[0].get_lines() if not line.get_label().startswith("_")]
    assert labels == ["2: 2s_vs_1sc", "3: 3s_vs_5z", "5: 2s3z", "9: 1c3s5z", "10: 10m_vs_11m"]
    points = curve(against, "joint TV itself: slope 0.0250, R² 1.00")
    np.testing.assert_allclose(points.get_ydata(), 0.025 * points.get_xdata())


def test_figure_1d_has_a_curve_for_each_epoch(percentiles):
    drawing = figures.figure_1d(of(percentiles, "2s3z", 0.1))
    for plot in drawing.axes:
        assert styles_differ(plot)
        np.testing.assert_allclose(curve(plot, "epoch 50").get_xdata()[-1], 5 * 0.025)


def test_the_straight_line_is_least_squares():
    rng = np.random.default_rng(0)
    num_agents = np.array([2, 3, 5, 9, 10])
    largest = 0.03 * num_agents + 0.05 + 0.01 * rng.normal(size=5)
    rows = pd.DataFrame({"num_agents": num_agents, "joint_tv_max": largest, "epoch": 99})
    fit = figures.linear_fit(pd.concat([rows, rows.assign(epoch=10, joint_tv_max=7.0)]), "joint_tv", 99)
    design = np.stack([num_agents, np.ones(5)], axis=1)
    (slope, intercept), residual, *_ = np.linalg.lstsq(design, largest)
    np.testing.assert_allclose([fit.slope, fit.intercept], [slope, intercept])
    np.testing.assert_allclose(fit.r_squared, 1 - residual[0] / ((largest - largest.mean()) ** 2).sum())


def test_comparison_divides_our_means_over_seeds_by_the_published_ones(table):
    compared = figures.compare(table)
    assert set(compared.epoch) == {10, 50, 99}
    row = compared[(compared["map"] == "2s3z") & (compared.clip_epsilon == 0.1) & (compared.epoch == 99)]
    assert row.agent_tv_ratio.item() == pytest.approx(0.1 / 0.1423)
    assert row.joint_tv_sum_ratio.item() == pytest.approx(0.025 * 5 / 0.3492)


@pytest.fixture
def history():
    rng = np.random.default_rng(0)
    distributions = {name: np.sort(rng.random((5, 101)), axis=1) for name in ("agent_tv", *figures.QUANTITIES)}
    return {"ratio_min": np.linspace(1, 0.5, 5), **distributions}


def test_epochs_of_an_update_are_shown_as_percentiles(history):
    drawing = figures.epochs(history, "title")
    for plot, name in zip(drawing.axes, ("agent_tv", *figures.QUANTITIES), strict=True):
        np.testing.assert_array_equal(plot.get_lines()[0].get_ydata(), history[name][:, 100])
        assert styles_differ(drawing.axes[0])
    table = figures.epochs_table(history)
    np.testing.assert_array_equal(table.ratio_min, history["ratio_min"])
    np.testing.assert_array_equal(table.joint_tv_p95, history["joint_tv"][:, 95])


def test_the_trust_region_over_training_is_shown_against_alpha():
    names = ("alpha", "joint_tv_max", "joint_tv_product_max", "joint_tv_sum_max", "agent_tv_max")
    updates = {f"trust_region/{name}": np.linspace(1 + i, 2 + i, 10) for i, name in enumerate(names)}
    drawing = figures.trust_region(pd.DataFrame({"env_steps": np.arange(10) * 100, **updates}), "try $_$")
    drawing.draw_without_rendering()  # where a title that is no formula would fail
    (plot,) = drawing.axes
    np.testing.assert_array_equal(curve(plot, "alpha").get_ydata(), updates["trust_region/alpha"])
    np.testing.assert_array_equal(curve(plot, "joint TV").get_ydata(), updates["trust_region/joint_tv_max"])
    np.testing.assert_array_equal(curve(plot, "joint TV").get_xdata(), np.arange(10) * 100)


def test_plots_are_written_as_pixels_and_as_vectors(history, tmp_path):
    png, svg = figures.write(figures.epochs(history, "a $_$ title"), tmp_path, "plot")
    assert png.read_bytes().startswith(b"\x89PNG")
    first = svg.read_text()
    assert "<svg" in first
    assert figures.write(figures.epochs(history, "a $_$ title"), tmp_path, "plot")[1].read_text() == first
