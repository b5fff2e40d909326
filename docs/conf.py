"""Settings of the site: `make docs`. Pages are MyST Markdown, the API reference comes from the docstrings."""

import pathlib
import sys

import nbformat
from myst_parser.parsers.sphinx_ import MystParser

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tf_marl import __version__

project, author, release = "tf_marl", "the tf_marl authors", __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown", ".ipynb": "notebook"}
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = "tf_marl"
myst_heading_anchors = 3
default_role = "code"  # what stands between single backticks in a docstring
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes say more, and are in the text


class NotebookParser(MystParser):
    """Reads a notebook as a page: text as it is, code as blocks, no outputs."""

    supported = ("notebook",)

    def parse(self, inputstring, document):
        cells = nbformat.reads(inputstring, as_version=4).cells
        blocks = [cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```" for cell in cells]
        super().parse("\n\n".join(blocks), document)


def literal_formulas(app, what, name, obj, options, lines):
    """Makes indented blocks of a docstring's text, such as formulas and pictures, literal blocks.

    In Markdown they are; reStructuredText asks for a `::` before them and would call them quotations. It runs after
    napoleon, whose fields (`:param x: ...`) it leaves alone.
    """
    text = lines[:]
    lines.clear()
    inside_field = inside_block = False
    for i, line in enumerate(text):
        indented = line.startswith(" ")
        if line and not indented:
            inside_field, inside_block = line.startswith((":", "..")), False
        after_blank = i > 0 and not text[i - 1].strip()
        if indented and after_blank and not inside_field and not inside_block:
            inside_block = True
            previous = next((above for above in reversed(lines) if above.strip()), "")
            if not previous.endswith("::"):
                lines.extend(["::", ""])
        lines.append(line)


def setup(app):
    app.add_source_parser(NotebookParser)
    app.connect("autodoc-process-docstring", literal_formulas, priority=900)
