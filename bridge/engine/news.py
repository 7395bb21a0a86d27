"""What a changed resource means for whom: events, recipients, messages, reminders, consents. Decided outside any
transaction against a snapshot; `apply` checks inside its transaction that the snapshot still holds.

Superseding rolls back: news not gone yet is superseded, and the event is computed again from what the patient was told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Row

from bridge.engine import compose, persons
from bridge.engine.change import Change, Snapshot
from bridge.engine.compose import About, Draft
from bridge.engine.fates import Fate
from bridge.engine.persons import PersonChange
from bridge.engine.reads import Reader
from bridge.engine.scenes import NeedReads, Scenes, as_raw
from bridge.engine.site import Site
from bridge.engine.truth import Group, Pending, Truth, Waiting, version_values
from bridge.errors import UnreadableResource
from bridge.ledger import keys, states
from bridge.ledger.clock import to_us
from bridge.ledger.crypto import clear_reference
from bridge.mappers import tolerant
from bridge.mappers.consent import read_decisions
from bridge.mappers.events import RESOURCES, same
from bridge.mappers.events.appointment import PROMISED
from bridge.mappers.mapping import Mapping as MappingFile
from bridge.mappers.person import Person, read_person
from bridge.mappers.recipient import Recipient, Refusal, is_minor, recipients
from bridge.mappers.reminders import Covered, schedule
from bridge.mappers.render import Skip

OURS = "urn:bridge:"  # systems of the identifiers we write
REMINDER = "appointment.reminder"
Decided = tuple[str, str, datetime, datetime | None, datetime | None]  # purpose, decision, when, valid from, until
NOT_ARMED = "reminder "  # begins the reason for a reminder that is not armed: no news is lost by that

__all__ = ["Change", "News", "Snapshot", "as_raw"]


class News:
    """Decides for groups; stateless but for what it is given."""

    def __init__(self, site: Site, reader: Reader, people: persons.People) -> None:
        self._site = site
        self._reader = reader
        self._people = people
        self._scenes = Scenes(site, reader, people)
        self.beforehand = self._scenes.beforehand

    def decide(
        self, group: Group, snapshot: Snapshot, truth: Truth, held: Any, *, prime: bool = False, primed: bool = True
    ) -> Change | Pending | Waiting:
        """The change of one group, or what is missing to say it."""
        change = Change(group, list(truth.fates), revision=snapshot.resource.revision if snapshot.resource else 0)
        change.states = {row.id: row.state for row in snapshot.messages}
        change.restored = truth.restored
        if truth.projection is None:
            self._note_version(change, snapshot, truth)
            return change
        kind = group.reference.split("/", maxsplit=1)[0]
        whose = [self._site.crypto.index(keys.person(group.ehr, each)) for each in self._patients(kind, truth, held)]
        change.subject, change.others = (whose[0] if whose else None), tuple(whose[1:])
        if not primed and not prime and kind != "Consent":
            self._fate(change, truth, "suppressed", "not primed: run `bridge prime` first")
            return change
        revision = change.revision + 1
        try:
            if kind == "Consent":
                self._consents(change, truth, held)
            self._messages(change, snapshot, truth, held, revision, kind, prime=prime)
        except NeedReads as missing:
            return missing.state
        except UnreadableResource as error:
            change.messages.clear()
            self._fate(change, truth, "unusable", str(error))
            return change
        self._resource(change, snapshot, truth, revision, kind, baseline=prime or bool(change.echoes))
        return change

    # --- the resource's own row ------------------------------------------------------------------------------------

    def _note_version(self, change: Change, snapshot: Snapshot, truth: Truth) -> None:
        if snapshot.resource is None or (truth.version is None and truth.read_at is None):
            return
        change.resource = version_values(truth.version, truth.etag)
        if truth.read_at is not None:
            change.resource["read_at"] = truth.read_at
        if truth.restored:
            change.resource["generation"] = snapshot.resource.generation + 1

    def _resource(
        self, change: Change, snapshot: Snapshot, truth: Truth, revision: int, kind: str, *, baseline: bool
    ) -> None:
        site, key = self._site, change.group.key
        plain = msgspec.json.encode(RESOURCES[kind].to_json(truth.projection))
        old = snapshot.resource
        values: dict[str, object] = {
            "ehr": change.group.ehr,
            "type": kind,
            "ref": clear_reference(change.group.reference),
            "revision": revision,
            "generation": (old.generation if old is not None else 0) + (1 if truth.restored else 0),
            "key_id": site.crypto.key_id,
            "projection": site.crypto.encrypt(plain, "resource", "projection", key),
            "changed_at": site.clock.now_us(),
        } | version_values(truth.version, truth.etag)
        if truth.read_at is not None:
            values["read_at"] = truth.read_at
        if baseline:
            values["baseline"] = site.crypto.encrypt(plain, "resource", "baseline", key)
            values["baseline_revision"] = revision
        elif old is not None and old.baseline is not None:
            held = site.crypto.decrypt(old.baseline, old.key_id, "resource", "baseline", key)
            values["baseline"] = site.crypto.encrypt(held, "resource", "baseline", key)
        change.resource, change.new = values, old is None

    # --- consents --------------------------------------------------------------------------------------------------

    def _consents(self, change: Change, truth: Truth, held: Any) -> None:
        site, group = self._site, change.group
        settings = site.settings
        subject = truth.projection.subject
        if held is not None and held.subject not in (None, subject):  # it turned out to be somebody else's
            before = self._person_id(change, group.ehr, held.subject)
            self._decided(change, before, [(purpose, "silent", site.now(), None, None) for purpose in held.purposes])
            held = None
        if subject is None:
            return
        person_id = self._person_id(change, group.ehr, subject)
        rows: list[Decided]
        if truth.raw is None:
            rows = [(purpose, "silent", site.now(), None, None) for purpose in truth.projection.purposes]
        else:
            rows = [
                (d.purpose, "silent" if d.decision == "over" else d.decision, d.decided_at, d.valid_from, d.valid_until)
                for d in read_decisions(
                    truth.raw,
                    settings.consent.recognise,
                    fhir_version=settings.ehrs[group.ehr].fhir_version,
                    now=site.now(),
                    zone=settings.ehrs[group.ehr].zone or settings.site.zone,
                )
            ]
        named = {row[0] for row in rows}
        dropped = set(held.purposes) - named if held is not None else set()
        rows += [(purpose, "silent", site.now(), None, None) for purpose in sorted(dropped)]
        self._decided(change, person_id, rows)

    def _decided(self, change: Change, person_id: int, rows: Iterable[Decided]) -> None:
        """What a Consent says of one person, in the words of the ledger."""
        group = change.group
        for purpose, decision, at, start, end in rows:
            change.consents.append({
                "id": self._site.ids(), "person_id": person_id, "purpose": purpose, "decision": decision,
                "decided_at": to_us(at), "source": "ehr", "ref_key": group.key,
                "valid_from": to_us(start) if start is not None else None,
                "valid_until": to_us(end) if end is not None else None,
                "evidence": clear_reference(group.reference), "recorded_at": self._site.clock.now_us(),
            })  # fmt: skip

    def _person_id(self, change: Change, ehr: str, reference: str) -> int:
        key = self._site.crypto.index(keys.person(ehr, reference))
        planned = self._people.planned.get(key)
        if planned is not None:
            if planned not in change.persons:
                change.persons.append(planned)
            return planned.id
        held = self._people.get(key)
        if held is not None:
            return int(held.row.id)
        bare = self._people.planned[key] = persons.bare(self._site, ehr, reference)
        change.persons.append(bare)
        return bare.id

    # --- messages --------------------------------------------------------------------------------------------------

    def _messages(
        self, change: Change, snapshot: Snapshot, truth: Truth, held: Any, revision: int, kind: str, *, prime: bool
    ) -> None:
        echo = self._echo(snapshot, truth, kind)
        if echo is not None:
            change.echoes.append(echo)
        ours = echo is not None or (kind == "Consent" and _ours(truth.raw))
        older = [row for row in snapshot.messages if row.state in states.RECALLABLE and row.answers is None]
        change.supersede = [row.id for row in older]
        change.close = [row.id for row in snapshot.messages if row.state == "held" and row.id in snapshot.unsaid]
        who = sorted(self._patients(kind, truth, held))
        reasons: list[str] = []
        for patient in who:
            own: list[str] = []
            self._for_patient(change, snapshot, truth, patient, kind, revision, own, silent=prime or ours)
            reasons += [_of_one(patient, reason) for reason in own] if len(who) > 1 else own
        planned = len(change.messages)
        if planned:
            self._fate(change, truth, "planned", "; ".join(dict.fromkeys(reasons)) or None, planned)
        elif ours:
            self._fate(change, truth, "applied", "our own write")
        elif refused := [reason for reason in dict.fromkeys(reasons) if not _bare(reason).startswith(NOT_ARMED)]:
            self._fate(change, truth, "suppressed", "; ".join(refused))
        elif older:
            self._fate(change, truth, "merged", "back to what the patient was told")
        elif kind == "Consent":
            self._fate(change, truth, "applied", "consent")
        elif not who:
            self._fate(change, truth, "ignored", "no patient is named in it")
        else:
            self._fate(change, truth, "ignored", "nothing a patient would notice")

    @staticmethod
    def _fate(change: Change, truth: Truth, fate: str, reason: str | None, planned: int | None = None) -> None:
        if truth.cause is not None:
            change.fates.append(Fate(truth.cause, fate, reason, planned, change.subject, change.others))

    @staticmethod
    def _patients(kind: str, truth: Truth, held: Any) -> list[str]:
        """Whom it is about, and whom it was about before: the first is the one that the record names first."""
        resource = RESOURCES[kind]
        before = resource.patients(held) if held is not None else ()
        return list(dict.fromkeys([*resource.patients(truth.projection), *before]))

    def _echo(self, snapshot: Snapshot, truth: Truth, kind: str) -> int | None:
        for row in snapshot.echoes:
            plain = self._site.crypto.decrypt(row.echo, row.key_id, "write", "echo", row.id)
            if same(RESOURCES[kind].from_json(msgspec.json.decode(plain)), truth.projection):
                return int(row.id)
        return None

    def _for_patient(
        self,
        change: Change,
        snapshot: Snapshot,
        truth: Truth,
        patient: str,
        kind: str,
        revision: int,
        reasons: list[str],
        *,
        silent: bool,
    ) -> None:
        """Messages about one patient: news unless `silent` (prime, our own doing), and reminders."""
        resource, site, ehr = RESOURCES[kind], self._site, change.group.ehr
        now = resource.seen_by(truth.projection, patient)
        if now is None:
            return  # it turned out to be somebody else's: of that nobody can be told kindly
        promised = kind == "Appointment" and now.status in PROMISED
        mappings = site.content.mappings
        reminding = mappings.for_event(REMINDER) if promised else ()
        told_somebody = any(row.patient_id is not None for row in snapshot.messages) or (
            snapshot.resource is not None and snapshot.resource.baseline is not None
        )
        if silent and not reminding:
            return
        if not told_somebody and not promised and not resource.events(None, now):
            return  # never heard of, and nothing begins: no need to ask who it is
        self._scenes.ahead(ehr, patient, truth)
        raw = self._scenes.person(ehr, patient, truth.included)
        if isinstance(raw, str):
            reasons.append(raw)
            return
        person = read_person(raw, region=site.settings.site.region, now=site.now())
        related = self._scenes.related(ehr, patient, person)
        planned = self._person_change(change, ehr, person)
        zone = person.zone or site.settings.site.zone
        today = site.now().astimezone(ZoneInfo(zone)).date()
        for who in ("guardian-if-minor", "patient", "guardian-only"):
            wanted = [m for m in self._mappings_of(resource) if m.recipient == who] if not silent else []
            reminders = [m for m in reminding if m.recipient == who]
            default = who == "guardian-if-minor"
            if not (wanted or reminders or default):
                continue
            chosen = recipients(
                who,
                person,
                [one for one, _ in related],
                minor_under=site.settings.site.minor_under,
                today=today,
                own_voice_from=site.settings.site.own_voice_from,
            )
            if isinstance(chosen, Refusal):
                if wanted or reminders:
                    reasons.append(chosen.reason)
                continue
            self._for_recipient(
                change, snapshot, truth, chosen, planned, raw,
                {one.reference: value for one, value in related}, kind, revision, reasons, wanted, reminders,
                silent=silent,
            )  # fmt: skip

    def _mappings_of(self, resource: Any) -> list[MappingFile]:
        return [m for name in resource.names for m in self._site.content.mappings.for_event(name)]

    def _for_recipient(
        self,
        change: Change,
        snapshot: Snapshot,
        truth: Truth,
        chosen: Recipient,
        patient_change: PersonChange,
        patient_raw: Mapping[str, Any],
        related: Mapping[str, Mapping[str, Any]],
        kind: str,
        revision: int,
        reasons: list[str],
        wanted: Sequence[MappingFile],
        reminders: Sequence[MappingFile],
        *,
        silent: bool,
    ) -> None:
        site, ehr, resource = self._site, change.group.ehr, RESOURCES[kind]
        addressed = (
            patient_change
            if chosen.role == "self"
            else self._person_change(change, ehr, chosen.person, patient_id=patient_change.id)
        )
        if not addressed.identity_of:
            reasons.append("no phone number that WhatsApp could reach")
            return
        wa_id = chosen.person.phones[0].wa_id
        patient = chosen.patient.reference
        told = self._told(snapshot, addressed.id, patient_change.id, kind)
        before = resource.seen_by(told, patient)
        now = resource.seen_by(truth.projection, patient)
        events = () if silent else resource.events(before, now)
        scene = self._scenes.scene(ehr, truth, patient_raw, related.get(chosen.reference), before)
        patient_zone = chosen.patient.zone
        zone, _ = compose.zone_of(site, ehr, scene, patient_zone)
        language = site.language(chosen.person.language, chosen.patient.language)
        minor = kind == "DiagnosticReport" and is_minor(
            chosen.patient, minor_under=site.settings.site.minor_under, today=site.now().date()
        )
        draft = Draft(scene, wa_id, chosen.role, zone, language, minor=minor)
        about = About(
            ehr=ehr,
            resource_key=change.group.key,
            reference=change.group.reference,
            revision=revision,
            event="",
            cause=truth.cause,
            person_id=addressed.id,
            patient_id=patient_change.id,
            identity_id=addressed.identity_of[wa_id],
            patient_zone=patient_zone,
            before=msgspec.json.encode(resource.to_json(before)) if before is not None else None,
            after=msgspec.json.encode(resource.to_json(now)),
        )
        for event in events:
            mappings = [m for m in wanted if m.event == event]
            if not mappings:
                if kind != "Consent" and not site.content.mappings.for_event(event):
                    reasons.append(f"no mapping for {event}")
                continue
            for mapping in mappings:
                if event.startswith("diagnosticreport.") and not site.settings.results.enabled:
                    reasons.append("results are off until the site signs a basis (results.enabled)")
                    continue
                self._add(change, mapping, draft, _with(about, event=event), chosen, reasons)
        for mapping in reminders:
            self._remind(change, mapping, draft, about, chosen, reasons, now)

    def _add(
        self, change: Change, mapping: MappingFile, draft: Draft, about: About, chosen: Recipient, reasons: list[str]
    ) -> None:
        made = compose.message(self._site, mapping, draft, about, chosen)
        if isinstance(made, Skip):
            reasons.append(made.reason)
        else:
            change.messages.append(made)

    def _remind(
        self,
        change: Change,
        mapping: MappingFile,
        draft: Draft,
        about: About,
        chosen: Recipient,
        reasons: list[str],
        now: Any,
    ) -> None:
        site = self._site
        assert mapping.remind is not None
        for offset in mapping.remind.before:
            due = schedule(
                now.start,
                draft.zone,
                offset,
                now=site.now(),
                quiet=site.quiet if mapping.delivery.quiet_hours == "respect" else None,
                patient_zone=about.patient_zone or site.settings.site.zone,
                expires=mapping.delivery.expires,
            )
            if isinstance(due, Covered):
                reasons.append(f"{NOT_ARMED}{offset}: {due.reason}")
                continue
            made = compose.message(site, mapping, _offset(draft, offset), _with(about, event=REMINDER), chosen, due)
            if isinstance(made, Skip):
                reasons.append(made.reason)
            else:
                change.messages.append(made)

    def _told(self, snapshot: Snapshot, person_id: int, patient_id: int, kind: str) -> Any:
        """The projection of the newest news that cannot be recalled, or what they know without us."""
        best: Row[Any] | None = None
        for row in snapshot.messages:
            if (
                row.state not in states.TOLD
                or row.answers is not None
                or row.after is None
                or row.id in snapshot.unsaid
            ):
                continue
            if row.person_id != person_id or row.patient_id != patient_id:
                continue
            if best is None or (row.revision, row.id) > (best.revision, best.id):
                best = row
        held = snapshot.resource
        if held is not None and held.baseline is not None and (best is None or held.baseline_revision >= best.revision):
            plain = self._site.crypto.decrypt(held.baseline, held.key_id, "resource", "baseline", held.key)
        elif best is not None:
            plain = self._site.crypto.decrypt(best.after, best.key_id, "outbox", "after", best.id)
        else:
            return None
        return RESOURCES[kind].from_json(msgspec.json.decode(plain))

    def _person_change(
        self, change: Change, ehr: str, person: Person, *, patient_id: int | None = None
    ) -> PersonChange:
        key = self._site.crypto.index(keys.person(ehr, person.reference))
        held = self._people.get(key)
        planned = self._people.planned.get(key)
        if planned is None or not planned.read:
            made = persons.plan(
                self._site,
                ehr,
                person,
                held,
                read_at=self._site.store.now(),
                patient_id=patient_id,
                row_id=planned.id if planned is not None else None,
            )
            if planned in change.persons:
                change.persons.remove(planned)
            planned = self._people.planned[key] = made
        if planned not in change.persons:
            change.persons.append(planned)
            self._consents_once(change, ehr, person, held, planned)
        return planned

    def _consents_once(
        self, change: Change, ehr: str, person: Person, held: persons.Held | None, made: PersonChange
    ) -> None:
        """Consent is learned by reading it when a person is first met."""
        site = self._site
        recognise = site.settings.consent.recognise
        if person.kind != "patient" or not recognise or not self._reader.can_read(ehr):
            return
        if held is not None and held.row.consents_read_at:
            return
        found = self._scenes.read(ehr, f"Consent?patient={person.reference}")
        if found.state != "refused":  # else it is asked again with the next event
            made.values["consents_read_at"] = max(found.begun_at, 1)
        for raw in found.value or []:
            if raw.get("resourceType") != "Consent":
                continue
            try:
                decisions = read_decisions(
                    raw,
                    recognise,
                    fhir_version=site.settings.ehrs[ehr].fhir_version,
                    now=site.now(),
                    zone=site.settings.ehrs[ehr].zone or site.settings.site.zone,
                )
            except UnreadableResource:
                continue
            for d in decisions:
                if d.patient is not None and d.patient != person.reference:
                    continue
                change.consents.append({
                    "id": site.ids(), "person_id": made.id, "purpose": d.purpose,
                    "decision": "silent" if d.decision == "over" else d.decision, "decided_at": to_us(d.decided_at),
                    "source": "ehr", "ref_key": site.crypto.index(keys.resource(ehr, d.consent_ref)),
                    "valid_from": to_us(d.valid_from) if d.valid_from is not None else None,
                    "valid_until": to_us(d.valid_until) if d.valid_until is not None else None,
                    "evidence": clear_reference(d.consent_ref), "recorded_at": site.clock.now_us(),
                })  # fmt: skip


def _of_one(patient: str, reason: str) -> str:
    """Whose reason it is, of a visit for several."""
    return f"{clear_reference(patient) or 'Patient/?'}: {reason}"


def _bare(reason: str) -> str:
    return reason.partition(": ")[2] if reason.startswith("Patient/") else reason


def _ours(raw: Mapping[str, Any] | None) -> bool:
    """A Consent that carries an identifier of ours: the patient said it here and was answered here."""
    identifiers = tolerant.objects((raw or {}).get("identifier"))
    return any((tolerant.text(each.get("system")) or "").startswith(OURS) for each in identifiers)


def _with(about: About, *, event: str) -> About:
    return replace(about, event=event)


def _offset(draft: Draft, offset: str) -> Draft:
    return replace(draft, offset=offset)
