"""What a tool may record: actions and their typed extras, as an allowlist.

There is no type for free text. Whatever is not declared here cannot reach a span.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Protocol, runtime_checkable

Value = int | bool | str | tuple[str, ...]
"""What an extra is after validation: the only things that ever reach a span."""

MAX_COUNT = 2**63 - 1
"""OTLP carries integers as int64."""
MAX_NAMES = 100
"""An event of 100 names stays far below the 8 KiB that an exporter accepts."""
MAX_NAME_LENGTH = 100
CUSTOM = "custom"
"""Stands for every name outside a vocabulary: it may be a user's code."""

_SNAKE_CASE = re.compile(r"[a-z][a-z0-9_]{0,63}")


class UndeclaredError(LookupError):
    """An action, extra or value that the catalog does not declare; says what it does."""


@runtime_checkable
class Extra(Protocol):
    """A type of extra: says what it is, and lets a value through or raises."""

    description: str

    def validate(self, value: object) -> Value:
        """The value as it may be sent.

        Raises:
            TypeError: It is of another type.
            UndeclaredError: It is of the type, and not among what is declared.
        """
        ...

    def json_schema(self) -> dict[str, object]:
        """JSON Schema (2020-12) of what `validate` lets through."""
        ...

    def example(self) -> Value:
        """A value as it might be sent, for documentation."""
        ...


class Count:
    """A number of things: an int from 0 to 2**63 - 1.

    Args:
        description: What is counted, for the "what is collected" page.
    """

    type_name = "count"

    def __init__(self, description: str) -> None:
        self.description = description

    def validate(self, value: object) -> int:
        if type(value) is not int:
            raise TypeError(f"a count is an int, not {type(value).__name__}")
        if not 0 <= value <= MAX_COUNT:
            raise UndeclaredError("a count is from 0 to 2**63 - 1")
        return value

    def json_schema(self) -> dict[str, object]:
        return {"type": "integer", "minimum": 0, "maximum": MAX_COUNT}

    def example(self) -> int:
        return 3


class Flag:
    """Yes or no.

    Args:
        description: What is true when it is true.
    """

    type_name = "flag"

    def __init__(self, description: str) -> None:
        self.description = description

    def validate(self, value: object) -> bool:
        if type(value) is not bool:
            raise TypeError(f"a flag is a bool, not {type(value).__name__}")
        return value

    def json_schema(self) -> dict[str, object]:
        return {"type": "boolean"}

    def example(self) -> bool:
        return True


class Choice:
    """One of a few declared values.

    Args:
        description: What the choice is about.
        values: All values it may have, each an ASCII word of at most 100 characters.

    Raises:
        ValueError: No value, or one that is not such a word.
    """

    type_name = "choice"

    def __init__(self, description: str, values: Iterable[str]) -> None:
        self.description = description
        self.values = tuple(values)
        if not self.values:
            raise ValueError("a choice needs at least one value")
        for value in self.values:
            _check_name(value)
        self._values = frozenset(self.values)

    def validate(self, value: object) -> str:
        if type(value) is not str:
            raise TypeError(f"a choice is a str, not {type(value).__name__}")
        if value not in self._values:
            raise UndeclaredError(f"declared values: {', '.join(self.values)}")
        return value

    def json_schema(self) -> dict[str, object]:
        return {"type": "string", "enum": list(self.values)}

    def example(self) -> str:
        return self.values[0]


