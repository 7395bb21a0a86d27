"""A visit for several patients: each gets their own message, by their own consent, and `why` and `preview` say each one's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.ledger.tables import inbox
from bridge.sandbox import people
from tests.cli.looking import Verbs
from tests.engine.harness import MORNING, Bench
from tests.stores import KINDS

START = MORNING + timedelta(days=9)


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, request.param)
    made.ehr.put(people.beatriz() | {"extension": []})  # in São Paulo the quiet hours are not over yet
    yield made
    made.close()


def group(*patients: str, status: str = "booked", days: int = 9) -> people.Resource:
    made = people.appointment("g1", MORNING + timedelta(days=days), status=status)
    actors = [{"actor": {"reference": each}, "status": "needs-action"} for each in patients]
    return made | {"participant": [*actors, *made["participant"][1:]]}


def words(bench: Bench, phone: str) -> list[str]:
    return [bubble.template for bubble in bench.whatsapp.of(phone)]


def test_each_by_own_consent_and_in_own_language(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ana said no, Beatriz and Lucía are told, each by their name and in their language; Nobody has no phone."""
    bench.ehr.put(people.patient("nobody", "Nadie", "Sinfono", None, birth_date="1970-01-01"))
    bench.clerk(people.consent("c1", "Patient/ana", MORNING - timedelta(days=1), permit=False), door="consents")
    bench.settle()
    bench.clerk(group("Patient/ana", "Patient/beatriz", "Patient/lucia", "Patient/nobody"))
    bench.settle()
    assert words(bench, people.ANA_PHONE) == []
    assert words(bench, people.BEATRIZ_PHONE) == words(bench, people.LUCIA_PHONE) == ["appointment_booked"]
    beatriz, lucia = bench.whatsapp.of(people.BEATRIZ_PHONE)[0], bench.whatsapp.of(people.LUCIA_PHONE)[0]
    spoken = [each.body["template"]["language"]["code"] for each in (beatriz, lucia)]
    assert spoken == ["pt_BR", "es"]
    assert (beatriz.params["patient_name"], lucia.params["patient_name"]) == ("Beatriz", "Lucía")
    fate, reason = bench.fates()[-1]
    assert fate == "planned"
    assert (
        reason is not None
        and "Patient/nobody: the patient has no phone number that WhatsApp could reach" in reason.split("; ")
    )

    verbs = Verbs(capsys, monkeypatch, bench)
    said = {who: " ".join(verbs("why", f"Patient/{who}")[1].split()) for who in ("ana", "beatriz", "lucia", "nobody")}
    assert "✓ The message “appointment-booked” was sent" in said["beatriz"]
    assert "✓ The message “appointment-booked” was sent" in said["lucia"]
    assert "✗ The message “appointment-booked” was not sent" in said["ana"]
    assert "✓" not in said["ana"]
    assert "about Appointment/g1" in said["nobody"] and "No message came of it." in said["nobody"]
    for who, text in said.items():
        others = {"ana", "beatriz", "lucia", "nobody"} - {who}
        assert not [other for other in others if f"Patient/{other}" in text], who
        assert ("no mobile number" in text) == (who == "nobody"), text


def test_one_who_leaves_the_group_and_one_who_joins(bench: Bench) -> None:
    bench.clerk(group("Patient/beatriz", "Patient/lucia"))
    bench.settle()
    bench.clerk(group("Patient/lucia", "Patient/ana"))
    bench.settle()
    assert words(bench, people.LUCIA_PHONE) == ["appointment_booked"], "nothing of hers has changed"
    assert words(bench, people.ANA_PHONE) == ["appointment_booked"]
    bench.clerk(group("Patient/lucia", "Patient/ana", status="cancelled"))
    bench.settle()
    assert words(bench, people.LUCIA_PHONE) == words(bench, people.ANA_PHONE)
    assert words(bench, people.ANA_PHONE) == ["appointment_booked", "appointment_cancelled"]


def test_one_taps_and_only_their_own_answer_is_written(bench: Bench) -> None:
    bench.clerk(group("Patient/beatriz", "Patient/lucia"))
    bench.settle()
    bench.tap(bench.whatsapp.of(people.LUCIA_PHONE)[0], 0)
    bench.settle_replies()
    held = {each["actor"]["reference"]: each["status"] for each in bench.ehr.get("Appointment/g1")["participant"]}
    assert (held["Patient/beatriz"], held["Patient/lucia"]) == ("needs-action", "accepted")


def test_preview_notes_each_and_shows_the_one_asked_for(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.clerk(group("Patient/ana", "Patient/lucia"))
    bench.settle()
    verbs = Verbs(capsys, monkeypatch, bench)
    code, text = verbs("preview", "appointment-booked", "Appointment/g1", "--lang", "es")
    assert code == 0
    assert "2 patients" in text and "Patient/lucia" in text and "Hola, Ana" in text
    code, text = verbs("preview", "appointment-booked", "Appointment/g1", "--lang", "es", "--patient", "Patient/lucia")
    assert code == 0
    assert "Hola, Lucía" in text and "Ana" not in text.replace("Patient/ana", "")
    code, text = verbs("preview", "appointment-booked", "Appointment/g1", "--patient", "Patient/beatriz")
    assert code == 2 and "Patient/beatriz" in text
    assert [row.fate for row in bench.rows(inbox)] == ["planned"]
