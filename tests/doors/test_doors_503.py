"""While the store cannot commit the doors say 503, never 200; when it can again, they go on by themselves."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pysqlite3.dbapi2
import pytest

import bridge.ledger.inbox
from bridge.ledger.inbox import POISON, Entry
from tests.corpus.running import Doors, running
from tests.doors.hostile import appointment, message, webhook
from tests.stores import KINDS, store_url

JSON = (("Content-Type", "application/fhir+json"),)


@contextmanager
def away(doors: Doors) -> Iterator[None]:
    """The store takes nothing: somebody holds SQLite's write lock, or PostgreSQL lets nobody in."""
    url = doors.engine.site.store.url
    if doors.engine.site.store.dialect == "sqlite":
        holder = pysqlite3.dbapi2.connect(url.database, timeout=10, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            holder.execute("ROLLBACK")
            holder.close()
        return
    admin = f"postgresql://postgres@/postgres?host={url.query['host']}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS false')
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (url.database,))
        try:
            yield
        finally:
            connection.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS true')


@pytest.mark.parametrize("kind", KINDS)
def test_503_and_back(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge.ledger.inbox, "WAIT", 0.7)
    with running(store=store_url(kind, tmp_path)) as doors:
        assert doors.push("PUT", "Appointment/before", appointment("before"), JSON)[0] == 200
        with away(doors):
            for n in range(3):
                status, headers, said = doors.push("PUT", f"Appointment/w{n}", appointment(f"w{n}"), JSON)
                assert (status, said) == (503, b"")
                assert headers["retry-after"] == "2"
            assert doors.webhook(webhook([json.dumps(message("away")).encode()]))[0] == 503
            assert doors.push("PUT", "", b"{}", (("Authorization", "Bearer wrong"),))[0] != 200
            assert doors.push("GET")[0] == 200
        begun = time.monotonic()
        while doors.push("PUT", "Appointment/after", appointment("after"), JSON)[0] != 200:
            assert time.monotonic() - begun < 30
        assert doors.webhook(webhook([json.dumps(message("away")).encode()]))[0] == 200
        rows = doors.settled()
        # What was answered 503 may have been committed after all: its sender comes again, and it says nothing new.
        assert len(rows) >= 3
        assert all(row.fate for row in rows if row.kind == "notification")
        assert [row.fate for row in rows if row.kind == "message"] == ["applied"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_the_store_does_not_take_costs_only_itself(kind: str, tmp_path: Path) -> None:
    """No door makes such a row. Should one ever come, it must not be asked for again until Meta gives up."""
    with running(store=store_url(kind, tmp_path)) as doors:
        good = [Entry("ehr:main", "appointments", "hint", b"{}", fate="ignored", reason=f"g{n}") for n in range(3)]
        poison = Entry("ehr:main", "appointments", "hint", b"kept", fate="ignored", reason="\ud800")
        doors.engine.inbox.append([*good, poison, Entry("ehr:main", "appointments", "hint", b"{}", fate="ignored")])
        rows = doors.rows()
        assert [row.fate for row in rows] == ["ignored", "ignored", "ignored", "unusable", "ignored"]
        assert (rows[3].reason, rows[3].body) == (POISON, b"kept")
        assert doors.push("PUT", "Appointment/next", appointment("next"), JSON)[0] == 200


def test_a_body_that_breaks_the_reader_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours answers 200 and is shown: a 500 would bring the same body back for days."""

    def broken(*_: object) -> object:
        raise RuntimeError("what nobody thought of")

    monkeypatch.setattr("bridge.fhir.routes.read", broken)
    monkeypatch.setattr("bridge.inbound.routes.read", broken)
    with running() as doors:
        assert doors.push("PUT", "Appointment/a1", appointment("a1"), JSON)[0] == 200
        assert doors.webhook(webhook([json.dumps(message("b")).encode()]))[0] == 200
        assert [row.fate for row in doors.rows()] == ["unusable", "unusable"]
        assert all("our reader broke" in (row.reason or "") for row in doors.rows())
