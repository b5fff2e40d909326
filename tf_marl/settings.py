"""Reads settings from gin files and bindings, and tells what was set; errors take one line and name file or binding.

    settings.read(["ippo.gin", "maps/3m.gin"], ["train.num_env_steps = 2e6"])

gin then hands the values to `environments.make` and to `training.Trainer`. What the values may be is checked there, by
`config.py`.
"""

import contextlib
import logging
import pathlib
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gin
from gin import config_parser

from tf_marl.places import GIN_FOLDER

gin.add_config_file_search_path(str(GIN_FOLDER))  # where files that include others look for them

_TRUSTED = {__package__}
_SECTIONS_OF_OLD = ("ippo", "mappo", "jr_ppo")  # whose settings are `ppo`'s now, for all of them


def find(files: Sequence[str]) -> list[str]:
    """Returns the paths of gin files, each from the current directory or from the library's gin/ folder.

    Raises:
        ValueError: a file is in neither place; names it and those that gin/ holds.
    """
    paths = []
    for name in files:
        found = next((path for path in (pathlib.Path(name), GIN_FOLDER / name) if path.is_file()), None)
        if found is None:
            known = ", ".join(sorted(str(path.relative_to(GIN_FOLDER)) for path in GIN_FOLDER.rglob("*.gin")))
            raise ValueError(f"--gin_file={name}: no such file, here or in gin/, which holds: {known}")
        paths.append(str(found))
    return paths


def read(files: Sequence[str], bindings: Sequence[str] = (), required: Mapping[str, str] | None = None) -> None:
    """Reads gin files and then bindings; of equal names, the last one counts.

    gin must know the names by then: import the modules that use the settings first, such as `tf_marl.training`.

    Args:
        files: as for `find`.
        bindings: texts such as "train.num_env_steps = 5e6".
        required: settings that must be set afterwards -> a file that sets them, for the error.
    Raises:
        ValueError: a file is missing, a name is unknown, a value cannot be read, or a required setting is not set.
    """
    paths = find(files)
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # gin logs an error for every place where an included file is not
    try:
        for path in paths:
            with _readable(path):
                gin.parse_config_file(path)
        for binding in bindings:
            with _readable(f"--gin_bindings={binding}"):
                gin.parse_config(binding)
    finally:
        logging.disable(disabled)
    _check_names()
    try:
        gin.finalize()
    except ValueError as error:
        _explain_macro(error)
    for name, example in (required or {}).items():
        if not is_set(name):
            raise ValueError(f"{name} is not set; add for example --gin_file={example}")


@contextlib.contextmanager
def _readable(where: str) -> Iterator[None]:
    """Turns gin's errors about a file or a binding into a line that tells where, and what to write instead."""
    try:
        yield
    except (SyntaxError, tokenize.TokenError) as error:
        if isinstance(error, SyntaxError) and error.filename:  # perhaps one that the file includes
            where = f"{error.filename}, line {error.lineno}: {(error.text or '').strip()}"
        raise ValueError(
            f"{where}: write NAME = VALUE, where a value is a number such as 1e9, a 'text' in quotes, True, False or"
            " None, a [list] of values, @NAME, @NAME() or %MACRO; nothing is computed"
        ) from None
    except RecursionError:
        raise ValueError(f"{where}: includes itself, or has too many brackets in brackets") from None
    except Exception as error:
        said, *place = str(error).splitlines()
        of_a_file = place[:1] if place and "In file" in place[0] else []
        raise ValueError(" ".join([f"{where}:", said, *of_a_file])) from error


def _explain_macro(error: ValueError) -> None:
    """Raises ValueError: gin's own, or, if a macro is not set, one that names the setting that uses it."""
    lacks = re.match("No bindings specified for '(.*)/gin.macro'", str(error))
    if not lacks:
        raise error
    macro = lacks[1]
    used = (f"{name} = {value}" for name, value in flat(gin.config_str(max_line_length=10_000)).items())
    user = next(line for line in used if f"%{macro}" in line)
    raise ValueError(f"{user}: there is no macro {macro}; write the value itself, or add {macro} = VALUE") from None


def is_set(name: str) -> bool:
    """Tells whether gin was told the value of a setting."""
    try:
        gin.query_parameter(name)
    except ValueError:
        return False
    return True


def value(name: str) -> Any:
    """Returns the value that gin was told for a setting; of a macro, its value.

    Raises:
        ValueError: the setting is not set.
    """
    found = gin.query_parameter(name)
    while isinstance(found, gin.config.ConfigurableReference) and found.selector == "gin.macro":
        found = gin.query_parameter(f"{found.scoped_selector}.value")
    return found


def flat(config: str) -> dict[str, str]:
    """Returns each binding of a gin text as name -> value, with macros resolved, and the flag `seed`, as text.

    Args:
        config: a line per binding, as gin writes its operative configuration.
    """
    lines = (line.removeprefix("# ") if line.startswith("# seed = ") else line for line in config.splitlines())
    settings = dict(line.split(" = ", 1) for line in lines if " = " in line and not line.startswith("#"))
    return {name: settings.get(text[1:], text) if text[:1] == "%" else text for name, text in settings.items()}


def read_untrusted(text: str) -> None:
    """Reads a configuration that may be a stranger's: bindings of this library's own settings and no other.

    gin would run what a text imports, and call what it refers to, any function that any library made known.

    Raises:
        ValueError: the text holds something else; names it. Nothing of it was read then.
    """
    references, macros = _References(), set()
    for statement in config_parser.ConfigParser(text, references):
        if isinstance(statement, config_parser.ImportStatement | config_parser.IncludeStatement):
            kind = "an import" if isinstance(statement, config_parser.ImportStatement) else "an include"
            raise ValueError(f"line {statement.location.line_num} is {kind}; only tf_marl's settings are read")
        if isinstance(statement, config_parser.BlockDeclaration) or statement.arg_name:
            references.names.append(statement.selector)
        else:
            macros.add(statement.selector)
    for name in references.names:
        if not _is_ours(name.rpartition("/")[2]):
            raise ValueError(f"{name} is none of tf_marl's settings, and no others are read")
    for name in references.macros:
        if name not in macros:
            raise ValueError(f"%{name} is set nowhere in it")
    gin.parse_config(text)
    _check_names()


class _References(config_parser.ParserDelegate):
    """Collects the names that a configuration refers to, and looks up none of them."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.macros: list[str] = []

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> None:
        self.names.append(scoped_configurable_name)

    def macro(self, macro_name: str) -> None:
        self.macros.append(macro_name)


def trust(module: str) -> None:
    """Lets untrusted configurations refer to what a module made known to gin, besides what this library did."""
    _TRUSTED.add(module.partition(".")[0])


def is_trusted(module: str) -> bool:
    """Tells whether `trust` was called for a module, or for another one of its package."""
    return module.partition(".")[0] in _TRUSTED


def _is_ours(name: str) -> bool:
    try:
        return is_trusted(gin.get_configurable(name).__module__)
    except (KeyError, ValueError):  # unknown, or ambiguous
        return False


def _check_names() -> None:
    """Refuses settings by the names that they had in older versions.

    Raises:
        ValueError: one is set; names the new one.
    """
    for section in _SECTIONS_OF_OLD:
        try:
            settings = gin.get_bindings(section, resolve_references=False)
        except ValueError:  # nobody imported it, so nobody set anything of it
            continue
        for setting in settings:
            raise ValueError(f"{section}.{setting} is ppo.{setting} now, for all of PPO's variants; write that")
