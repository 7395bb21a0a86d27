"""From an event, a recipient and what was read, to a row of the outbox: rendered now, or kept as a draft to render later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from bridge.engine.gates import gate_of
from bridge.engine.site import Site
from bridge.ledger import keys, states
from bridge.ledger.clock import SECOND, from_us, to_us
from bridge.ledger.crypto import clear_reference
from bridge.ledger.outbox import NewMessage
from bridge.mappers import tolerant, zones
from bridge.mappers.contact import canonical
from bridge.mappers.mapping import Mapping as MappingFile
from bridge.mappers.recipient import Recipient
from bridge.mappers.reminders import Due
from bridge.mappers.render import Context, Skip, TemplateMessage, held, render
from bridge.outbound.content import Button, Content, Gate
from bridge.outbound.message import Header

PRIORITY = {"high": states.URGENT, "normal": states.NEWS, "low": states.CAMPAIGN}

TOPICS = {
    "appointments": {"es": "citas", "en": "appointments", "pt": "consultas"},
    "results": {"es": "resultados", "en": "results", "pt": "resultados"},
    "follow-up": {"es": "seguimiento", "en": "follow-up", "pt": "acompanhamento"},
    "surveys": {"es": "encuestas", "en": "surveys", "pt": "pesquisas"},
}
AND = {"es": "y", "en": "and", "pt": "e"}


@dataclass(frozen=True, slots=True)
class Scene:
    """The resources a message may be made of, as read for one event. Raw JSON, or None."""

    resource: Mapping[str, Any]
    patient: Mapping[str, Any]
    guardian: Mapping[str, Any] | None = None
    practitioner: Mapping[str, Any] | None = None
    location: Mapping[str, Any] | None = None
    previous: Mapping[str, Any] | None = None
    origin: str | None = None
    topics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that is rendered when it is due: its scene, and for whom."""

    scene: Scene
    wa_id: str
    role: str
    zone: str
    language: str
    offset: str | None = None
    minor: bool = False  # of the patient: a result of theirs is a person's to release

    def to_bytes(self) -> bytes:
        return msgspec.json.encode(
            self, enc_hook=float
        )  # decimals of the EHR keep their literal: a kind of float of ours

    @classmethod
    def from_bytes(cls, value: bytes) -> Draft:
        return msgspec.json.decode(value, type=cls)


@dataclass(frozen=True, slots=True)
class About:
    """The rest that a row says of a message."""

    ehr: str
    resource_key: str
    reference: str
    revision: int
    event: str
    cause: int | None
    person_id: int
    patient_id: int
    identity_id: int
    patient_zone: str | None
    before: bytes | None
    after: bytes
    extra: Mapping[str, object] = field(default_factory=dict)


def zone_of(site: Site, ehr: str, scene: Scene, patient_zone: str | None) -> tuple[str, str]:
    """The zone that days and times are told in, and the rule that chose it."""
    if scene.location is not None:
        for extension in tolerant.extensions(scene.location, "StructureDefinition/timezone"):
            name = tolerant.text(extension.get("valueCode")) or tolerant.text(extension.get("valueString"))
            if name and (known := zones.known(name)):
                return known, "of the place"
    elif patient_zone is not None:
        return patient_zone, "of the patient: the visit has no place"
    configured = site.settings.ehrs[ehr].zone
    return (configured, "of the EHR") if configured else (site.settings.site.zone, "of the site")


def context(site: Site, draft: Draft, ehr: str, now: datetime) -> Context:
    """What the mapping's paths may speak of."""
    scene = draft.scene
    return Context(
        resource=scene.resource,
        patient=scene.patient,
        guardian=scene.guardian,
        practitioner=scene.practitioner,
        location=scene.location,
        previous=scene.previous,
        origin=scene.origin,
        now=now,
        zone=draft.zone,
        language=draft.language,
        site_languages=site.settings.site.languages,
        role=draft.role,
        offset=draft.offset,
        site_policy=site.settings.site.policy,
        consent_topics=topics_text(scene.topics, draft.language),
        patient_participant=participant(scene.resource, scene.patient),
        fhir_version=site.settings.ehrs[ehr].fhir_version,
    )


def in_pilot(site: Site, scene: Scene) -> bool:
    """Whether the pilot covers this patient or this place; without a pilot everybody is in it."""
    pilot = site.settings.pilot
    if not pilot.enabled:
        return True
    place = f"Location/{(scene.location or {}).get('id')}"
    return f"Patient/{scene.patient.get('id')}" in pilot.patients or place in pilot.locations


def topics_text(topics: Sequence[str], language: str) -> str:
    base = language.split("_", maxsplit=1)[0]
    words = [TOPICS.get(topic, {}).get(base, topic) for topic in topics]
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {AND.get(base, ',')} {words[-1]}"


