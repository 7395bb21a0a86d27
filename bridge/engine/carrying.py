"""Carrying out one write: what to build, whom to ask, what the outcome means. Blocks on the network; no transaction is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Text, and_, bindparam, cast, literal, select, update

from bridge.engine.pokes import hint_row
from bridge.engine.reads import Found, Reader
from bridge.engine.site import Site
from bridge.engine.truth import version_held, version_values
from bridge.errors import UnreadableResource
from bridge.fhir import build, projection, writeback
from bridge.fhir.client import EhrClient, Missing
from bridge.fhir.versions import freshness, version_of
from bridge.ledger import audit
from bridge.ledger.clock import from_us
from bridge.ledger.tables import attempt, inbox, mark, outbox, person, resource, turn, write
from bridge.mappers import formatters
from bridge.mappers.events import RESOURCES, same
from bridge.outbound.content import Content

REPLY = {"confirm": "confirmed", "cancel": "cancelled"}

_patient, _recipient = person.alias("patient"), person.alias("recipient")
_OUT = (  # all that a Communication of ours is made of, in one query: one is written for every message
    select(
        outbox.c.id, outbox.c.state, outbox.c.content, outbox.c.key_id, outbox.c.resource_ref, outbox.c.offset,
        outbox.c.sent_at, outbox.c.accepted_at, outbox.c.delivered_at,
        _patient.c.ref.label("patient"), _recipient.c.ref.label("recipient"), mark.c.value.label("known"),
        attempt.c.n, attempt.c.body.label("proof"), attempt.c.key_id.label("proof_key"),
    )
    .select_from(outbox)
    .outerjoin(_patient, _patient.c.id == outbox.c.patient_id)
    .outerjoin(_recipient, _recipient.c.id == outbox.c.person_id)
    .outerjoin(mark, mark.c.key == literal("communication:") + cast(outbox.c.id, Text))
    .outerjoin(attempt, and_(attempt.c.message == outbox.c.id, attempt.c.body.is_not(None)))
    .where(outbox.c.id.in_(bindparam("messages", expanding=True)))
    .order_by(attempt.c.n)
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a write, and what the patient is to read."""

    state: str  # asked (again), done, merged, refused, held
    reason: str | None = None
    retry_after: float | None = None
    reply: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    apply: Callable[[Connection, int], None] | None = None  # further rows, in the recording transaction
    known: str | None = None  # "Communication/c1": where the EHR keeps what was projected


