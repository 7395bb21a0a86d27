"""What JSON Schema cannot see in a mapping: expressions, formatters, templates, and mappings side by side.

Each check reads what is there and tolerates what is not, so that one run shows every problem of a file.
Codes: BR020-BR026 expressions, BR040 template, BR041 parameters, BR042 buttons, BR043 guardian, BR044 two mappings for
one event, BR045 language, BR046 name taken, BR049 template not approved.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from bridge.errors import BadExpression
from bridge.mappers import expression
from bridge.mappers.document import Document, Problem, closest
from bridge.mappers.formatters import ACCEPTS
from bridge.mappers.kinds import Kinds
from bridge.mappers.mapping import Mapping, resource_of, variables_of
from bridge.mappers.templates import Catalogue, Template

Steps = tuple[str | int, ...]

POLICY = ("confirmed_once", "sensitive_loinc", "release_abnormal")  # what %site_policy holds
REQUEST, REQUEST_PARAMS, REQUEST_BUTTONS = "consent_request", ("site_name", "topics"), ("agree", "decline")
_MISSING = re.compile(r'there is no "%(\w+)" here')
_NAMED = re.compile(r"%`?(\w+)")
_POLICY_NAME = re.compile(r"%site_policy\s*\.\s*`?(\w+)")


def check_expressions(doc: Document, fhir_versions: Sequence[str], *, header: str | None = None) -> list[Problem]:
    """Each FHIRPath of the file: syntax, names, and whether its formatter can use what it gives.

    `header` is the kind of header that the templates have: of a location's, the path leads to a Location.
    """
    event = str(doc.data.get("event", ""))
    variables = variables_of(event)
    problems: list[Problem] = []
    for steps, text, use in _expressions(doc.data, header):
        if not text:
            continue  # the schema has said so
        kinds, found = _compile(doc, steps, text, resource_of(event), variables, fhir_versions)
        problems += [_explained(each, doc.data.get("let")) for each in found]
        if use == "let":
            variables[str(steps[-1])] = kinds
        elif use == "condition" and kinds and not kinds & {"boolean", "*"}:
            message = f"a condition is true or false; this gives {_shown(kinds)}"
            problems.append(doc.problem(steps, "BR025", message))
        elif use == "place" and kinds is not None and "Location" not in kinds:
            message = f"the header shows a place on a map; this gives {_shown(kinds) or 'nothing'}"
            problems.append(doc.problem(steps, "BR024", message, hint="write %location"))
        elif use in ACCEPTS and kinds and "*" not in kinds and not kinds & ACCEPTS[use]:
            fitting = [form for form, taken in ACCEPTS.items() if kinds & taken]
            message = f"{use} cannot put {_shown(kinds)} into words"
            message += f"; use {' or '.join(fitting)}" if fitting else "; end the path in a single value"
            at = (*steps[:-1], "as") if steps[-1] == "path" else steps
            problems.append(doc.problem(at, "BR024", message))
    return problems


def _compile(
    doc: Document, steps: Steps, text: str, kind: str, variables: dict[str, Kinds], versions: Sequence[str]
) -> tuple[Kinds, list[Problem]]:
    """What the path gives in the first version that knows it. Unknown in some versions is a warning, in all an error."""
    errors: list[tuple[str, BadExpression]] = []
    kinds: Kinds = None
    good = False
    for version in versions:
        try:
            compiled = expression.compile(text, resource_type=kind, fhir_version=version, variables=variables)
        except BadExpression as exc:
            errors.append((version, exc))
        else:
            kinds, good = (kinds, True) if good else (compiled.kinds, True)
    problems = []
    for version, error in errors if good else errors[:1]:
        message = f"{error}; with an EHR of {version} this gives nothing" if good else str(error)
        severity = "warning" if good else "error"
        problems.append(
            doc.problem(steps, error.code, message, hint=error.hint, offset=error.column, severity=severity)
        )
    for found in _POLICY_NAME.finditer(text):
        if found[1] not in POLICY:
            message = f'%site_policy has no "{found[1]}"{closest(found[1], POLICY)}'
            problems.append(doc.problem(steps, "BR022", message, offset=found.start(1)))
    return kinds, problems


def _explained(problem: Problem, let: Any) -> Problem:
    """Of a name that `let` defines too late, or in a circle, say so."""
    said = _MISSING.match(problem.message)
    if problem.code != "BR022" or said is None or not isinstance(let, dict) or said[1] not in let:
        return problem
    named = {name: set(_NAMED.findall(text)) & set(let) for name, text in let.items() if isinstance(text, str)}
    circle = _circle(named, said[1])
    message = f'"%{said[1]}" is defined further down; let is read from top to bottom'
    if len(circle) == 1:
        message = f'"%{said[1]}" needs itself'
    elif circle:
        message = f"{', '.join(f'%{name}' for name in circle[:-1])} and %{circle[-1]} need each other"
    return replace(problem, message=message)


def _circle(named: dict[str, set[str]], start: str) -> list[str]:
    """The names of a circle through `start`, in the order of the file; empty if there is none."""
    reached: dict[str, set[str]] = {}
    for name in named:
        waiting, seen = [name], set[str]()
        while waiting:
            new = named.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        reached[name] = seen
    return [name for name in named if name in reached.get(start, ()) and start in reached[name]]


def header_kind(data: dict[str, Any], templates: Catalogue) -> str | None:
    """The kind of the header that `send.header` fills: that of the first template sent which has one."""
    send = data.get("send")
    if not isinstance(send, dict):
        return None
    sent = [templates.get(str(each.get("template"))) for each in (send, send.get("guardian")) if isinstance(each, dict)]
    return next((each.header.kind for each in sent if each is not None and each.header is not None), None)


def _expressions(data: dict[str, Any], header: str | None = None) -> Iterator[tuple[Steps, str, str]]:
    """Path in the file, FHIRPath, and its use: "let", "condition", "any" or a formatter's name."""
    for name, text in _items(data.get("let")):
        if isinstance(text, str):
            yield ("let", name), text, "let"
    remind = data.get("remind") if isinstance(data.get("remind"), dict) else {}
    assert remind is not None
    if isinstance(remind.get("anchor"), str):
        yield ("remind", "anchor"), remind["anchor"], "date.long"
    if isinstance(remind.get("skip_if"), str):
        yield ("remind", "skip_if"), remind["skip_if"], "condition"
    yield from _conditions(("when",), data.get("when"))
    gate = data.get("gate")
    yield from _conditions(("gate", "hold"), gate.get("hold") if isinstance(gate, dict) else None)
    send = data.get("send")
    if isinstance(send, dict):
        for steps, text, form in _params(("send",), {"header": send["header"]} if "header" in send else None):
            yield steps, text, "place" if header == "location" else form
        yield from _params(("send", "params"), send.get("params"))
        guardian = send.get("guardian")
        if isinstance(guardian, dict):
            yield from _params(("send", "guardian", "params"), guardian.get("params"))
        for index, button in enumerate(send.get("buttons") or () if isinstance(send.get("buttons"), list) else ()):
            if isinstance(button, dict) and isinstance(button.get("url_suffix"), str):
                yield ("send", "buttons", index, "url_suffix"), button["url_suffix"], "text"
    then = data.get("then")
    attach = then.get("attach") if isinstance(then, dict) else None
    if isinstance(attach, dict) and isinstance(attach.get("path"), str):
        yield ("then", "attach", "path"), attach["path"], "any"


