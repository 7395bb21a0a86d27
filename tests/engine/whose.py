"""Random small worlds for TR4, and the judge of them: who may act for whom, and what the outside saw.

A world has two adults, a child with a guardian, three phones that any of them may share, and WhatsApp accounts behind
those phones, each with a user id that may come without its number. In each round one thing happens: the EHR corrects a
number, a guardian or the patient of a visit; a visit is moved, cancelled or booked; an account gives up its phone and
somebody new takes it; somebody taps any button that was ever shown in this world, types words, or Meta delivers an old
webhook again.

The judge knows what the EHR holds and which phones an account has had. It reads what the EHR holds afterwards, and what
the phones got; nothing of the engine's.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from bridge.sandbox import people
from tests.engine.fakes import Bubble
from tests.engine.harness import MORNING, PNID, Bench

NINE = MORNING.replace(hour=8) + timedelta(days=9)
WORDS = (
    "cancelar",
    "cancelar mi cita",
    "sí",
    "sí, cancelarla",
    "1",
    "no",
    "confirmo",
    "2",
    "NO PUEDO",
    "baja",
    "alta",
    "gracias",
)
MONTHS = ("enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre")  # fmt: skip
Raw = dict[str, Any]


@dataclass
class Account:
    """A WhatsApp account: a user id for good, a phone for as long as it keeps it."""

    user_id: str
    phone: str
    phones: set[str] = field(default_factory=set)  # every one it had while it wrote or was written to
    replies: list[Raw] = field(default_factory=list)  # webhooks it caused, for delivering again
    met: bool = False  # its phone and its user id were seen together
    stopped: bool = False


@dataclass(frozen=True)
class Act:
    """What somebody at a phone did in one round."""

    sender: Account
    value: Raw  # of the webhook
    what: str  # for the list of what went wrong
    tapped: Bubble | None = None
    typed: bool = False
    again: bool = False


@dataclass
class World:
    """One case."""

    n: int
    lot: random.Random
    bench: Bench
    told: list[str] = field(default_factory=list)  # what happened, for whoever reads a finding
    wrong: list[str] = field(default_factory=list)
    visits: dict[str, Any] = field(default_factory=dict)  # id -> start
    seen: int = 0  # bubbles of this world that were judged

    def __post_init__(self) -> None:
        lot, n = self.lot, self.n
        self.phones = [f"346{10_000_000 + n * 4 + i}" for i in range(4)]
        self.accounts = [Account(f"ES.{n}.{i}", phone, {phone}) for i, phone in enumerate(self.phones[:3])]
        self.bubbles: list[Bubble] = []
        self.days = 0
        self.put(people.patient(f"a{n}", f"Ana{n}x", "Inventada", lot.choice(self.phones[:3])))
        self.put(people.patient(f"b{n}", f"Bea{n}x", "Inventada", lot.choice(self.phones[:3])))
        self.put(people.patient(f"m{n}", f"Mia{n}x", "Inventada", None, birth_date="2018-04-04"))
        self.guardian(lot.choice(self.phones[:3]), f"Patient/m{n}")

    # --- the EHR ---------------------------------------------------------------------------------------------------

    def put(self, resource: Raw) -> Raw:
        return self.bench.ehr.put(resource)

    def guardian(self, phone: str, of: str, **more: Any) -> Raw:
        return self.put(
            people.mateo_father()
            | {
                "id": f"g{self.n}",
                "patient": {"reference": of},
                "telecom": [{"system": "phone", "value": f"+{phone}", "use": "mobile", "rank": 1}],
            }
            | more
        )

    def held(self, reference: str) -> Raw:
        return self.bench.ehr.get(reference)

    def patients(self) -> list[str]:
        return [f"Patient/{kind}{self.n}" for kind in "abm"]

    def book(self, patient: str, **more: Any) -> Raw:
        self.days += 1
        name = f"v{self.n}.{self.days}"
        self.visits[name] = NINE + timedelta(days=self.days)
        return self.put(people.appointment(name, self.visits[name], patient=patient, **more))

    def correct(self) -> tuple[str, Raw] | None:
        """One thing that somebody at the hospital does: (door, what its notification carries)."""
        lot = self.lot
        what = lot.choice(("number", "number", "no number", "guardian's number", "no guardian", "another's guardian",
                           "another's visit", "moved", "cancelled", "booked", "both"))  # fmt: skip
        adult = lot.choice(self.patients()[:2])
        guardian = f"RelatedPerson/g{self.n}"
        self.told.append(f"EHR: {what}")
        if what in ("number", "no number"):
            patient = copy.deepcopy(self.held(adult))
            phone = lot.choice(self.phones)
            patient["telecom"] = (
                [{"system": "phone", "value": f"+{phone}", "use": "mobile"}] if what == "number" else []
            )
            self.told[-1] += f" of {adult}: {phone if what == 'number' else 'none'}"
            return "patients", self.put(patient)
        if what == "guardian's number":
            phone = lot.choice(self.phones)
            self.told[-1] += f": {phone}"
            held = self.held(guardian)
            return "patients", self.guardian(phone, held["patient"]["reference"], active=held["active"])
        if what == "no guardian":
            held = self.held(guardian)
            change = lot.choice(
                ({"active": False}, {"period": {"end": "2026-11-20"}}, {"relationship": [{"text": "vecino"}]})
            )
            return "patients", self.put(copy.deepcopy(held) | change)
        if what == "another's guardian":
            return "patients", self.put(copy.deepcopy(self.held(guardian)) | {"patient": {"reference": adult}})
        if what in ("booked", "both"):
            more = {}
            if what == "both":
                first, second = self.patients()[:2]
                return "appointments", self._both(first, second)
            return "appointments", self.book(lot.choice(self.patients()), **more)
        if not self.visits:
            return None
        name = lot.choice(sorted(self.visits))
        visit = copy.deepcopy(self.held(f"Appointment/{name}"))
        self.told[-1] += f" {name}"
        if what == "another's visit":
            visit["participant"][0] = {"actor": {"reference": lot.choice(self.patients())}, "status": "needs-action"}
        elif what == "moved":
            self.days += 1
            self.visits[name] = NINE + timedelta(days=self.days)
            visit["start"] = self.visits[name].isoformat()
            visit["end"] = (self.visits[name] + timedelta(minutes=30)).isoformat()
        else:
            visit["status"] = "cancelled"
        return "appointments", self.put(visit)

    def _both(self, first: str, second: str) -> Raw:
        visit = self.book(first)
        visit["participant"].append({"actor": {"reference": second}, "status": "needs-action"})
        return self.put(visit)

    # --- the phones ------------------------------------------------------------------------------------------------

    def move_phones(self) -> None:
        """An account changes its number, or a number gets a new owner."""
        lot = self.lot
        account = lot.choice(self.accounts)
        if lot.random() < 0.5:
            taken = {one.phone for one in self.accounts}
            free = [phone for phone in self.phones if phone not in taken]
            if free:
                account.phone = free[0]
                account.met = account.stopped = False  # another phone has stopped nothing
                account.phones.add(account.phone)
                self.told.append(f"account {account.user_id} is now at {account.phone}")
        else:
            old = account.phone
            self.accounts.remove(account)
            self.accounts.append(Account(f"ES.{self.n}.n{len(self.told)}", old, {old}))
            self.told.append(f"{old} has a new owner, {self.accounts[-1].user_id}")
        self.bench.whatsapp.user_ids.update({one.phone: one.user_id for one in self.accounts})

    def act(self) -> Act | None:
        """Somebody taps, types, or Meta delivers again."""
        lot = self.lot
        sender = lot.choice(self.accounts)
        if sender.replies and lot.random() < 0.1:
            self.told.append(f"again: what {sender.user_id} wrote before")
            return Act(sender, lot.choice(sender.replies), "delivered again", again=True)
        bubble: Bubble | None = None
        own = [one for one in self.bubbles if one.to in (*sender.phones, sender.user_id) and one.buttons]
        any_of = [one for one in self.bubbles if one.buttons]
        drawn = lot.random()
        if own and drawn < 0.45:
            bubble = own[-1] if lot.random() < 0.6 else lot.choice(own)
        elif any_of and drawn < 0.6:
            bubble = lot.choice(any_of)
        shown = lot.choice(("both", "phone", "user id"))
        self.bench.patients += 1
        message: Raw = {"id": f"wamid.w{self.bench.patients}", "timestamp": str(self.bench.seconds())}
        contact: Raw = {"profile": {"name": "—"}}
        if shown != "user id":
            message["from"] = contact["wa_id"] = sender.phone
        if shown != "phone":
            message["from_user_id"] = contact["user_id"] = sender.user_id
        if bubble is not None:
            payload = lot.choice(bubble.buttons)
            if bubble.template is not None:
                message |= {"type": "button", "button": {"payload": payload, "text": "—"}}
            else:
                message |= {
                    "type": "interactive",
                    "interactive": {"type": "button_reply", "button_reply": {"id": payload, "title": "—"}},
                }
            what = f"tap by {sender.user_id} ({shown}) on {bubble.wamid} shown to {bubble.to}, button {bubble.buttons.index(payload)}"
        else:
            words = lot.choice(WORDS)
            message |= {"type": "text", "text": {"body": words}}
            what = f"words by {sender.user_id} ({shown}): {words}"
        self.told.append(what)
        value = {"contacts": [contact], "messages": [message]}
        sender.replies.append(value)
        return Act(sender, value, what, tapped=bubble, typed=bubble is None)

    # --- the judge -------------------------------------------------------------------------------------------------

    def may_act_for(self, sender: Account) -> set[str]:
        """Patients whom the EHR lists under a phone that this account has, or had while it wrote."""
        return {patient for patient in self.patients() if self.reachable(patient) & {sender.phone, *sender.phones}}

    def reachable(self, patient: str) -> set[str]:
        """Phones under which the EHR lists whoever speaks for this patient."""
        found = _numbers(self.held(patient)) if not patient.startswith("Patient/m") else set()
        guardian = self.held(f"RelatedPerson/g{self.n}")
        cares = guardian["active"] and "period" not in guardian and "coding" in guardian["relationship"][0]
        if cares and guardian["patient"]["reference"] == patient:
            found |= _numbers(guardian)
        return found

    def holdings(self) -> dict[str, Raw]:
        return {name: copy.deepcopy(self.held(f"Appointment/{name}")) for name in self.visits}

    def judge(self, act: Act | None, before: Mapping[str, Raw], bubbles: Iterable[Bubble]) -> None:
        """Everything that one round changed in the EHR and showed on phones."""
        allowed = self.may_act_for(act.sender) if act is not None else set()
        for name, old in before.items():
            now = self.held(f"Appointment/{name}")
            if _plain(now) == _plain(old):
                continue
            if act is None:
                self.wrong.append(f"{name} changed, and nobody had written")
            else:
                self._changed(name, old, now, act, allowed)
        fresh = list(bubbles)
        for bubble in fresh:
            self._shown(bubble, act)
        self.bubbles += fresh
        self._stops(act, fresh)

    def _changed(self, name: str, old: Raw, now: Raw, act: Act, allowed: set[str]) -> None:
        whose = [ref for ref in _patients(old) if ref in allowed]
        if not whose:
            self.wrong.append(f"{name} of {_patients(old)} changed by {act.what}, who may act for {sorted(allowed)}")
            return
        for before, after in zip(old["participant"], now["participant"], strict=True):
            reference = before["actor"]["reference"]
            if before != after and reference not in allowed and not reference.startswith("RelatedPerson/"):
                self.wrong.append(f"{name}: the answer of {reference} changed by {act.what}")
        if now["status"] == "cancelled" and set(_patients(old)) - allowed:
            self.wrong.append(f"{name} cancelled for {_patients(old)} by {act.what}, who may act for {sorted(allowed)}")
        if act.again:
            self.wrong.append(f"{name} changed by a webhook delivered again")
        if act.tapped is not None and act.tapped.to not in (act.sender.phone, act.sender.user_id, *act.sender.phones):
            self.wrong.append(f"{name} changed by a tap on a bubble that went to somebody else: {act.what}")
        if act.typed or (act.tapped is not None and act.tapped.template is None):
            # in this conversation: somebody who shows a number, and no number another time, has two of them
            came = act.value["messages"][0]
            address = came.get("from") or came.get("from_user_id")
            said = next((one for one in reversed(self.bubbles) if one.to == address), None)
            asked = act.tapped if act.tapped is not None else said
            if asked is None or asked.text is None or _day(old["start"]) not in asked.text or "?" not in asked.text:
                self.wrong.append(f"{name} changed by {act.what}, who was not asked about it")

    def _shown(self, bubble: Bubble, act: Act | None) -> None:
        """A bubble that speaks of a visit: its phone is one that the EHR lists, or the account that just wrote."""
        text = " ".join((bubble.text or "", *bubble.params.values()))
        if (bubble.template or "").endswith("_cancelled"):
            return  # told to whom it was promised before: it is theirs no more
        about = [name for name, start in self.visits.items() if _day(start.isoformat()) in text]
        if len(about) != 1:
            return
        patients = _patients(self.held(f"Appointment/{about[0]}"))
        account = next((one for one in self.accounts if bubble.to in (one.phone, one.user_id)), None)
        listed = {phone for patient in patients for phone in self.reachable(patient)}
        theirs = {bubble.to, *(account.phones if account is not None and bubble.to == account.user_id else ())}
        if act is not None and self._to(bubble, act.sender):
            theirs |= act.sender.phones
        if not theirs & listed:
            self.wrong.append(
                f"{bubble.to} reads of {about[0]} of {patients}, listed under {sorted(listed)}: {bubble.template or bubble.text}: {act and act.what}"
            )

    def _stops(self, act: Act | None, fresh: Iterable[Bubble]) -> None:
        """Nothing but answers goes to an account that wrote BAJA, under whichever of its names it did."""
        for bubble in fresh:
            account = next((one for one in self.accounts if one.phone == bubble.to), None)
            if account is not None and bubble.template is not None:
                account.met = True  # WhatsApp has named both of its names in one answer
                if account.stopped:
                    self.wrong.append(f"{bubble.template} went to {account.user_id} after BAJA")
        if act is None or act.again or not act.typed:
            return
        words, sender = act.what.rpartition(": ")[2], act.sender
        if words == "baja" and (sender.met or "from" in act.value["messages"][0]):
            sender.stopped = True
        elif words in ("baja", "alta"):
            sender.stopped = False

    @staticmethod
    def _to(bubble: Bubble, sender: Account) -> bool:
        return bubble.to in (sender.phone, sender.user_id)


def _numbers(resource: Mapping[str, Any]) -> set[str]:
    return {telecom["value"].removeprefix("+") for telecom in resource.get("telecom", [])}


def _patients(visit: Mapping[str, Any]) -> list[str]:
    named = [participant["actor"]["reference"] for participant in visit["participant"]]
    return [reference for reference in named if reference.startswith("Patient/")]


def _plain(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key != "meta"}


def _day(start: str) -> str:
    """How Spanish texts name the day; every visit has one of its own."""
    year, month, day = (int(part) for part in start[:10].split("-"))
    return f" {day} de {MONTHS[month - 1]} de {year}"


def play(bench: Bench, first: int, count: int, *, seed: int, rounds: int = 6) -> list[World]:
    """So many worlds side by side: each round one thing happens in every one of them, then the engine comes to rest."""
    bench.whatsapp.names_user_ids = True
    worlds = [World(n, random.Random(f"{seed}.{n}"), bench) for n in range(first, first + count)]
    bench.whatsapp.user_ids.update({one.phone: one.user_id for world in worlds for one in world.accounts})
    of = {phone: world for world in worlds for phone in world.phones}
    bench.clerks(world.book(patient) for world in worlds for patient in world.patients() if world.lot.random() < 0.8)
    bench.settle(patience=20)
    shown = 0

    def fresh() -> dict[int, list[Bubble]]:
        nonlocal shown
        new: dict[int, list[Bubble]] = {}
        for bubble in bench.whatsapp.bubbles[shown:]:
            n = of[bubble.to].n if bubble.to in of else int(bubble.to.split(".")[1])
            new.setdefault(n, []).append(bubble)
        shown = len(bench.whatsapp.bubbles)
        return new

    first_news = fresh()
    for world in worlds:
        world.judge(None, world.holdings(), first_news.get(world.n, ()))
    for _ in range(rounds):
        acts: dict[int, Act] = {}
        doors: dict[str, list[Raw]] = {"patients": [], "appointments": []}
        for world in worlds:
            drawn = world.lot.random()
            if drawn < 0.3:
                corrected = world.correct()
                if corrected is not None:
                    doors[corrected[0]].append(corrected[1])
            elif drawn < 0.4:
                world.move_phones()
            elif (act := world.act()) is not None:
                acts[world.n] = act
        before = {world.n: world.holdings() for world in worlds}
        for door, resources in doors.items():
            bench.notify_all(resources, door=door)
        bench.append_together([bench.webhook_entries(act.value) for act in acts.values()])
        bench.settle(patience=20)
        bench.pass_(seconds=3)
        bench.settle(patience=20)
        news = fresh()
        for world in worlds:
            world.judge(acts.get(world.n), before[world.n], news.get(world.n, ()))
    return worlds


__all__ = ["PNID", "Account", "Act", "World", "play"]
