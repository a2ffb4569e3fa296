"""Values of settings: each is brought to the type of its field and checked for range before anything is built.

A field's type is its annotation. A range is text, such as ">= 0, < 1", or a tuple of the choices that there are.
"""

import dataclasses
import difflib
import enum
import math
import numbers
import operator
import reprlib
import types
import typing

OPERATORS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
IN_WORDS = {">=": "at least", ">": "above", "<=": "at most", "<": "below"}
# Annotations that transformers' base class has as text.
NAMED = {
    "bool": bool,
    "int": int,
    "bool | None": bool | None,
    "str | None": str | None,
    "list[str] | None": list | None,
}
NAMES = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text", type(None): "null"}
MANY = {bool: "true or false", int: "whole numbers", float: "finite numbers", str: "texts"}


class UnfitError(ValueError):
    """A value that can't be brought to a type."""


def checked(name, value, kind, limits=None):
    """`value` as the type `kind`, within its limits.

    Numbers may come as text ("1e-6", which YAML 1.1 doesn't take for a number) and true and false too.

    Args:
        name: what the message calls it.
        kind: an annotation: bool, int, float, str, list[int], int | None, ...
        limits: see the module; of a list, those of its items.

    Raises:
        ValueError: it doesn't fit; the message has the name, what is expected and what was found.
    """
    try:
        found = convert(value, kind)
        accept(value, within(found, limits))
    except UnfitError:
        close = hint(value, limits) if isinstance(value, str) and isinstance(limits, tuple) and is_one(kind) else ""
        raise ValueError(f"{name} must be {expectation(kind, limits)}; found {shown(value)}{close}") from None
    return found


def check_numbers(settings, limits):
    """Brings the numbers and yes/no values among a dataclass's fields to their types, in place.

    Args:
        settings: an instance of it.
        limits: name -> the field's range.

    Raises:
        ValueError: see `checked`.
    """
    for name, kind in kinds_of(type(settings)).items():
        if name in limits or set(typing.get_args(kind) or [kind]) <= {bool, int, float, type(None)}:
            value = getattr(settings, name)
            found = checked(name, value, kind, limits.get(name))
            if found != value:
                setattr(settings, name, found)


def kinds_of(settings_class):
    """name -> type of a dataclass's fields, as they were declared: HfArgumentParser takes None out of `Field.type`."""
    hints = typing.get_type_hints(settings_class)
    return {field.name: hints[field.name] for field in dataclasses.fields(settings_class)}


def convert(value, kind):
    """
    Raises:
        UnfitError: `value` isn't of that type and can't be brought to it.
    """
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # of numpy or torch
        value = value.item()
    kind = NAMED.get(kind, typing.Any) if isinstance(kind, str) else kind
    if kind is typing.Any:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return convert_to_one_of(value, arguments)
    if origin is typing.Literal:
        return accept(value, value in arguments)
    if kind in (None, type(None)):
        return accept(value, value is None)
    if kind is bool:
        words = {"true": True, "false": False}
        return value if isinstance(value, bool) else words[accept(str(value).lower(), str(value).lower() in words)]
    if kind in (int, float):
        return convert_number(value, kind)
    if is_list(origin or kind):
        return convert_list(accept(value, isinstance(value, (list, tuple))), origin or kind, arguments)
    if isinstance(origin or kind, type):
        return convert_object(value, origin or kind)
    return value  # of what nobody here knows


def convert_to_one_of(value, kinds):
    """The first of several types that fits; one that needs no conversion comes before one that does."""
    fitting = []
    for kind in kinds:
        try:
            fitting.append(convert(value, kind))
        except UnfitError:
            continue
    accept(value, fitting)
    return next((found for found in fitting if type(found) is type(value)), fitting[0])


def convert_number(value, kind):
    if isinstance(value, str) and "_" not in value:
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                raise UnfitError(value) from None
    accept(value, isinstance(value, numbers.Real) and not isinstance(value, bool))
    try:
        accept(value, math.isfinite(value))  # no range has infinity, and nan is outside of all
        return kind(accept(value, kind is float or value == int(value)))
    except OverflowError:  # a whole number with too many digits for a float
        raise UnfitError(value) from None


def convert_list(items, kind, arguments):
    item_kinds = [argument for argument in arguments if argument is not Ellipsis]
    if kind is tuple and len(item_kinds) > 1:
        accept(items, len(items) == len(item_kinds))
    else:
        item_kinds = [item_kinds[0] if item_kinds else typing.Any] * len(items)
    found = [convert(item, item_kind) for item, item_kind in zip(items, item_kinds)]
    return tuple(found) if kind is tuple else found


def convert_object(value, kind):
    if isinstance(value, str) and issubclass(kind, enum.Enum):
        return accept(value, value in [member.value for member in kind])
    # By name, not by class: classes loaded from a saved folder's code are never identical to a package's.
    return accept(value, kind.__name__ in [base.__name__ for base in type(value).__mro__])


def accept(value, fits):
    if not fits:
        raise UnfitError(value)
    return value


def within(value, limits):
    """Whether a number, or each item of a list, is within limits; what is no number has none."""
    if limits is None or value is None:
        return True
    if isinstance(value, (list, tuple)):
        return all(within(item, limits) for item in value)
    if isinstance(limits, tuple):
        return value in limits
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return True
    return all(OPERATORS[sign](value, float(bound)) for sign, bound in conditions(limits))


def conditions(limits):
    """ ">= 0, < 1" -> [(">=", "0"), ("<", "1")]"""
    return [part.split() for part in limits.split(",")]


def expectation(kind, limits):
    """What a field expects, for messages."""
    if isinstance(limits, tuple):
        return f"{'one of' if is_one(kind) else 'a list of some of'} {', '.join(limits)}"
    bounds = " and ".join(f"{IN_WORDS[sign]} {bound}" for sign, bound in conditions(limits)) if limits else ""
    return f"{in_words(kind)}, {bounds}" if bounds else in_words(kind)


def in_words(kind):
    """A type, for messages."""
    kind = NAMED.get(kind, typing.Any) if isinstance(kind, str) else kind
    if kind in NAMES:
        return NAMES[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        kinds = [argument for argument in arguments if argument is not int or float not in arguments]
        return " or ".join(dict.fromkeys(map(in_words, kinds)))
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if in_list(kind) is not None:
        return f"a list of {MANY[in_list(kind)]}" if in_list(kind) in MANY else "a list"
    if (origin or kind) is dict:
        return "names with values"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"one of {', '.join(str(member.value) for member in kind)}"
    return f"a {getattr(kind, '__name__', kind)}"


def in_list(kind):
    """The type of a list's items, `Any` where it is open; None for what is no list."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return next((found for found in map(in_list, arguments) if found is not None), None)
    if is_list(origin or kind):
        return arguments[0] if arguments else typing.Any
    return None


def is_one(kind):
    return in_list(kind) is None


def is_list(kind):
    return getattr(kind, "__name__", "") in ("list", "tuple", "Sequence")


def shown(value):
    """A value for a message, cut where it is long."""
    return "null" if value is None else reprlib.repr(value)


def refuse_unknown(names, known, where):
    """
    Raises:
        ValueError: one of the names is not known; the message has those that are like it.
    """
    for name in names:
        if name not in known:
            raise ValueError(f"{where} has no field {shown(name)}{hint(str(name), known)}")


def hint(name, known):
    """ "; did you mean X?", where something like it is known."""
    close = difflib.get_close_matches(name, [item for item in known if isinstance(item, str)], n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""
