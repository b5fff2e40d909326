"""Checking what users set: strict types and ranges by pydantic, and one-line errors that name the setting."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import gin
import pydantic
from gin import config_parser

# Strict, because a string where a number belongs is a mistake; unknown names are mistakes too.
STRICT = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

# A positive whole number; 5e6 reads better than 5000000, and means the same.
Count = Annotated[
    int,
    pydantic.BeforeValidator(lambda n: int(n) if isinstance(n, float) and n.is_integer() else n),
    pydantic.Field(gt=0),
]


@contextlib.contextmanager
def naming(section: str):
    """Turns pydantic's report into a one-line ValueError about `section.setting`; also works as a decorator."""
    try:
        yield
    except pydantic.ValidationError as invalid:
        error = invalid.errors()[0]
        # Of a union, pydantic names the member that it tried last: "is-instance[...]".
        setting = ".".join([section, *(part for part in map(str, error["loc"]) if "[" not in part)])
        value = error["input"]
        given = f", not @{value.__name__}" if inspect.isfunction(value) else f", not {value!r}"
        if not error["loc"] or error["type"].startswith(("missing", "unexpected")):  # no one setting's value
            given = ""
        message = error["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        raise ValueError(f"{setting}: {message}{given}") from None


def checked(section: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates what a section of gin's settings sets up: its arguments are checked, errors name them."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        checking = naming(section)(pydantic.validate_call(config=STRICT)(function))
        # Where gin looks for the defaults that a run's configuration is to tell; it looks behind no wrapper.
        checking.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return checking

    return decorate


def maker(module: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates what makes one setting's value out of others: gin knows it, and errors in its arguments name it.

    Args: module, gin's.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        known = gin.configurable(function.__name__, module=module)(checked(function.__name__)(function))
        known.is_maker = True  # so is no value itself, which `@name` without its parentheses is taken for
        return known

    return decorate


def fields(section: str, options: Any) -> dict[str, Any]:
    """What a section's options are set to, `section.name` -> plain value.

    Args: options, a dataclass; of a field that holds no plain value, a rule for one, its default.
    """
    values = {field: getattr(options, field.name) for field in dataclasses.fields(options)}
    return {f"{section}.{field.name}": field.default if callable(value) else value for field, value in values.items()}


_TRUSTED = {__package__}
_SECTIONS_OF_OLD = ("ippo", "mappo", "jr_ppo")  # whose settings are `ppo`'s now, for all of them


def check_names() -> None:
    """Refuses settings that gin was given by the names that they had in older versions.

    Raises:
        ValueError: one is; names the new one.
    """
    for section in _SECTIONS_OF_OLD:
        try:
            settings = gin.get_bindings(section, resolve_references=False)
        except ValueError:  # nobody imported it, so nobody set anything of it
            continue
        for setting in settings:
            raise ValueError(f"{section}.{setting} is ppo.{setting} now, for all of PPO's variants; write that")


def parse_alone(text: str) -> None:
    """Has gin read a configuration that may be a stranger's: bindings of this library's own settings and no other.

    What it imports, gin would run; what it refers to, gin would call, any function that any library made known.

    Raises:
        ValueError: it holds something else; names it. Nothing of it was taken up.
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
    check_names()


class _References(config_parser.ParserDelegate):
    """Names what a configuration refers to, and looks up none of it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.macros: list[str] = []

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> None:
        self.names.append(scoped_configurable_name)

    def macro(self, macro_name: str) -> None:
        self.macros.append(macro_name)


def trust(module: str) -> None:
    """Lets configurations refer to what a module made known to gin, as to tf_marl's own."""
    _TRUSTED.add(module.partition(".")[0])


def _is_ours(name: str) -> bool:
    try:
        return gin.get_configurable(name).__module__.partition(".")[0] in _TRUSTED
    except (KeyError, ValueError):  # unknown, or ambiguous
        return False
