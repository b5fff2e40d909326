"""What all plots share."""

import itertools

from tf_marl import plots


def drawing():
    figure, [plot] = plots.panels(1, 1)
    plot.plot([0, 1], label="a label")
    plot.legend()
    return figure


def test_plots_are_written_as_pixels_and_as_vectors(tmp_path):
    png, svg = plots.write(drawing(), tmp_path, "plot")
    assert png.read_bytes().startswith(b"\x89PNG")
    first = svg.read_text()
    assert "<svg" in first
    assert plots.write(drawing(), tmp_path, "plot")[1].read_text() == first


def test_colors_differ_in_lightness():
    lightness = plots.colors(6)[:, :3] @ (0.299, 0.587, 0.114)
    assert all(darker < lighter for darker, lighter in itertools.pairwise(lightness))
