"""The document behind a gate: fetched from the EHR when it is asked for, given to WhatsApp, and then a message like any.

It is asked again what was asked when the message was made (`when`, `gate.hold`): a report may have been withdrawn or
restricted since. Nothing of it is stored here: between EHR and WhatsApp it is in memory only.
"""

from __future__ import annotations

import base64
import binascii
import io
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from bridge.engine import compose
from bridge.engine.answers import EXPIRES, Thread, answer
from bridge.engine.compose import Scene
from bridge.engine.site import Site
from bridge.errors import BridgeError, EhrRefused, EhrUnreachable, MediaRefused, MediaUnreachable
from bridge.fhir.answers import Resource
from bridge.inbound.replies import fill
from bridge.ledger import lanes, outbox, states
from bridge.ledger.clock import SECOND
from bridge.ledger.outbox import NewMessage
from bridge.ledger.tables import outbox as outbox_table
from bridge.ledger.tables import turn
from bridge.mappers import tolerant
from bridge.mappers.render import Skip, attachment, held, render
from bridge.outbound import media
from bridge.outbound.content import Content

log = logging.getLogger(__name__)

WORKERS = 2
TRIES = 6  # doubling from 5 s: about five minutes
FIRST_WAIT = 5 * SECOND
PDF = "application/pdf"


@dataclass(frozen=True, slots=True)
class Wish:
    """Whose document, and to whom: what the row keeps until it is fetched."""

    ehr: str
    reference: str  # "DiagnosticReport/r1"
    patient: str  # "Patient/ana"
    guardian: str | None  # "RelatedPerson/luis", where they are the reader
    mapping: str
    language: str
    zone: str
    turn: int
    thread: Thread
    released: tuple[str, ...] = ()

    @classmethod
    def from_bytes(cls, value: bytes) -> Wish:
        return msgspec.json.decode(value, type=cls)


