"""What `bridge preview --payload` adds: the JSON that Meta would be sent, and what a tap on each button would write to the EHR.

Two places of that JSON are shortened: the recipient's number, of which the last three digits stay, and the buttons' tokens,
which are signed anew for each message and worth nothing to a reader.

Source: mapping-language.md D.6
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bridge.engine.compose import Draft, Scene, to_content
from bridge.fhir.decisions import AlreadySo, Change, cancel, confirm
from bridge.mappers.mapping import Mapping as Rule
from bridge.mappers.render import ButtonSpec, Context, TemplateMessage, render
from bridge.outbound.content import Content
from bridge.outbound.message import Address, Outgoing, QuickReply, Template
from bridge.outbound.providers import cloud_api
from bridge.settings import Ehr, Settings

NOBODY = "10000000000"  # in the place of a number that is not known
DECISIONS = ("appointment.confirm", "appointment.cancel")
NO_WRITE = {
    "appointment.reschedule": "a task for a person, with what the patient writes",
    "appointment.book": "a task for a person, with what the patient writes",
    "handoff.nurse": "a task for a person, with what the patient writes",
    "url.open": "nothing: the phone opens an address",
}


def payloads(
    rule: Rule,
    contexts: Sequence[Context],
    settings: Settings | None,
    ehr: str | None,
    wa_id: str | None,
    actor: str | None,
) -> list[dict[str, Any]]:
    """One for each language: `language`, `post` (None where nothing is sent) and `taps`.

    Args:
        rule: the mapping.
        contexts: one for each language.
        settings: of the site; None where its config cannot be loaded, then writes are those of the defaults.
        ehr: key of the EHR that holds the resource, for its way of writing; else the first.
        wa_id: whom it would go to.
        actor: who would tap: "Patient/ana", "RelatedPerson/luis".
    """
    found: list[dict[str, Any]] = []
    for context in contexts:
        made = render(rule, context)
        one: dict[str, Any] = {"language": context.language, "post": None, "taps": []}
        if isinstance(made, TemplateMessage):
            one["post"] = _post(rule, made, context, wa_id or NOBODY, known=wa_id is not None)
            site = _ehr(settings, ehr)
            one["taps"] = [_tap(each, context, site, actor) for each in made.buttons]
        found.append(one)
    return found


def lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """For a terminal."""
    for each in found:
        if each["post"] is None:
            continue
        yield ""
        yield f"{each['language']} · what Meta would be sent (number and buttons' tokens shortened)"
        yield from (f"  {line}" for line in json.dumps(each["post"], ensure_ascii=False, indent=1).splitlines())
        for tap in each["taps"]:
            yield f"  a tap on “{tap['title']}” ({tap['do']}): {tap['writes']}"
            yield from (f"    {json.dumps(change, ensure_ascii=False)}" for change in tap["changes"])


def _post(rule: Rule, made: TemplateMessage, context: Context, wa_id: str, *, known: bool) -> dict[str, Any]:
    variant = rule.send.patient if made.role == "self" else rule.send.guardian
    named = variant is None or variant.template.parameter_format == "named"
    draft = Draft(Scene({}, {}), wa_id, made.role, context.zone, context.language)
    template = _template(to_content(made, draft, named=named))
    content = replace(template, buttons=tuple(QuickReply(b.index, f"b1.….….{b.id}.…") for b in made.buttons))
    leaving = Outgoing(Address(wa_id), content, "b1.….…")
    body: dict[str, Any] = json.loads(cloud_api.payload(leaving))
    body["to"] = f"+…{wa_id[-3:]}" if known else "+…"
    return body


def _template(content: Content) -> Template:
    return Template(content.template or "", content.language or "", content.params, content.named, (), content.header)


def _ehr(settings: Settings | None, key: str | None) -> Ehr | None:
    if settings is None:
        return None
    return settings.ehrs.get(key) if key is not None else next(iter(settings.ehrs.values()), None)


def _tap(button: ButtonSpec, context: Context, ehr: Ehr | None, actor: str | None) -> dict[str, Any]:
    """What a tap comes to: `writes` in words, `changes` as JSON Patch operations of the resource as it is now."""
    writes, changes = _writes(button.do, context, ehr, actor)
    if button.confirm:
        writes = f"after “sure?”: {writes}"
    return {"id": button.id, "title": button.title, "do": button.do, "writes": writes, "changes": changes}


def _writes(do: str, context: Context, ehr: Ehr | None, actor: str | None) -> tuple[str, list[dict[str, Any]]]:
    said = (
        "; POST Communication (that the patient tapped)"
        if ehr is None or ehr.writeback.communication == "create"
        else ""
    )
    if do in DECISIONS:
        return _decision(do, context, ehr, actor, said)
    if do in NO_WRITE:
        return f"nothing of the visit; {NO_WRITE[do]}{said}", []
    if do == "results.show":
        return f"nothing; it asks what the mapping's gate says, then sends the document{said}", []
    if context.role == "guardian" and do == "consent.revoke":
        return f"nothing of the patient's: it ends the guardian's link here{said}", []
    if ehr is not None and ehr.writeback.consent != "create":
        return f"no Consent: writeback.consent is off; bridge keeps the decision{said}", []
    decision = "permit" if do == "consent.grant" else "deny"
    return f"POST Consent, decision {decision}, of {_patient(context) or 'the patient'}{said}", []


def _decision(
    do: str, context: Context, ehr: Ehr | None, actor: str | None, said: str
) -> tuple[str, list[dict[str, Any]]]:
    mode = ehr.writeback.appointment if ehr is not None else "put"
    if mode == "none":
        return f"nothing of the visit: writeback.appointment is off, so a person gets a task{said}", []
    patient = _patient(context)
    if patient is None:
        return "nothing: no patient is known here", []
    who = actor or patient
    if do == "appointment.confirm":
        change = confirm(context.resource, patient, who)
    else:
        change = cancel(context.resource, patient, who, fhir_version=context.fhir_version)
    reference = f"Appointment/{context.resource.get('id')}"
    if isinstance(change, Change):
        kept = [each for each in change.ops if each["op"] != "test"]
        whole = " of the whole resource as it is then, with" if mode == "put" else " with"
        return f"{mode.upper()} {reference}, If-Match its version,{whole} these changes{said}", kept
    if isinstance(change, AlreadySo):
        return f"nothing of the visit: {reference} says so already{said}", []
    return f"nothing of the visit: {change.reason}{said}", []


def _patient(context: Context) -> str | None:
    name = (context.patient or {}).get("id")
    return f"Patient/{name}" if isinstance(name, str) else None
