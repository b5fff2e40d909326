"""What is public says what it does, and of what shapes: held to by a look at the source, which imports nothing."""

import ast
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = sorted([*(ROOT / "tf_marl").rglob("*.py"), *(ROOT / "launch").rglob("*.py")])
# Annotations of what has a shape.
ARRAYS = re.compile(r"Tensor|ndarray|Logits|Rollout|Batch|TimeStep")
SHAPES = re.compile(r"\[[^\]]*\]|\bscalar|\bshape", re.IGNORECASE)
# Words that end like a verb's third person and are none.
NOUNS = re.compile(
    "Actions|Agents|Arguments|Arrays|Axes|Bits|Bounds|Bytes|Facts|Files|Floats|Indices|Losses|Means|Megabytes|Metrics|"
    "Microseconds|Names|Numbers|Observations|Outcomes|Probabilities|Ratios|Rewards|Rows|Seconds|Settings|Shares|Specs|"
    "States|Steps|Successors|Sums|Tensors|Terms|This|Units|Values|Variables|Weights|Worlds"
)


class Public(NamedTuple):
    """Something that a user may call or read, and its documentation."""

    name: str
    node: ast.ClassDef | ast.FunctionDef
    inherits: bool  # the class it belongs to has a base, which may document it

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or ""

    @property
    def handles_arrays(self) -> bool:
        if isinstance(self.node, ast.ClassDef):
            return False
        arguments = self.node.args
        annotated = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        annotations = [argument.annotation for argument in annotated] + [self.node.returns]
        return any(ARRAYS.search(ast.unparse(annotation)) for annotation in annotations if annotation)


def publics(path: pathlib.Path) -> Iterator[Public]:
    def of(body: list[ast.stmt], prefix: str, inherits: bool) -> Iterator[Public]:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                name = f"{prefix}{node.name}"
                yield Public(name, node, inherits)
                if isinstance(node, ast.ClassDef):
                    yield from of(node.body, f"{name}.", bool(node.bases))

    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    yield from of(ast.parse(path.read_text("utf-8")).body, f"{module}.", False)


def documented(path: pathlib.Path) -> list[Public]:
    return [public for public in publics(path) if public.doc or not public.inherits]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_docstrings_begin_with_a_verb(path):
    first_words = {public.name: (public.doc.split() or [""])[0] for public in documented(path)}
    wrong = {
        name: word
        for name, word in first_words.items()
        if not re.fullmatch(r"[A-Z][a-z-]+s", word) or NOUNS.fullmatch(word)
    }
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_handles_arrays_says_their_shapes(path):
    silent = [public.name for public in documented(path) if public.handles_arrays and not SHAPES.search(public.doc)]
    assert not silent


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_docstring_stands_by_itself(path):
    """Nobody has to find another docstring first to read this one."""
    chained = r"\b(likewise|as above|the same,? of|ditto)\b"
    wrong = [public.name for public in publics(path) if re.search(chained, public.doc, re.IGNORECASE)]
    assert not wrong