class Failed(Exception):
    """It cannot be sent; the reason is ours, without a word of the document."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        self.reason = reason
        self.again = again
        super().__init__(reason)


def wished(site: Site, wish: Wish, about: Any) -> NewMessage:
    """The row of a document that somebody has just been let through to. `about`: the message whose button it was."""
    business = site.clock.now_us()
    return NewMessage(
        effect_key=f"document|{about.id}|{wish.turn}",
        cls=states.ANSWER,
        state="planned",
        kind="document",
        lane_key=wish.thread.lane_key,
        number=wish.thread.number,
        planned_at=business,
        config_version=site.content.version,
        content=msgspec.json.encode(asdict(wish)),
        reason="the document is being fetched",
        fields={
            "event": "answer.document",
            "answers": wish.turn,
            "language": wish.language,
            "zone": wish.zone,
            "not_after": business + EXPIRES,
            "mapping": wish.mapping,
            "ehr": wish.ehr,
            "resource_key": about.resource_key,
            "resource_ref": about.resource_ref,
            "revision": about.revision,
            "purpose": about.purpose,
            "person_id": about.person_id,
            "patient_id": about.patient_id,
            "identity_id": about.identity_id,
        },
    )


class Documents:
    """Fetches on threads of its own: a report of megabytes delays no reminder."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._pool: Executor | None = None  # made with the first document
        self._flying: set[int] = set()
        self._lock = threading.Lock()

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, row: Any) -> int:
        """Begin with one that is due; returns 1 where that is new."""
        with self._lock:
            if row.id in self._flying:
                return 0
            self._flying.add(row.id)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="document")
        self._pool.submit(self._work, row)
        return 1

    def _work(self, row: Any) -> None:
        try:
            self._one(row)
        except SQLAlchemyError as error:
            log.warning("a document waits for the database", extra={"error": type(error).__name__})
        except Exception:
            log.exception("a document could not be sent", extra={"message_id": f"msg_{row.id}"})
            self._give_up(row, None, reason="the document could not be sent: a defect of ours")
        finally:
            with self._lock:
                self._flying.discard(row.id)

    def _one(self, row: Any) -> None:
        site, wish = self._site, None
        try:
            wish = Wish.from_bytes(site.crypto.decrypt(row.content, row.key_id, "outbox", "content", row.id))
            content = self._fetch(row, wish)
        except (BridgeError, ValueError) as error:
            self._give_up(row, wish, reason=f"the document's row cannot be read: {type(error).__name__}")
        except Failed as failed:
            if failed.again and row.tries + 1 < TRIES:
                self._later(row, failed.reason)
            else:
                self._give_up(row, wish, failed.reason)
        else:
            self._ready(row, content)

    # --- from the EHR to WhatsApp ------------------------------------------------------------------------------------

    def _fetch(self, row: Any, wish: Wish) -> Content:
        site = self._site
        mapping = site.content.mappings.get(wish.mapping)
        if mapping is None or not mapping.enabled or mapping.attach is None:
            raise Failed("no document: its mapping is no longer there, or is paused")
        report, patient = self._read(wish.ehr, wish.reference), self._read(wish.ehr, wish.patient)
        guardian = self._read(wish.ehr, wish.guardian) if wish.guardian is not None else None
        scene = Scene(resource=report, patient=patient, guardian=guardian)
        role = "self" if guardian is None else "guardian"
        draft = compose.Draft(scene, wish.thread.wa_id or "", role, wish.zone, wish.language)
        context = compose.context(site, draft, wish.ehr, site.now())
        if isinstance(rendered := render(mapping, context), Skip):
            raise Failed(f"no document any more: {rendered.reason}")
        if anew := [each for each in held(mapping, context) if each not in wish.released]:
            raise Failed(f"the document must be released by a clinician: {anew[0]}")
        found = attachment(mapping, context)
        if isinstance(found, Skip):
            raise Failed(found.reason)
        mime = (tolerant.text(found[0].get("contentType")) or "").partition(";")[0].strip().lower()
        content = self._bytes(wish.ehr, found[0])
        if mime not in media.TYPES:
            raise Failed("the document is of a kind that WhatsApp does not take")
        if len(content) > mapping.attach.max_mb * 1024 * 1024:
            raise Failed(f"the document is larger than {mapping.attach.max_mb} MB")
        filename = found[1] or "document.pdf"
        if mapping.attach.locked:
            content = locked(content, mime, patient)
        number = site.settings.numbers[row.number]
        try:
            uploaded = media.upload(number, content, mime, filename)
        except MediaUnreachable as error:
            raise Failed(f"the document could not be given to WhatsApp: {error}", again=True) from None
        except MediaRefused as error:
            raise Failed(f"the document was not taken by WhatsApp: {error}") from None
        body = fill(site.content.replies, "document", wish.language, {})
        thread = wish.thread
        user_id = None if thread.wa_id else thread.user_id
        return Content(thread.wa_id, user_id, "document", body, media=uploaded, filename=filename)

    def _read(self, ehr: str, reference: str) -> dict[str, Any]:
        client = self._site.clients.get(ehr)
        if client is None:
            raise Failed("the document cannot be read: this EHR has no base_url")
        try:
            found = client.read(reference)
        except EhrUnreachable as error:
            raise Failed(f"the document cannot be read now: {error}", again=True) from None
        except EhrRefused as error:
            raise Failed(f"the document is not shown by the EHR: {error}") from None
        if not isinstance(found, Resource):
            raise Failed("the document is no longer in the EHR")
        return dict(found.resource)

    def _bytes(self, ehr: str, named: Mapping[str, Any]) -> bytes:
        """What the Attachment holds, or the Binary it points to; no host but the EHR is ever asked."""
        data = tolerant.text(named.get("data"))
        if data is None:
            url = tolerant.text(named.get("url")) or ""
            client = self._site.clients.get(ehr)
            local = client.local(url) if client is not None and url else None
            if local is None or not local.startswith("Binary/"):
                raise Failed("the document lies outside the EHR, or nowhere")
            data = tolerant.text(self._read(ehr, local).get("data"))
        try:
            content = base64.b64decode(data or "", validate=False)
        except (binascii.Error, ValueError):
            content = b""
        if not content:
            raise Failed("the document is empty")
        return content

    # --- what becomes of it ------------------------------------------------------------------------------------------

    def _ready(self, row: Any, content: Content) -> None:
        site = self._site
        with site.store.write() as connection:
            lanes.lock(connection, [row.lane_id])
            now = site.store.now(connection)
            sealed = site.crypto.encrypt(content.to_bytes(), "outbox", "content", row.id, row.key_id)
            mine = update(outbox_table).where(outbox_table.c.id == row.id, outbox_table.c.state == "planned")
            connection.execute(mine.values(content=sealed, attempted=True, retry_at=None))
            if outbox.move(connection, [row.id], "ready", now, only_from=("planned",)):
                lanes.wake(connection, {row.lane_id}, now)
        site.wake_sender()

    def _later(self, row: Any, reason: str) -> None:
        with self._site.store.write() as connection:
            now = self._site.store.now(connection)
            mine = update(outbox_table).where(outbox_table.c.id == row.id, outbox_table.c.state == "planned")
            again = {"retry_at": now + FIRST_WAIT * 2**row.tries, "tries": row.tries + 1, "reason": reason}
            connection.execute(mine.values(**again))

    def _give_up(self, row: Any, wish: Wish | None, reason: str) -> None:
        """The patient reads that it did not work, and a person has it to do."""
        site = self._site
        with site.store.write() as connection:
            lanes.lock(connection, [row.lane_id])
            now = site.store.now(connection)
            if not outbox.move(connection, [row.id], "failed", now, reason=reason, only_from=("planned",)):
                return
            opened = update(turn).where(turn.c.id == row.answers)
            connection.execute(opened.values(open=True, reason="was let through to a document that could not be sent"))
            if wish is not None:
                said = answer(
                    site, wish.thread, key=f"answer|{row.answers}|document", reply_id="document_failed", fields={},
                    turn=row.answers,
                )  # fmt: skip
                outbox.add(connection, site.crypto, site.ids, [said], now)
        site.wake_sender()


def locked(content: bytes, mime: str, patient: Mapping[str, Any]) -> bytes:
    """A PDF that opens with the birth date, written ddmmyyyy. Raises: Failed."""
    born = tolerant.text(patient.get("birthDate")) or ""
    if mime != PDF or len(born) != len("1980-02-01"):
        raise Failed("the document cannot be locked: it is no PDF, or the EHR holds no birth date")
    from pypdf import PdfReader, PdfWriter  # late: few sites lock documents
    from pypdf.errors import PyPdfError

    try:
        writer = PdfWriter(clone_from=PdfReader(io.BytesIO(content)))
        writer.encrypt(born[8:10] + born[5:7] + born[:4], algorithm="AES-256")
        out = io.BytesIO()
        writer.write(out)
    except (PyPdfError, ValueError, KeyError, TypeError, RecursionError):
        raise Failed("the document cannot be locked: its PDF cannot be read") from None
    return out.getvalue()


__all__ = ["Documents", "Wish", "locked", "wished"]