class Carrying:
    """Knows every verb of `write`."""

    def __init__(self, site: Site, reader: Reader) -> None:
        self._site = site
        self._reader = reader

    def carry(self, row: Any, *, look_first: bool = False) -> Outcome:
        """Do it. `look_first`: an earlier try may have reached the EHR, whatever its row says.

        Raises: EhrUnreachable, EhrRefused.
        """
        client = self._site.clients.get(row.ehr)
        if client is None:
            return Outcome("held", "this EHR has no base_url", reply="not_done" if row.verb in REPLY else None)
        if row.verb in REPLY:
            return self._command(row, client)
        if row.verb in ("stop", "start"):
            return self._consent(row, client)
        if row.verb == "communication":
            return self._out(row, client, look_first=look_first)
        return self._in(row, client)

    # --- a patient's decision about a visit ------------------------------------------------------------------------

    def _command(self, row: Any, client: EhrClient) -> Outcome:
        site = self._site
        wanted = self._wanted(row)
        mode = site.settings.ehrs[row.ehr].writeback.appointment
        if mode == "none":
            return Outcome("held", "appointments are not written back here", reply="not_done")
        if datetime.fromisoformat(wanted["start"]) <= site.now():  # the EHR was away too long
            return self.not_done(row, Outcome("refused", "the visit had begun before it could be written"))
        begun = [site.store.now()]

        def remember(raw: Mapping[str, Any]) -> None:
            begun[0] = site.store.now()
            self._remember(row, raw)

        result = writeback.carry_out(
            client,
            row.verb,
            wanted["reference"],
            wanted["patient"],
            wanted["actor"],
            mode=mode,
            expected=writeback.Expected(start=wanted["start"]),
            fhir_version=site.settings.ehrs[row.ehr].fhir_version,
            about_to_write=remember,
        )
        if isinstance(result, writeback.Done):
            # as old as the moment the write began: what was pushed since then is not answered by it
            self._reader.put(row.ehr, wanted["reference"], Found(begun[0], dict(result.resource), "found", result.etag))
            return Outcome(
                "done",
                reply=REPLY[row.verb],
                apply=lambda c, now: self._own_revision(c, row, result.resource, result.etag),
            )
        if isinstance(result, writeback.Held):
            return self.not_done(row, Outcome("held", result.reason))
        refused = self.not_done(row, Outcome("refused", result.reason))
        return refused if result.visit == "as it was" else self._overtaken(row, wanted, result, refused)

    def _overtaken(self, row: Any, wanted: Mapping[str, Any], result: writeback.Refused, refused: Outcome) -> Outcome:
        """The visit is another than the patient decided about: they read what it is now, and it is applied as news even
        if the EHR never notifies it."""
        reply, fields = "no_longer", self._now_at(row, wanted, result.held)
        if fields is not None:
            reply = "changed_since"

        def apply(connection: Connection, now: int) -> None:
            if refused.apply is not None:
                refused.apply(connection, now)
            self._read_again(connection, row)

        return replace(refused, reply=reply, fields=fields or {}, apply=apply)

    def _now_at(self, row: Any, wanted: Mapping[str, Any], held: Mapping[str, Any] | None) -> dict[str, str] | None:
        """Day and time of the visit as the EHR holds it, in the patient's words; None for one that does not take place."""
        try:
            visit = RESOURCES["Appointment"].from_json(msgspec.json.decode(self._projected(row.ehr, held or {})))
        except UnreadableResource:
            return None
        if visit.status not in ("booked", "pending") or visit.start is None or wanted["patient"] not in visit.patients:
            return None
        how = wanted["language"], wanted.get("zone") or self._site.settings.site.zone
        return {"day": formatters.day(visit.start, *how), "time": formatters.time(visit.start, *how)}

    @staticmethod
    def not_done(row: Any, outcome: Outcome) -> Outcome:
        """A patient's decision that did not come to be: they read it, a person looks, and no echo of it is waited for."""

        def leave(connection: Connection, now: int) -> None:
            connection.execute(
                update(turn)
                .where(turn.c.id == row.turn_id)
                .values(open=True, reason=f"{row.verb} could not be written to the EHR")
            )

        return replace(outcome, reply="not_done", apply=leave)

    def _remember(self, row: Any, raw: Mapping[str, Any]) -> None:
        """Store what the EHR will show us, before it can: its notification often comes before its answer.

        A confirmation changes nothing that a revision is made of, so whatever else its notification shows is news.
        """
        site = self._site
        if row.verb != "cancel":
            return
        try:
            plain = self._projected(row.ehr, raw)
        except UnreadableResource:
            return
        with site.store.write() as connection:
            connection.execute(
                update(write)
                .where(write.c.id == row.id)
                .values(echo=site.crypto.encrypt(plain, "write", "echo", row.id, row.key_id))
            )

    def _projected(self, ehr: str, raw: Mapping[str, Any]) -> bytes:
        settings = self._site.settings
        kind = RESOURCES["Appointment"]
        projected = kind.project(
            raw,
            settings.ehrs[ehr].fhir_version,
            zone=settings.ehrs[ehr].zone or settings.site.zone,
            now=self._site.now(),
        )
        return msgspec.json.encode(kind.to_json(projected))

    def _own_revision(self, connection: Connection, row: Any, raw: Mapping[str, Any], etag: str | None) -> None:
        """The EHR's answer to our write is a revision of our own doing: it plans nothing, and it is what the patient knows."""
        site = self._site
        held = connection.execute(select(resource).where(resource.c.key == row.resource_key).with_for_update()).first()
        if held is None:
            return
        kind = RESOURCES["Appointment"]
        now = kind.from_json(msgspec.json.decode(self._projected(row.ehr, raw)))
        plain = site.crypto.decrypt(held.projection, held.key_id, "resource", "projection", held.key)
        before = kind.from_json(msgspec.json.decode(plain))
        newer = freshness(version_held(held), version_of(raw)) == "newer"
        values: dict[str, object] = version_values(version_of(raw), etag)
        if not same(before, now) and (not newer or row.verb != "cancel"):
            self._read_again(connection, row)  # it shows somebody else's doing too, or is older than what we hold
        if row.verb != "cancel" or same(before, now):
            values = values if newer and same(before, now) else {}
        else:
            encoded = msgspec.json.encode(kind.to_json(now))
            values |= {
                "revision": held.revision + 1,
                "key_id": site.crypto.key_id,
                "projection": site.crypto.encrypt(encoded, "resource", "projection", held.key),
                "baseline": site.crypto.encrypt(encoded, "resource", "baseline", held.key),
                "baseline_revision": held.revision + 1,
                "changed_at": site.clock.now_us(),
            }
            if now.status not in ("booked", "pending"):
                connection.execute(
                    update(outbox)
                    .where(
                        outbox.c.resource_key == held.key,
                        outbox.c.state.in_(("planned", "ready")),
                        outbox.c.answers.is_(None),
                    )
                    .values(
                        state="cancelled",
                        reason="the patient cancelled in this chat",
                        changed_at=site.store.now(connection),
                    )
                )
        if values:
            connection.execute(update(resource).where(resource.c.key == held.key).values(**values))

    def _read_again(self, connection: Connection, row: Any) -> None:
        """What the EHR holds now is applied the normal way, as an event."""
        site = self._site
        now = site.store.now(connection)
        hint = hint_row(site, row.ehr, "write", self._wanted(row)["reference"], now)
        connection.execute(inbox.insert().values(**hint))
        audit.record(connection, row=site.ids(), at=now, action=audit.FOUND, count=1)

    # --- consent ---------------------------------------------------------------------------------------------------

    def _consent(self, row: Any, client: EhrClient) -> Outcome:
        wanted = self._wanted(row)
        recognised = self._site.settings.consent.recognise
        asked = set(wanted.get("purposes") or ())  # of an answer to a question; STOP and START speak of everything
        fitting = [row for row in recognised if asked and asked == set(row.purposes)] or list(recognised)
        system, _, code = fitting[0].category.rpartition("|") if fitting else ("http://loinc.org", "|", "89057-4")
        built = build.consent(
            decision_id=f"turn_{wanted['turn']}",
            patient=wanted["patient"],
            performer=wanted.get("performer") or wanted["patient"],
            decision=wanted["decision"],
            decided_at=from_us(wanted["at"]),
            category=(system, code),
        )
        return self._project(row, client, built)

    # --- communications --------------------------------------------------------------------------------------------

    def carry_together(self, ehr: str, rows: Sequence[Any]) -> list[Outcome | None]:
        """New Communications of one EHR as one batch Bundle; None for those that must be carried by themselves.

        Raises: EhrUnreachable, EhrRefused.
        """
        messages = self._messages([row.message_id for row in rows])
        outcomes: list[Outcome | None] = []
        entries: list[dict[str, Any]] = []
        places: list[int] = []
        for row in rows:
            message = messages.get(row.message_id)
            built = self._built(row, message)
            outcomes.append(built if isinstance(built, Outcome) else None)
            if not isinstance(built, Outcome) and message is not None and message.known is None:
                system, value = built["identifier"][0]["system"], built["identifier"][0]["value"]
                only = {"method": "POST", "url": "Communication", "ifNoneExist": f"identifier={system}|{value}"}
                entries.append({"request": only, "resource": built})
                places.append(len(outcomes) - 1)
        if entries:
            for place, answer in zip(places, self._site.clients[ehr].batch(entries), strict=True):
                if answer.status == 201 and (answer.reference or "").startswith("Communication/"):
                    outcomes[place] = Outcome("done", known=answer.reference)
        return outcomes

    def _messages(self, ids: Sequence[int]) -> dict[int, Any]:
        """What Communications are made of, by message; of several attempts the newest that was answered."""
        with self._site.store.read() as connection:
            return {row.id: row for row in connection.execute(_OUT, {"messages": list(ids)})}

    def _out(self, row: Any, client: EhrClient, *, look_first: bool) -> Outcome:
        message = self._messages([row.message_id]).get(row.message_id)
        built = self._built(row, message)
        if isinstance(built, Outcome) or message is None:
            return built if isinstance(built, Outcome) else Outcome("merged", "the message is gone")
        return self._project(row, client, built, known=message.known, look_first=look_first)

    def _built(self, row: Any, message: Any) -> dict[str, Any] | Outcome:
        """The Communication, or why there is to be none."""
        site = self._site
        if message is None:
            return Outcome("merged", "the message is gone")
        if site.settings.ehrs[row.ehr].writeback.communication != "create":
            return Outcome("merged", "communications are not written back here")
        patient, recipient = message.patient, message.recipient
        if patient is None or recipient is None:
            return Outcome("held", "the patient's reference cannot stand in clear")
        content = Content.from_bytes(
            site.crypto.decrypt(message.content, message.key_id, "outbox", "content", message.id)
        )
        wamid = None
        if message.proof is not None:
            plain = site.crypto.decrypt(
                message.proof, message.proof_key, "attempt", "body", f"{message.id}.{message.n}"
            )
            wamid = msgspec.json.decode(plain).get("wamid")
        return build.communication_out(
            message=f"msg_{message.id}",
            state=message.state,
            patient=patient,
            recipient=recipient,
            about=[message.resource_ref] if message.resource_ref else [],
            text=content.body,
            wamid=wamid,
            sent=from_us(message.sent_at or message.accepted_at) if (message.sent_at or message.accepted_at) else None,
            received=from_us(message.delivered_at) if message.delivered_at else None,
            category="reminder" if message.offset else "notification",
            sender=site.settings.site.name,
        )

    def _in(self, row: Any, client: EhrClient) -> Outcome:
        site = self._site
        wanted = self._wanted(row)
        known = None
        if wanted["message"] is not None:
            known = self._known(f"communication:{wanted['message']}")
        built = build.communication_in(
            turn=f"turn_{row.turn_id}",
            patient=wanted["patient"],
            sender=wanted["sender"],
            about=[wanted["about"]] if wanted["about"] else [],
            received=from_us(wanted["at"]),
            text=wanted["text"] or f"[{wanted['type']}]",
            wamid=wanted["wamid"],
            in_response_to=known,
            recipient=site.settings.site.name,
        )
        return self._project(row, client, built)

    def _project(
        self, row: Any, client: EhrClient, built: dict[str, Any], *, known: str | None = None, look_first: bool = False
    ) -> Outcome:
        """Create it, or bring the one that is there to it; a create whose answer was lost is searched first."""
        written = projection.project(client, built, known=known, look_first=look_first or row.attempts > 0)
        if isinstance(written, Missing):
            return Outcome("merged", "somebody deleted it in the EHR")
        return Outcome("done", known=written.reference if row.verb == "communication" else None)

    def _known(self, key: str) -> str | None:
        with self._site.store.read() as connection:
            value = connection.execute(select(mark.c.value).where(mark.c.key == key)).scalar()
        return str(value) if value is not None else None

    def _wanted(self, row: Any) -> dict[str, Any]:
        plain = self._site.crypto.decrypt(row.wanted, row.key_id, "write", "wanted", row.id)
        decoded: dict[str, Any] = msgspec.json.decode(plain)
        return decoded