class Names:
    """Identifiers from a declared vocabulary; any other becomes ``custom``; at most 100 of them.

    Args:
        description: What the names name.
        vocabulary: The names that may be told, or a function that returns them; it is called
            once, when the first value is validated.
        example: Names for documentation; default: the first of the vocabulary.
    """

    type_name = "names"

    def __init__(
        self,
        description: str,
        vocabulary: Iterable[str] | Callable[[], Collection[str]],
        *,
        example: Iterable[str] | None = None,
    ) -> None:
        self.description = description
        self._vocabulary = vocabulary if callable(vocabulary) else frozenset(vocabulary)
        self._example = tuple(example) if example is not None else None

    @property
    def vocabulary(self) -> Collection[str]:
        """The names that may be told.

        Raises:
            ValueError: One of them is not an ASCII word of at most 100 characters.
        """
        if callable(self._vocabulary):
            self._vocabulary = frozenset(self._vocabulary())
        for name in self._vocabulary:
            _check_name(name)
        return self._vocabulary

    def validate(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise TypeError(f"names are a list of str, not {type(value).__name__}")
        known = self._known()
        names = list(value)[:MAX_NAMES]
        return tuple(name if type(name) is str and name in known else CUSTOM for name in names)

    def _known(self) -> Collection[str]:
        # Checked once: `vocabulary` is replaced by the checked set itself.
        if callable(self._vocabulary):
            self._vocabulary = frozenset(self.vocabulary)
        return self._vocabulary

    def json_schema(self) -> dict[str, object]:
        return {
            "type": "array",
            "maxItems": MAX_NAMES,
            "items": {"type": "string", "pattern": f"^[A-Za-z0-9_.:-]{{1,{MAX_NAME_LENGTH}}}$"},
        }

    def example(self) -> tuple[str, ...]:
        if self._example is not None:
            return self._example
        return tuple(sorted(self.vocabulary))[:2]


class Action:
    """One thing a user can do, and what may be told about it.

    Args:
        name: snake_case, at most 64 characters.
        description: One sentence for the "what is collected" page.
        **extras: What is recorded with it: `Count`, `Flag`, `Choice` or `Names`.

    Raises:
        ValueError: The name is not snake_case.
        TypeError: An extra is not of one of the types.
    """

    def __init__(self, name: str, description: str, **extras: Extra) -> None:
        if not _SNAKE_CASE.fullmatch(name):
            raise ValueError(f"the action {name!r} is not snake_case")
        for key, extra in extras.items():
            if not isinstance(extra, Extra):
                raise TypeError(f"{name}: {key} is not a Count, Flag, Choice or Names: {extra!r}")
        self.name = name
        self.description = description
        self.extras: Mapping[str, Extra] = extras

    def validate(self, key: str, value: object) -> Value:
        """The value of one extra as it may be sent.

        Raises:
            UndeclaredError: The extra, or its value, is not declared.
            TypeError: The value is of another type.
        """
        extra = self.extras.get(key)
        if extra is None:
            declared = ", ".join(self.extras) or "none"
            raise UndeclaredError(f"{self.name} has no extra {key!r}; declared: {declared}")
        try:
            return extra.validate(value)
        except UndeclaredError as error:
            raise UndeclaredError(f"{self.name}: {key}: {error}") from None
        except TypeError as error:
            raise TypeError(f"{self.name}: {key}: {error}") from None


class Catalog:
    """All actions that a tool records.

    Args:
        actions: Each of them, once.

    Raises:
        ValueError: Two actions have one name.
    """

    def __init__(self, actions: Iterable[Action]) -> None:
        self._actions: dict[str, Action] = {}
        for action in actions:
            if action.name in self._actions:
                raise ValueError(f"the action {action.name!r} is declared twice")
            self._actions[action.name] = action

    def __getitem__(self, name: str) -> Action:
        """The action of that name.

        Raises:
            UndeclaredError: There is none; names those that are declared.
        """
        action = self._actions.get(name) if isinstance(name, str) else None
        if action is None:
            declared = ", ".join(self._actions) or "none"
            raise UndeclaredError(f"no action {name!r:.100}; declared: {declared}")
        return action

    def __contains__(self, name: object) -> bool:
        return name in self._actions

    def __iter__(self) -> Iterator[Action]:
        return iter(self._actions.values())

    def __len__(self) -> int:
        return len(self._actions)


_NAME = re.compile(rf"[A-Za-z0-9_.:-]{{1,{MAX_NAME_LENGTH}}}")


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r:.120} is not a word of at most {MAX_NAME_LENGTH} ASCII letters, digits, _.:-"
        )
