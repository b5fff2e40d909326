"""Checks what users set: types and ranges, strictly, by pydantic; errors take one line and name the setting."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import gin
import pydantic

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
    """Returns a decorator for what a section of gin's settings sets up: arguments are checked, and errors name them.

    Args:
        section: gin's name for the function or class.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        checking = naming(section)(pydantic.validate_call(config=STRICT)(function))
        # Where gin looks for the defaults that a run's configuration is to tell; it looks behind no wrapper.
        checking.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return checking

    return decorate


def maker(module: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns a decorator for a function that makes one setting's value out of others, such as `per_agent(alpha)`.

    gin knows the function by its name, and errors in its arguments name it.

    Args:
        module: gin's module for the function.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        known = gin.configurable(function.__name__, module=module)(checked(function.__name__)(function))
        known.is_maker = True  # `@name` without parentheses would hand over this function instead of its value
        return known

    return decorate


@contextlib.contextmanager
def prefixed(what: str, kinds: type[Exception] | tuple[type[Exception], ...] = Exception) -> Iterator[None]:
    """Turns errors of some kinds into a one-line ValueError: `what`, then the first line of the error.

    Where one such context is inside another, the inner one has the say.
    """
    try:
        yield
    except _PrefixedError:
        raise
    except kinds as error:
        raise _PrefixedError(f"{what}{first_line(error)}") from error


class _PrefixedError(ValueError):
    """Says which input is wrong already."""


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or the name of its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def fields(section: str, options: Any) -> dict[str, Any]:
    """Returns what a section's options are set to, as `section.name` -> plain value.

    Args:
        section: gin's name for them.
        options: a dataclass. Where a field holds a function, such as a rule, its default stands in for it.
    """
    values = {field: getattr(options, field.name) for field in dataclasses.fields(options)}
    return {f"{section}.{field.name}": field.default if callable(value) else value for field, value in values.items()}
