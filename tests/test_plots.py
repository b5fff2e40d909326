"""What all plots share."""

import itertools

from PIL import Image

from tf_marl import plots


def drawing():
    figure, [plot] = plots.panels(1, 1)
    plot.plot([0, 1], label="a label")
    plot.legend()
    return figure


def test_plots_are_written_as_small_png_files_and_equal_plots_as_equal_files(tmp_path):
    path = plots.write(drawing(), tmp_path, "plot")
    assert path == tmp_path / "plot.png"
    picture = Image.open(path)
    assert (picture.format, picture.mode) == ("PNG", "P")
    first = path.read_bytes()
    assert plots.write(drawing(), tmp_path, "plot").read_bytes() == first


def test_colors_differ_in_lightness():
    lightness = plots.colors(6)[:, :3] @ (0.299, 0.587, 0.114)
    assert all(darker < lighter for darker, lighter in itertools.pairwise(lightness))
