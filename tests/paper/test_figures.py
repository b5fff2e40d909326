"""Plots show what their tables say."""

import numpy as np
import pandas as pd
import pytest

from tf_marl.paper import figures
from tf_marl.plots import JOINT_TVS


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
    assert [plot.get_title() for plot in distributions] == list(JOINT_TVS.values())
    labels = [line.get_label() for line in distributions[0].get_lines() if not line.get_label().startswith("_")]
    assert labels == ["2: 2s_vs_1sc", "3: 3s_vs_5z", "5: 2s3z", "9: 1c3s5z", "10: 10m_vs_11m"]
    points = curve(against, "joint TV itself: slope 0.0250, R² 1.00")
    np.testing.assert_allclose(points.get_ydata(), 0.025 * points.get_xdata())


def test_figure_1d_has_a_curve_for_each_epoch(percentiles):
    drawing = figures.figure_1d(of(percentiles, "2s3z", 0.1))
    for plot in drawing.axes:
        assert styles_differ(plot)
        np.testing.assert_allclose(curve(plot, "epoch 50").get_xdata()[-1], 5 * 0.025)


def test_figure_alpha_has_a_panel_for_each_measure_that_was_recorded():
    setting = {"algorithm": "ippo", "map": "3m", "num_agents": 3, "env_steps": 1000}
    runs = [setting | {"rule": rule, "seed": seed} for rule in ("0.1", "alpha / sqrt(N)") for seed in range(2)]
    values = {metric: 0.1 * (1 + i) for i, (metric, _) in enumerate(figures.METRICS.values())}
    curves = pd.DataFrame(runs).assign(**values)
    titles = ["sum bound (the paper's)", "product bound", "Hellinger bound", "joint TV, Monte Carlo"]
    drawing = figures.by_team_size(curves, "title")
    assert [plot.get_title() for plot in drawing.axes][:-1] == titles
    assert {text.get_text() for text in drawing.axes[0].get_legend().get_texts()} == {"clip 0.1", "alpha / sqrt(N)"}
    metric, _ = figures.METRICS["hellinger"]
    middles = [container.lines[0].get_ydata() for container in drawing.axes[2].containers]
    np.testing.assert_allclose(middles, np.full([2, 1], values[metric]))
    for old in (curves.drop(columns=metric), curves.assign(**{metric: np.nan})):
        shown = [plot.get_title() for plot in figures.by_team_size(old, "title").axes]
        assert shown[:-1] == [title for title in titles if title != "Hellinger bound"]
        learning = figures.learning_curves(old, ("sum", "hellinger", "return"), "map", "rule", "title")
        assert len(learning.axes) == 2


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