def participant(resource: Mapping[str, Any], patient: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The patient's own participant of an Appointment."""
    own = f"Patient/{patient.get('id')}"
    for each in tolerant.objects(resource.get("participant")):
        if tolerant.reference(each.get("actor")) == own:
            return each
    return None


def effect_key(
    mapping: str, ehr: str, reference: str, revision: int, recipient: str, offset: str | None, site: Site
) -> str:
    """Design §3: who gets what about which revision; `#2` is appended only by an operator."""
    parts = [mapping, ehr, _clear(site, reference), str(revision), _clear(site, recipient)]
    return "|".join([*parts, offset] if offset is not None else parts)


def _clear(site: Site, reference: str) -> str:
    return clear_reference(reference) or site.crypto.index(reference)


def to_content(message: TemplateMessage, draft: Draft, *, named: bool, gate: Gate | None = None) -> Content:
    """The rendered message as its row keeps it."""
    above = message.header
    return Content(
        wa_id=draft.wa_id,
        user_id=None,
        kind="template",
        body=message.body,
        template=message.template,
        language=message.language,
        params=message.params,
        named=named,
        buttons=tuple(
            Button(b.index, b.id, b.title, b.do, b.confirm, b.expires.total_seconds() if b.expires else None)
            for b in message.buttons
        ),
        gate=gate,
        header=Header(above.kind, above.value, above.name, above.address) if above is not None else None,
        above=message.above,
    )


def message(
    site: Site, mapping: MappingFile, draft: Draft, about: About, recipient: Recipient, due: Due | None = None
) -> NewMessage | Skip:
    """The row for one event, mapping and recipient, or why there is none."""
    business = site.clock.now_us()
    rendered = render(mapping, context(site, draft, about.ehr, from_us(business))) if due is None else None
    if isinstance(rendered, Skip):
        return rendered
    delivery = mapping.delivery
    quiet = delivery.quiet_hours == "respect"
    cls = states.REMINDER if due is not None else PRIORITY[delivery.priority]
    expires = int(delivery.expires.total_seconds() * SECOND)
    state, reason, not_before = "ready", None, None
    why: tuple[str, ...] = ()
    if due is not None:
        state, reason, not_before, not_after = "planned", "waits for its time", to_us(due.at), to_us(due.expires_at)
    else:
        until = site.quiet_until(business, about.patient_zone) if quiet else None
        if until is not None and delivery.if_quiet == "drop":
            return Skip("quiet hours, and the mapping says to drop it then")
        if until is not None:
            state, reason, not_before = "planned", "quiet hours", until
        not_after = (not_before or business) + expires
        if mapping.gate is not None and (why := held(mapping, context(site, draft, about.ehr, from_us(business)))):
            state, reason = "held", f"a clinician must release it: {why[0]}"
        elif mapping.gate is not None and draft.minor:
            why, state, reason = (), "held", "a clinician must release it: a result of a minor"
    number = site.number().key
    own = canonical(draft.wa_id)
    if state in ("ready", "held") and rendered is not None:
        template = site.content.catalogue.get(rendered.template)
        named = template is None or template.parameter_format == "named"
        gate = gate_of(site, mapping, draft.scene.patient, why)
        content = to_content(rendered, draft, named=named, gate=gate).to_bytes()
    else:
        content = draft.to_bytes()
    fields: dict[str, object] = {
        "cause": about.cause,
        "ehr": about.ehr,
        "resource_key": about.resource_key,
        "resource_ref": clear_reference(about.reference),
        "revision": about.revision,
        "event": about.event,
        "offset": draft.offset,
        "mapping": mapping.id,
        "mapping_version": mapping.version,
        "template": rendered.template if rendered is not None else None,
        "language": rendered.language if rendered is not None else draft.language,
        "zone": draft.zone,
        "purpose": mapping.consent.purpose,
        "person_id": about.person_id,
        "patient_id": about.patient_id,
        "identity_id": about.identity_id,
        "not_before": not_before,
        "not_after": not_after,
        "quiet": quiet,
        "cohort": in_pilot(site, draft.scene),
        "missing": mapping.consent.if_missing if mapping.consent.if_missing != "skip" else None,
        "reply_within": int(mapping.no_reply.total_seconds() * SECOND) if mapping.no_reply is not None else None,
    }
    return NewMessage(
        effect_key=effect_key(
            mapping.id, about.ehr, about.reference, about.revision, recipient.reference, draft.offset, site
        ),
        cls=cls,
        state=state,
        kind="template",
        lane_key=site.crypto.index(keys.conversation(number, own)),
        number=number,
        planned_at=business,
        config_version=site.content.version,
        content=content,
        reason=reason,
        before=about.before,
        after=about.after,
        fields=fields | dict(about.extra),
    )
