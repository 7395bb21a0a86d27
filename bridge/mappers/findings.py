"""JSON Schema's errors in the words of whoever wrote the file: one place, one code, what was probably meant.

`oneOf` and `anyOf` are unpicked to the branch that came furthest. A value under `writeOnly: true` is a secret and is
never repeated. Codes: BR010 wrong kind or size, BR011 unknown key, BR012 not one of the allowed, BR013 missing key,
BR014 a key of another event, BR015 wrong form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from bridge.mappers.document import Document, Problem, closest, shown_path

KINDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a mapping",
    "array": "a list",
    "null": "empty",
}
LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "minItems": "a list of at least {}",
    "maxItems": "a list of at most {}",
    "minLength": "text of at least {} characters",
    "maxLength": "text of at most {} characters",
    "minProperties": "a mapping of at least {}",
    "uniqueItems": "a list without repetitions",
}


def findings(doc: Document, schema: Mapping[str, Any]) -> list[Problem]:
    """Every problem once, in reading order."""
    found: list[Problem] = []
    for error in Draft202012Validator(dict(schema)).iter_errors(doc.data):
        found.extend(problem for problem in _worded(doc, error, schema) if problem not in found)
    return sorted(found, key=lambda problem: (problem.line, problem.column, problem.code))


def _worded(doc: Document, error: ValidationError, schema: Mapping[str, Any]) -> Iterator[Problem]:
    path = tuple(error.absolute_path)
    rule, value, wanted = error.validator, error.instance, error.validator_value
    if rule in {"oneOf", "anyOf"}:
        yield from _branch(doc, error, schema)
    elif "propertyNames" in list(error.absolute_schema_path)[-3:-1]:
        path = (*path, str(value))
        message = f'the name "{value}" has the wrong form{_like(error)}'
        if rule == "enum":
            message = f'"{value}" is not a name that can stand in {shown_path(path[:-1])}{_instead(str(value), wanted)}'
        yield doc.problem(path, "BR015" if rule != "enum" else "BR012", message, key=True)
    elif rule in {"additionalProperties", "unevaluatedProperties"} and isinstance(value, dict):
        known = error.schema.get("properties", {})
        for key in value:
            if key not in known:
                message = f'unknown key "{key}" in {shown_path(path)}{closest(key, known)}'
                yield doc.problem((*path, key), "BR011", message, key=True)
    elif rule == "required":
        for key in wanted:
            if key not in value and f"{key!r} is a required" in error.message:
                yield doc.problem(path, "BR013", f'missing key "{key}" in {shown_path(path)}', key=True)
    elif rule == "not" and isinstance(wanted, dict) and list(wanted) == ["required"]:
        for key in wanted["required"]:
            yield doc.problem((*path, key), "BR014", f'"{key}" {_belongs(error, schema)}', key=True)
    else:
        yield _about_value(doc, error)


def _about_value(doc: Document, error: ValidationError) -> Problem:
    path = tuple(error.absolute_path)
    rule, value, wanted = error.validator, error.instance, error.validator_value
    if isinstance(error.schema, dict) and error.schema.get("writeOnly"):
        message = "a secret is written as ${env:NAME} or ${file:path}, never as it is"
        return doc.problem(path, "BR030", message, secret=True)
    if rule in {"enum", "const"}:
        allowed = wanted if rule == "enum" else [wanted]
        return doc.problem(path, "BR012", f"{_shown(value)} is not allowed here{_instead(value, allowed)}")
    if rule == "pattern":
        return doc.problem(path, "BR015", f"{_shown(value)} has the wrong form{_like(error)}")
    if rule == "type":
        kinds = [wanted] if isinstance(wanted, str) else list(wanted)
        message = f"this should be {_or([KINDS[kind] for kind in kinds])}, not {_kind(value)}"
        return doc.problem(path, "BR010", message, hint=_type_hint(value, kinds))
    if rule == "minLength" and value == "":
        return doc.problem(path, "BR010", "there is no text here")
    if rule in LIMITS:
        return doc.problem(path, "BR010", f"this should be {LIMITS[rule].format(wanted)}")
    return doc.problem(path, "BR010", f"{shown_path(path)} cannot stand here", key=True)


def _branch(doc: Document, error: ValidationError, schema: Mapping[str, Any]) -> Iterator[Problem]:
    """The alternative that came furthest speaks for all of them."""
    path = tuple(error.absolute_path)
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.schema_path[0], []).append(inner)
    if not branches:  # oneOf: several fit
        names = [key for branch in error.validator_value for key in branch.get("required", ())]
        if names and not isinstance(error.instance, dict):
            return  # `required` says nothing of text or numbers; their wrong kind is a problem of its own
        message = f"give only one of {_or([json.dumps(name) for name in names])}" if names else "several forms fit here"
        yield doc.problem(path, "BR010", message, key=True)
        return
    errors = list(branches.values())
    if all(inner.validator == "required" and not inner.path for branch in errors for inner in branch):
        names = [key for branch in errors for inner in branch for key in inner.validator_value]
        yield doc.problem(path, "BR013", f"this needs {_or([json.dumps(name) for name in names])}", key=True)
        return
    fitting = [branch for branch in errors if not any(e.validator == "type" and not e.path for e in branch)]
    if not fitting:
        kinds = [kind for branch in errors for e in branch if e.validator == "type" for kind in _listed(e)]
        message = f"this should be {_or([KINDS[kind] for kind in kinds])}, not {_kind(error.instance)}"
        yield doc.problem(path, "BR010", message, hint=_type_hint(error.instance, kinds))
        return
    best = max(fitting, key=lambda branch: (max(len(e.absolute_path) for e in branch), -len(branch)))
    for inner in best:
        yield from _worded(doc, inner, schema)


def _listed(error: ValidationError) -> list[str]:
    return [error.validator_value] if isinstance(error.validator_value, str) else list(error.validator_value)


def _belongs(error: ValidationError, schema: Mapping[str, Any]) -> str:
    """`only belongs to event appointment.reminder`, read off the `if` whose `else` forbids the key."""
    steps = list(error.absolute_schema_path)
    at: Any = schema
    for step in steps[:-2]:
        at = at[step] if not isinstance(at, Mapping) or step in at else {}
        while isinstance(at, Mapping) and isinstance(at.get("$ref"), str) and at["$ref"].startswith("#/"):
            parts, at = at["$ref"][2:].split("/"), schema
            for part in parts:
                at = at[part]
    condition = at.get("if", {}).get("properties", {}) if isinstance(at, Mapping) and steps[-2:-1] == ["else"] else {}
    for name, rule in condition.items():
        if "const" in rule:
            return f"only belongs to {name} {rule['const']}"
        if "enum" in rule:
            return f"only belongs to {name} {_or([str(each) for each in rule['enum']])}"
    return "does not belong here"


def _like(error: ValidationError) -> str:
    """From the schema's own examples: `; write it like 24h or 3d`."""
    examples = error.schema.get("examples", ()) if isinstance(error.schema, dict) else ()
    return f"; write it like {_or([str(example) for example in examples])}" if examples else ""


def _instead(value: Any, allowed: Sequence[Any]) -> str:
    words = [each if isinstance(each, str) else json.dumps(each) for each in allowed]
    meant = closest(value, words) if isinstance(value, str) else ""
    return meant or f"; allowed: {', '.join(words)}"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | int | float | bool) else _kind(value)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return json.dumps(value)
    names = {str: "text", int: "a number", float: "a number", dict: "a mapping", list: "a list"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), "empty")


def _type_hint(value: Any, kinds: Sequence[str]) -> str:
    if "string" in kinds and isinstance(value, int | float):
        return "write it in quotes"
    if "boolean" in kinds and isinstance(value, str) and value.lower() in {"yes", "no", "on", "off", "y", "n"}:
        return "YAML 1.2 knows only true and false"
    return ""


def _or(words: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(words))
    return " or ".join([", ".join(distinct[:-1]), distinct[-1]]) if len(distinct) > 1 else "".join(distinct)