def _conditions(steps: Steps, given: Any) -> Iterator[tuple[Steps, str, str]]:
    for index, each in enumerate(given if isinstance(given, list) else ()):
        if isinstance(each, dict) and isinstance(each.get("path"), str):
            yield (*steps, index, "path"), each["path"], "condition"


def _params(steps: Steps, given: Any) -> Iterator[tuple[Steps, str, str]]:
    for name, each in _items(given):
        if isinstance(each, str):
            yield (*steps, name), each, "text"
        elif isinstance(each, dict) and isinstance(each.get("path"), str):
            form = each.get("as", "text")
            yield (*steps, name, "path"), each["path"], form if form in ACCEPTS else "any"


def check_mapping(doc: Document, templates: Catalogue, site_languages: Sequence[str]) -> list[Problem]:
    """The file against the templates it sends, and its texts against the site's languages."""
    send = doc.data.get("send")
    if not isinstance(send, dict):
        return []
    problems: list[Problem] = []
    buttons = send.get("buttons")
    ids = (
        [each["id"] for each in buttons if isinstance(each, dict) and "id" in each] if isinstance(buttons, list) else []
    )
    problems += _variant(doc, ("send",), send, templates, site_languages)
    who = doc.data.get("recipient")
    who = who.get("who", "guardian-if-minor") if isinstance(who, dict) else "guardian-if-minor"
    if isinstance(send.get("guardian"), dict):
        problems += _variant(doc, ("send", "guardian"), send["guardian"], templates, site_languages)
    elif who != "patient" and "guardian" not in send:
        message = "a guardian can be the reader, and there is no text for one"
        hint = "add send.guardian with a template of its own, or recipient: {who: patient}"
        problems.append(doc.problem(("send",), "BR043", message, key=True, hint=hint))
    sent = [each for each in (send, send.get("guardian")) if isinstance(each, dict)]
    known = [templates.get(str(each.get("template"))) for each in sent]
    problems += _buttons(doc, [each for each in known if each is not None], ids)
    consent = doc.data.get("consent")
    if isinstance(consent, dict) and consent.get("if_missing") == "ask":
        problems += _asking(doc, templates)
    problems += _header(doc, send, [each for each in known if each is not None])
    problems += _texts(doc, (), doc.data, site_languages)
    return problems


