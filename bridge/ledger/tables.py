"""The schema of the ledger, the same on SQLite and PostgreSQL.

Times are integers: microseconds since 1970 UTC. A column that ends in `_at` says in its comment which clock it is on
where that is not plain: *business* time (due times, windows, expiry) or *machine* time (leases, back-off, rates).
Nothing from outside stands in a clear text column: keys are blind indexes (`crypto.index`), values are encrypted with
the key named in `key_id`; FHIR references may be clear when `crypto.clear_reference` lets them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

Id = BigInteger
At = BigInteger

seen = Table(
    "seen",
    metadata,
    Column("source", Text, primary_key=True),
    Column("key", LargeBinary, primary_key=True),  # 16 bytes: HMAC of what the sender guarantees to be unique
    Column("at", At, nullable=False),
    sqlite_with_rowid=False,
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),  # "ehr:main", "app:hospital"
    Column("door", Text, nullable=False, server_default=""),  # the subscription's key, or the number's
    Column("kind", Text, nullable=False),  # notification, hint, message, status, account
    Column("key", Text),  # blind index of the conversation or resource; NULL for statuses
    Column("subject", Text),  # blind index of whom it may silence: the patient of a Consent, a second identity
    Column("received_at", At, nullable=False),  # machine
    Column("key_id", Text, nullable=False),
    Column("body", LargeBinary),
    Column("fate", Text),  # NULL = waiting
    Column("planned", Integer),
    Column("reason", Text),
    Column("next_try", At),  # machine
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("config_version", Text, nullable=False),
    Column("settled_at", At),
)
# whom else an event is about: `subject` of the others of a visit for several patients, so that `why` finds it for each
beside = Table(
    "beside",
    metadata,
    Column("subject", Text, primary_key=True),  # blind index of a patient
    Column("event", Id, primary_key=True, autoincrement=False),  # inbox.id
    sqlite_with_rowid=False,
)

_waiting: dict[str, Any] = {"sqlite_where": text("fate IS NULL"), "postgresql_where": text("fate IS NULL")}
Index("inbox_waiting_key", inbox.c.key, **_waiting)
Index("inbox_waiting_subject", inbox.c.subject, **_waiting)
Index("inbox_waiting_kind", inbox.c.kind, inbox.c.id, **_waiting)

lane = Table(
    "lane",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),  # conversation, resource, role
    Column("key", Text, nullable=False),
    Column("number", Text),  # key of the config's `numbers`
    Column("cls", SmallInteger),  # class of its most urgent ready row; NULL = nothing ready
    Column("next_at", At),  # machine; NULL = asleep
    Column("free_at", At, nullable=False, server_default="0"),  # machine; GCRA time of the recipient
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("owner", Text),
    Column("lease_until", At, nullable=False, server_default="0"),  # machine
    UniqueConstraint("kind", "key"),
)
Index(
    "lane_due",
    lane.c.kind,
    lane.c.cls,
    lane.c.next_at,
    sqlite_where=text("next_at IS NOT NULL"),
    postgresql_where=text("next_at IS NOT NULL"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),  # shown as msg_<id>
    Column("effect_key", Text, nullable=False, unique=True),
    Column("cls", SmallInteger, nullable=False),  # states.CLASSES
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("kind", Text, nullable=False),  # template, text, interactive
    Column("lane_id", Id, nullable=False),
    Column("number", Text, nullable=False),
    Column("cause", Id),  # inbox.id it came from
    Column("ehr", Text),
    Column("resource_key", Text),
    Column("resource_ref", Text),
    Column("revision", Integer),
    Column("event", Text),
    Column("offset", Text),  # of a reminder: 3d, 24h
    Column("mapping", Text),
    Column("mapping_version", Text),
    Column("config_version", Text, nullable=False),
    Column("template", Text),
    Column("language", Text),
    Column("zone", Text),  # that days and times are told in
    Column("purpose", Text),
    Column("person_id", Id),  # whom we address
    Column("patient_id", Id),  # whom it is about
    Column("identity_id", Id),
    Column("answers", Id),  # turn.id this answers: allowed to somebody who stopped
    Column("missing", Text),  # what becomes of it without a consent: ask, inbox; NULL = it is suppressed
    Column(
        "reply_within", BigInteger
    ),  # µs after it was accepted: unanswered until then, a person looks; NULL = nobody does
    Column("not_before", At),  # business
    Column("not_after", At),  # business
    Column("retry_at", At),  # machine; back-off
    Column("quiet", Boolean, nullable=False, server_default=text("false")),  # respects quiet hours
    Column("cohort", Boolean, nullable=False, server_default=text("false")),  # belongs to the pilot's cohort
    Column(
        "attempted", Boolean, nullable=False, server_default=text("false")
    ),  # rendered and tried: not rendered again
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("cost", Text),  # pricing category Meta's webhook named
    Column("planned_at", At, nullable=False),  # business
    Column("added_at", At, nullable=False, server_default="0"),  # machine; the audit entry that counts it has the same
    Column("ready_at", At),  # machine; the order inside a class
    Column("changed_at", At, nullable=False),  # machine; when the state last changed
    Column("accepted_at", At),  # business
    Column("sent_at", At),
    Column("delivered_at", At),
    Column("read_at", At),
    Column("key_id", Text, nullable=False),
    Column("before", LargeBinary),  # projection its event was computed against
    Column("after", LargeBinary),  # projection it tells
    Column("content", LargeBinary),  # how to render (planned) or what was rendered (ready and later)
)
Index("outbox_lane", outbox.c.lane_id, outbox.c.state)
Index("outbox_resource", outbox.c.resource_key)
Index("outbox_person", outbox.c.patient_id)
Index(
    "outbox_planned",
    outbox.c.not_before,
    sqlite_where=text("state = 'planned'"),
    postgresql_where=text("state = 'planned'"),
)
Index(
    "outbox_doubt",
    outbox.c.changed_at,
    sqlite_where=text("state IN ('doubt','sending')"),
    postgresql_where=text("state IN ('doubt','sending')"),
)
Index(
    "outbox_unsettled",
    outbox.c.changed_at,
    sqlite_where=text("state IN ('accepted','sent')"),
    postgresql_where=text("state IN ('accepted','sent')"),
)
Index(
    "outbox_consentless",
    outbox.c.id,
    sqlite_where=text("state = 'held' AND missing IS NOT NULL"),
    postgresql_where=text("state = 'held' AND missing IS NOT NULL"),
)
Index(
    "outbox_unanswered",
    outbox.c.accepted_at,
    sqlite_where=text("reply_within IS NOT NULL AND accepted_at IS NOT NULL"),
    postgresql_where=text("reply_within IS NOT NULL AND accepted_at IS NOT NULL"),
)
Index("outbox_added", outbox.c.added_at)
Index("outbox_cause", outbox.c.cause)
Index(
    "outbox_answers",
    outbox.c.answers,
    sqlite_where=text("answers IS NOT NULL"),
    postgresql_where=text("answers IS NOT NULL"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("message", Id, primary_key=True, autoincrement=False),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("node", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("fenced_at", At, nullable=False),  # machine
    Column("ended_at", At),
    Column("outcome", Text),  # NULL = in flight; accepted, refused, doubt, taken_back
    Column("http", Integer),
    Column("code", Text),
    Column("wamid", Text, index=True),  # blind index: a wamid carries the phone number
    Column("key_id", Text),
    Column("body", LargeBinary),  # {"wamid": ...}
)

number = Table(
    "number",
    metadata,
    Column("key", Text, primary_key=True),
    Column("free_at", At, nullable=False, server_default="0"),
    Column("paused_until", At, nullable=False, server_default="0"),
    Column("quality", Text),
    Column("reason", Text),
)

portfolio = Table("portfolio", metadata, Column("key", Text, primary_key=True), Column("tier", Integer))

portfolio_user = Table(
    "portfolio_user",
    metadata,
    Column("portfolio", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("at", At, nullable=False),
)

write = Table(
    "write",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),  # command, projection
    Column("verb", Text, nullable=False),  # confirm, cancel, stop, start, communication
    Column("ehr", Text, nullable=False),
    Column("resource_key", Text, nullable=False),  # order: one at a time per key
    Column("target", Text),
    Column("message_id", Id),
    Column("turn_id", Id),
    Column("person_id", Id),
    Column("conversation_id", Id),
    Column("state", Text, nullable=False),  # asked, sending, done, merged, refused, held
    Column("reason", Text),
    Column("told", Text),  # NULL, requested, outcome: what the patient has been told of a command
    Column("next_at", At, nullable=False),  # machine
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("owner", Text),
    Column("lease_until", At, nullable=False, server_default="0"),
    Column("asked_at", At, nullable=False),  # machine
    Column("settled_at", At),
    Column("key_id", Text, nullable=False),
    Column("wanted", LargeBinary),
    Column("echo", LargeBinary),  # projection the EHR will show us as our own doing
)
Index(
    "write_live",
    write.c.next_at,
    sqlite_where=text("state IN ('asked','sending')"),
    postgresql_where=text("state IN ('asked','sending')"),
)
Index("write_resource", write.c.resource_key)
Index("write_turn", write.c.turn_id, sqlite_where=text("kind = 'command'"), postgresql_where=text("kind = 'command'"))

resource = Table(
    "resource",
    metadata,
    Column("key", Text, primary_key=True),
    Column("ehr", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("ref", Text),
    Column("revision", Integer, nullable=False),
    Column("generation", Integer, nullable=False, server_default="0"),
    Column("version", Text),
    Column("last_updated", At),
    Column("etag", Text),
    Column("read_at", At, nullable=False, server_default="0"),  # machine; when the read applied last was begun
    Column("key_id", Text, nullable=False),
    Column("projection", LargeBinary),
    Column("baseline", LargeBinary),  # what the patient knows without a message of ours: prime, own doing
    Column("baseline_revision", Integer, nullable=False, server_default="0"),
    Column("changed_at", At, nullable=False),
)

person = Table(
    "person",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("ehr", Text, nullable=False),
    Column("key", Text, nullable=False, unique=True),
    Column("ref", Text),
    Column("kind", Text, nullable=False),  # patient, related
    Column("patient_id", Id),  # of a related person
    Column("refusal", Text),  # why never to be messaged; NULL = may
    Column("language", Text),
    Column("zone", Text),
    Column("link_ended_at", At),  # a guardian said STOP
    Column("read_at", At, nullable=False, server_default="0"),  # machine
    Column("consents_read_at", At, nullable=False, server_default="0"),
)

identity = Table(
    "identity",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("person_id", Id, nullable=False, index=True),
    Column("kind", Text, nullable=False),  # phone, user_id
    Column("key", Text, nullable=False, index=True),
    Column("since", At, nullable=False),  # business
    Column("until", At),
    Column("proof", Text, nullable=False),  # ehr, send, webhook
    Column("verified_at", At),
    Column("key_id", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    UniqueConstraint("person_id", "key"),
)

block = Table(
    "block",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("key", Text, nullable=False, index=True),  # identity.key, or `optouts.key_of` it and a template
    Column("since", At, nullable=False),  # business: WhatsApp's timestamp of the STOP
    Column("turn_id", Id),
    Column("lifted_at", At),
)

consent = Table(
    "consent",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("person_id", Id, nullable=False, index=True),
    Column("purpose", Text, nullable=False),
    Column("decision", Text, nullable=False),  # permit, deny, silent
    Column("decided_at", At, nullable=False),  # business: when the person said so
    Column("source", Text, nullable=False),  # ehr, chat
    Column("ref_key", Text),  # blind index of the Consent: of one Consent only what was read last counts
    Column("valid_from", At),  # business
    Column("valid_until", At),  # business
    Column("evidence", Text),
    Column("recorded_at", At, nullable=False),
)

conversation = Table(
    "conversation",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("number", Text, nullable=False),
    Column("key", Text, nullable=False, unique=True),  # the conversation lane's key
    Column("window_until", At, nullable=False, server_default="0"),  # business
    Column("owner", Text, nullable=False, server_default="bot"),
    Column("language", Text),
    Column("last_said", Text),  # "question:<id>", or the reply's id
    Column("last_turn", Id),
)

turn = Table(
    "turn",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("conversation_id", Id, nullable=False, index=True),
    Column("wamid", Text, unique=True),  # blind index
    Column("direction", Text, nullable=False),  # in, out
    Column("kind", Text, nullable=False),
    Column("cause", Id, index=True),  # inbox.id it came in as
    Column("message_id", Id, index=True),  # whose button was tapped
    Column("at", At, nullable=False),  # business: WhatsApp's timestamp
    Column("open", Boolean, nullable=False, server_default=text("false")),  # waits for a person
    Column("reason", Text),
    Column("key_id", Text, nullable=False),
    Column("body", LargeBinary),
)

question = Table(
    "question",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("conversation_id", Id, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("message_id", Id),
    Column("resource_key", Text),
    Column("revision", Integer),
    Column("asked_at", At, nullable=False),  # business
    Column("until", At, nullable=False),  # business
    Column("answered_by", Id),
    Column("choice", Text),
    Column("key_id", Text, nullable=False),
    Column("body", LargeBinary),
)

subscription = Table(
    "subscription",
    metadata,
    Column("ehr", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("last_at", At),  # machine; last notification of any kind
    Column("looked_at", At),  # machine; last search by its criteria
    Column("number", Text),
    Column("status", Text),
)

template = Table(
    "template",
    metadata,
    Column("waba", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("language", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("category", Text),
    Column("at", At, nullable=False),
)

media = Table(
    "media",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("turn_id", Id, nullable=False),
    Column("state", Text, nullable=False),
    Column("at", At, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("body", LargeBinary),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("at", At, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text),
    Column("count", Integer, nullable=False, server_default="0"),
    Column("detail", Text),  # ids and figures only
)
Index("audit_action", audit.c.action)

mark = Table(
    "mark",
    metadata,
    Column("key", Text, primary_key=True),  # "primed:main", "brake", "generation:main"
    Column("value", Text, nullable=False),
    Column("at", At, nullable=False),
    Column("amount", Float),
)
