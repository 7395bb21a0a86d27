"""Which elements a FHIR type has: the definitions that fhirpathpy ships, asked in both directions.

R4B is read with R4's model: the resources a mapping names have the same elements in both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any, cast

TEMPORAL = frozenset({"date", "dateTime", "instant", "time"})
_FILES = {"R4": "r4", "R4B": "r4", "R5": "r5"}


@dataclass(frozen=True, slots=True)
class Element:
    """What a name means on a type: the JSON fields that may hold it, each with its type (several for `value[x]`)."""

    fields: tuple[tuple[str, str], ...]

    @property
    def types(self) -> frozenset[str]:
        return frozenset(kind for _, kind in self.fields)


class Model:
    """One FHIR version's types. Types are names ("HumanName") or backbone paths ("Appointment.participant")."""

    def __init__(self, version: str) -> None:
        self.version = version
        folder = files("fhirpathpy") / "models" / _FILES[version]

        def read(name: str) -> dict[str, str]:
            return cast("dict[str, str]", json.loads((folder / f"{name}.json").read_text("utf-8")))

        self._types = read("path2Type")
        self._choices = cast("dict[str, list[str]]", read("choiceTypePaths"))
        self._elsewhere = read("pathsDefinedElsewhere")
        self._parents = read("type2Parent")
        self._spelt = {path + choice for path, choices in self._choices.items() for choice in choices}
        self.raw: dict[str, Any] = {
            "path2Type": self._types,
            "choiceTypePaths": self._choices,
            "pathsDefinedElsewhere": self._elsewhere,
            "type2Parent": self._parents,
        }  # the shape the library wants

    @cached_property
    def _children(self) -> dict[str, set[str]]:
        """Type or backbone path -> the names of its elements; backbones appear only as prefixes of other paths."""
        children: dict[str, set[str]] = {}
        for path in (*self._types, *self._choices, *self._elsewhere):
            while "." in path:
                path, _, name = path.rpartition(".")  # noqa: PLW2901
                children.setdefault(path, set()).add(name)
        return children

    def is_type(self, name: str) -> bool:
        """A resource, a data type or a primitive of this version."""
        return name in self._parents or name in ("Resource", "Element", "Base")

    def lineage(self, kind: str) -> list[str]:
        """The type and what it inherits from, nearest first."""
        if "." in kind:
            return [kind, "BackboneElement", "Element"]
        line = [kind]
        while (parent := self._parents.get(line[-1])) is not None and parent not in line:
            line.append(parent)
        return line

    def element(self, kind: str, name: str) -> Element | None:
        """The element `name` of a type, None if there is none."""
        for ancestor in self.lineage(kind):
            path = f"{ancestor}.{name}"
            path = self._elsewhere.get(path, path)
            if (choices := self._choices.get(path)) is not None:
                return Element(
                    tuple((name + c, _plain(self._types.get(path + c, c[0].lower() + c[1:]))) for c in choices)
                )
            if path in self._spelt:
                return None  # valueQuantity is JSON's spelling; FHIRPath says value
            if (found := self._types.get(path)) is not None:
                return Element(((name, _plain(found)),))
            if path in self._children:
                return Element(((name, path),))
        return None

    def names(self, kind: str) -> list[str]:
        """Every element name of a type, for "did you mean"; `value[x]` is said `value`."""
        found: set[str] = set()
        for ancestor in self.lineage(kind):
            own = self._children.get(ancestor, set())
            spelt = {name + choice for name in own for choice in self._choices.get(f"{ancestor}.{name}", ())}
            found |= own - spelt
        return sorted(found)


def _plain(kind: str) -> str:
    return "string" if kind == "System.String" else kind.removeprefix("System.")


@lru_cache(maxsize=4)
def model(version: str) -> Model:
    """The model of R4, R4B or R5, read once."""
    return Model(version)