_MEDIUM = re.compile(r"https://[^\s/]+\.[^\s]+|[0-9]{5,64}")


def _header(doc: Document, send: dict[str, Any], sent: Sequence[Template]) -> Iterator[Problem]:
    """`send.header` is there exactly if a template has a header to fill, and is of its kind."""
    filled = [each for each in sent if each.header is not None and each.header.filled]
    at: Steps = ("send", "header")
    if "header" not in send:
        if filled:
            kind = filled[0].header.kind if filled[0].header is not None else ""
            message = f"the template {filled[0].name} has a header of kind {kind}, and nothing fills it"
            yield doc.problem(("send",), "BR041", message, key=True, hint="add send.header")
        return
    if sent and not filled:
        fixed = any(each.header is not None for each in sent)
        message = (
            "the header of the template is the same in every message" if fixed else "the templates here have no header"
        )
        yield doc.problem(at, "BR041", message, key=True)
        return
    kinds = {each.header.kind for each in filled if each.header is not None}
    if len(kinds) > 1:
        yield doc.problem(
            at, "BR041", f"the two templates have headers of kinds {' and '.join(sorted(kinds))}", key=True
        )
        return
    given = send["header"]
    if kinds & {"image", "video", "document"}:
        texts = given.get("text") if isinstance(given, dict) else None
        if texts is None:
            message = (
                f"a header of kind {next(iter(kinds))} is the same for every patient: text, with its address or id"
            )
            hint = "what belongs to one patient leaves by then.attach, behind the gate"
            yield doc.problem(at, "BR041", message, key=True, hint=hint)
            return
        for language, text in texts.items() if isinstance(texts, dict) else [(None, texts)]:
            if not isinstance(text, str) or _MEDIUM.fullmatch(text) is None:
                where = (*at, "text") if language is None else (*at, "text", language)
                yield doc.problem(where, "BR041", "neither an https address nor an id of WhatsApp's")
    elif kinds == {"location"} and isinstance(given, dict) and set(given) != {"path"}:
        odd = next((key for key in given if key != "path"), "path")
        yield doc.problem(
            (*at, odd), "BR041", "the header shows a place: it has a path to a Location and nothing else", key=True
        )


def _asking(doc: Document, templates: Catalogue) -> Iterator[Problem]:
    """A patient can be asked for a consent only with a template for it: nobody has written, so no window is open."""
    template = templates.get(REQUEST)
    at = ("consent", "if_missing")
    if template is None:
        yield doc.problem(at, "BR040", f'"ask" sends the template {REQUEST}, and config/templates has none')
        return
    for name in template.params:
        if name not in REQUEST_PARAMS:
            message = f"{REQUEST} has {{{{{name}}}}}, which nothing fills; it may have {' and '.join(REQUEST_PARAMS)}"
            yield doc.problem(at, "BR041", message)
    if template.header is not None and template.header.filled:
        yield doc.problem(at, "BR041", f"{REQUEST} has a header of kind {template.header.kind}, which nothing fills")
    if set(template.buttons) != set(REQUEST_BUTTONS):
        yield doc.problem(at, "BR042", f"{REQUEST} needs the buttons {' and '.join(REQUEST_BUTTONS)}, and no other")


def _variant(
    doc: Document,
    steps: Steps,
    send: dict[str, Any],
    templates: Catalogue,
    site_languages: Sequence[str],
) -> Iterator[Problem]:
    name, params = send.get("template"), send.get("params")
    if not isinstance(name, str) or not isinstance(params, dict):
        return
    template = templates.get(name)
    if template is None:
        message = f'there is no template "{name}" in config/templates{closest(name, templates.templates)}'
        yield doc.problem((*steps, "template"), "BR040", message)
        return
    for param in params:
        if param not in template.params:
            message = f"the template {name} has no {{{{{param}}}}}{closest(param, template.params)}"
            yield doc.problem((*steps, "params", param), "BR041", message, key=True)
    for param in template.params:
        if param not in params:
            message = f"the template {name} also needs {{{{{param}}}}}"
            yield doc.problem((*steps, "params"), "BR041", message, key=True)
    if template.status != "approved":
        message = f"Meta has not approved the template {name} ({template.status}): it would refuse the message"
        yield doc.problem((*steps, "template"), "BR049", message, severity="warning")
    lacking = [language for language in site_languages if template.language(language, ()) is None]
    if len(lacking) == len(site_languages):
        message = f"the template {name} speaks none of the site's languages ({', '.join(site_languages)})"
        yield doc.problem((*steps, "template"), "BR045", message)
    elif lacking:
        message = f"the template {name} has no {', '.join(lacking)}: those patients are written to in another language"
        yield doc.problem((*steps, "template"), "BR045", message, severity="warning")


