"""Settings of the site: `make docs`. Pages are MyST Markdown, the API reference comes from the docstrings."""

import pathlib
import re
import shutil
import sys

import nbformat
from myst_parser.parsers.sphinx_ import MystParser

DOCS = pathlib.Path(__file__).resolve().parent
CHECKOUT = DOCS.parent
sys.path.insert(0, str(CHECKOUT))

project, author = "tf_marl", "the tf_marl authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown", ".ipynb": "notebook"}
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = "tf_marl"
html_show_copyright = False
highlight_language = "none"  # of blocks that name none: commands and formulas
myst_heading_anchors = 3
default_role = "code"  # what stands between single backticks in a docstring
autoclass_content = "both"  # with what __init__ says of its arguments
autodoc_default_options = {"ignore-module-all": True}  # everything has one place: the module that defines it
autodoc_mock_imports = ["gymnasium", "jax", "jaxmarl", "pettingzoo"]  # which need not be there
autodoc_inherit_docstrings = False  # Keras' are long, and not about us
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # shapes say more, and are in the text

# What pages link to outside of docs/ becomes part of the site: it is copied into docs/_outside/.
OUTSIDE = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "mlflow_artifacts/results"]


def copy_outside(app):
    shutil.rmtree(DOCS / "_outside", ignore_errors=True)
    for name in OUTSIDE:
        source, copy = CHECKOUT / name, DOCS / "_outside" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, copy)


def redirect_links(app, docname, source):
    """Leads links between docs/ and what is outside of it to the copies."""
    if docname.startswith("_outside/"):
        source[0] = "---\norphan: true\n---\n" + re.sub(r"\]\(docs/", "](../", source[0])
    else:
        source[0] = re.sub(r"\]\(\.\./(README|CONTRIBUTING|CHANGELOG|mlflow_artifacts)", r"](_outside/\1", source[0])


class NotebookParser(MystParser):
    """Reads a notebook as a page: text as it is, code as blocks, no outputs."""

    supported = ("notebook",)

    def parse(self, inputstring, document):
        cells = nbformat.reads(inputstring, as_version=4).cells
        blocks = [cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```" for cell in cells]
        super().parse("\n\n".join(blocks), document)


def plain_docstrings(app, what, name, obj, options, lines):
    """Turns a docstring as one writes it for an editor into reStructuredText. It runs after napoleon.

    Paragraphs that begin indented, such as formulas, become literal blocks. Hanging indents and `Name: ...` begin
    paragraphs of their own. Outside of backticks `|`, `*` and `_` are no markup.
    """
    paragraphs = re.split(r"\n[ \t]*\n", "\n".join(lines).strip("\n"))
    text, in_field, in_literal = [], False, False
    for paragraph in paragraphs:
        rows = paragraph.split("\n")
        if not rows[0].startswith(" "):
            in_field = rows[0].startswith((":", ".."))
        if rows[0].startswith(" ") and not in_field:
            text += ([] if in_literal else ["::", ""]) + [f"    {row}" for row in rows]
            in_literal = True
        else:
            in_literal = False
            fields = next((i for i, row in enumerate(rows) if row.startswith(":") or in_field), len(rows))
            is_markup = rows[0].startswith(("=", "-", "*"))
            text += [_escaped(row) for row in (rows[:fields] if is_markup else _hanging(rows[:fields]))]
            text += ["", *map(_escaped, rows[fields:])]
        text.append("")
    lines[:] = text


def _hanging(rows):
    """Puts a blank line before each entry of a list whose entries go on with an indent."""
    is_list = any(row.startswith(" ") for row in rows)
    for before, row in zip([None, *rows], rows, strict=False):
        names_something = re.match(r"[A-Z]\w*( \w+)?(:| ?\()", row)
        if before and is_list and not row.startswith(" ") and (names_something or before.startswith(" ")):
            yield ""
        yield row.strip()


def _escaped(row):
    """Escapes what would be markup, outside of backticks."""
    parts = re.split(r"(`[^`]*`)", row)
    markup = r"(?<!\\)(\||\*+(?=[a-z])|(?<=\w)_(?!\w))"
    parts[::2] = [re.sub(markup, lambda found: "\\" + "\\".join(found[0]), part) for part in parts[::2]]
    return "".join(parts)


def skip_fields(app, what, name, obj, skip, options):
    """Leaves out a named tuple's fields, which its signature lists and Python describes as aliases for numbers."""
    return True if (obj.__doc__ or "").startswith("Alias for field number") else None


def setup(app):
    app.add_source_parser(NotebookParser)
    app.connect("builder-inited", copy_outside, priority=100)
    app.connect("source-read", redirect_links)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-docstring", plain_docstrings, priority=900)