def _buttons(doc: Document, templates: Sequence[Template], buttons: Sequence[str]) -> Iterator[Problem]:
    """Every button of the templates does something, and nothing is tied to a button they lack."""
    for index, button in enumerate(buttons):
        without = [each for each in templates if button not in each.buttons]
        if button in buttons[:index]:
            yield doc.problem(("send", "buttons", index, "id"), "BR042", f'the button "{button}" is already above')
        elif without:
            there = f"the {_both(without)} no button"
            message = f'{there} "{button}"{closest(button, without[0].buttons)}'
            yield doc.problem(("send", "buttons", index, "id"), "BR042", message)
    lacking = list(dict.fromkeys(button for each in templates for button in each.buttons if button not in buttons))
    if lacking:
        of = " and ".join(each.name for each in templates if set(lacking) & set(each.buttons))
        message = f"nothing says what the button {' and '.join(lacking)} of {of} does"
        at = ("send", "buttons") if "buttons" in doc.data["send"] else ("send", "template")
        yield doc.problem(at, "BR042", message, key=True)


def _both(templates: Sequence[Template]) -> str:
    names = " and ".join(dict.fromkeys(each.name for each in templates))
    return f"template {names} has" if len(templates) == 1 else f"templates {names} have"


def _texts(doc: Document, steps: Steps, data: Any, site_languages: Sequence[str]) -> Iterator[Problem]:
    """`default`, `text`, `map` and `filename`: a text by languages must have the site's default one."""
    for key, each in _items(data):
        at = (*steps, key)
        if key in ("default", "text", "filename") and isinstance(each, dict):
            yield from _text(doc, at, each, site_languages)
        elif key == "map" and isinstance(each, dict):
            for choice, text in each.items():
                if isinstance(text, dict):
                    yield from _text(doc, (*at, choice), text, site_languages)
        elif isinstance(each, dict) and key != "examples":
            yield from _texts(doc, at, each, site_languages)


def _text(doc: Document, steps: Steps, text: dict[str, Any], site_languages: Sequence[str]) -> Iterator[Problem]:
    if site_languages and not {site_languages[0], site_languages[0][:2]} & set(text):
        yield doc.problem(steps, "BR045", f"no text in {site_languages[0]}, the site's default language", key=True)


def check_together(mappings: Sequence[Mapping]) -> list[Problem]:
    """Two files of one name; two mappings that could both speak to one person about one event."""
    problems: list[Problem] = []
    for index, mapping in enumerate(mappings):
        for other in mappings[:index]:
            if mapping.id == other.id:
                message = f'the id "{mapping.id}" is already that of {other.file}'
                problems.append(mapping.document.problem(("id",), "BR046", message))
            elif mapping.event == other.event and mapping.enabled and other.enabled and not _exclusive(mapping, other):
                message = f"{other.id} answers {mapping.event} too: a patient may get both messages"
                hint = "give each a condition that the other contradicts (status = 'a', status = 'b')"
                problems.append(mapping.document.problem(("event",), "BR044", message, hint=hint, severity="warning"))
    return problems


_COMPARED = re.compile(r"(?P<left>[^=!<>~]+?)\s*(?P<operator>!?=)\s*(?P<right>'[^']*'|true|false|\d+)")


def _exclusive(one: Mapping, other: Mapping) -> bool:
    """Never both: different readers, or conditions that contradict each other in their text."""
    if {one.recipient, other.recipient} == {"patient", "guardian-only"}:
        return True
    for mine in (condition.path.text.strip() for condition in one.when):
        for yours in (condition.path.text.strip() for condition in other.when):
            if mine in (f"{yours}.not()", f"({yours}).not()") or yours in (f"{mine}.not()", f"({mine}).not()"):
                return True
            a, b = _COMPARED.fullmatch(mine), _COMPARED.fullmatch(yours)
            if a is not None and b is not None and a["left"] == b["left"]:
                same = a["right"] == b["right"]
                if (a["operator"], b["operator"]) == ("=", "=") and not same:
                    return True
                if {a["operator"], b["operator"]} == {"=", "!="} and same:
                    return True
    return False


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _shown(kinds: frozenset[str]) -> str:
    return " or ".join(sorted(kinds))
