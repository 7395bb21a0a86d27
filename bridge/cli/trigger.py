"""`bridge trigger EVENT`: an invented patient's event, pushed to the running engine's own door as an EHR would, and followed
until its message has left or the reason is known.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import typer

from bridge.cli import DEFAULT_CONFIG, DONE, FAILED, NOTHING_SENT, REFUSED, ConfigOption, JsonOption
from bridge.cli.opening import opened
from bridge.errors import EngineNotRunning
from bridge.fhir.push import DIALECTS, Pushed, proven, push
from bridge.settings import Ehr, Settings, load_settings, loopback

if TYPE_CHECKING:
    from bridge.cli.stories import Resource, Story
    from bridge.console.trace import Message, Trace
    from bridge.ledger.store import Store

LEFT = {"accepted", "sent", "delivered", "read", "played"}
BROKEN = {"failed", "doubt", "held"}
MOVING = {"ready", "sending"}
PATIENT = re.compile(r"Patient/[A-Za-z0-9.-]{1,64}")
TIMEOUT = (3.0, 15.0)  # s, connect and read
EVERY = 0.2  # s between two looks


def trigger(
    event: Annotated[str, typer.Argument(help="appointment.booked, appointment.rescheduled, consent.granted, …")],
    config: ConfigOption = DEFAULT_CONFIG,
    ehr: Annotated[str | None, typer.Option("--ehr", help="Key of the EHR it comes from; else the first.")] = None,
    dialect: Annotated[str, typer.Option(help=f"How it is pushed: {', '.join(DIALECTS)}.")] = "r4",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="patient.name.given=Lucía, appointment.start=…"),
    ] = None,
    lang: Annotated[str | None, typer.Option("--lang", help="The patient's language; else the site's first.")] = None,
    minor: Annotated[bool, typer.Option("--minor", help="A child of nine, whose father has the phone.")] = False,
    no_consent: Annotated[bool, typer.Option("--no-consent", help="A patient who has refused messages.")] = False,
    patient: Annotated[
        str | None,
        typer.Option("--patient", metavar="Patient/ID", help="Somebody whom the EHR holds, not an invented one."),
    ] = None,
    phone: Annotated[
        str | None, typer.Option("--phone", help="Of who reads, like +34…; else an example number of the region.")
    ] = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, max=100, help="Push it that often.")] = 1,
    same_id: Annotated[
        bool, typer.Option("--same-id", help="The very same resource each time; of a file, with the id that it has.")
    ] = False,
    file: Annotated[Path | None, typer.Option("--file", help="A resource or Bundle of your own instead.")] = None,
    wait: Annotated[float, typer.Option("--wait", min=1, max=600, help="Seconds to follow each push.")] = 30.0,
    show: Annotated[
        bool, typer.Option("--print", help="Print the requests, their secret left out; push nothing.")
    ] = False,
    really: Annotated[bool, typer.Option("--really", help="Though a number of this config is a real one.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Push an event and follow it; exits 0 sent, 3 nothing sent (with the reason), 4 failed."""
    settings = load_settings(config, os.environ)
    source = _source(settings, ehr)
    if dialect not in DIALECTS:
        _refuse(f"there is no dialect {dialect}; there are {', '.join(DIALECTS)}")
    if not show:
        _may(settings, really, named=phone is not None or patient is not None or file is not None)
    now = _business_time(settings).astimezone(ZoneInfo(settings.site.zone))
    first = _new_id()
    stories = []
    for number in range(repeat):
        id_ = first if same_id or number == 0 else _new_id()
        stories.append(
            _story(
                settings,
                source,
                event,
                id_,
                now,
                _changes(changes),
                lang,
                minor,
                no_consent,
                patient,
                phone,
                file,
                same_id,
            )
        )
    told = Teller(settings, source, dialect, wait)
    if show:
        for story in stories:
            for line in told.requests(story):
                print(line)
        raise typer.Exit(DONE)
    with opened(settings) as store:
        outcomes = [told.tell(store, story) for story in stories]
    if same_id and repeat > 1:
        outcomes = [_together(outcomes)]
    _report(outcomes, as_json)
    raise typer.Exit(max(outcome.code for outcome in outcomes))


# --- what is asked -----------------------------------------------------------------------------------------------------


def _refuse(told: str) -> NoReturn:
    typer.echo(told, err=True)
    raise typer.Exit(REFUSED)


def _new_id() -> str:
    return f"bridge-trigger-{secrets.token_hex(4)}"


def _source(settings: Settings, key: str | None) -> Ehr:
    name = key or next(iter(settings.ehrs))
    found = settings.ehrs.get(name)
    if found is None:
        _refuse(f"there is no EHR {name} in the config; there are {', '.join(settings.ehrs)}")
    return found


def _may(settings: Settings, really: bool, *, named: bool) -> None:
    """An invented event must not reach somebody's real phone by accident: a pretend WhatsApp is on this machine."""
    real = [each.key for each in settings.numbers.values() if not loopback(each.base_url)]
    if real and not really:
        _refuse(f"{', '.join(real)} is a real number: its message would reach a real phone. With --really it does.")
    if real and not named:
        _refuse("with --really say who is to get it: --phone +34… or --patient; an example number may be somebody's")


def _changes(given: Sequence[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in given or ():
        path, equals, value = each.partition("=")
        if not equals:
            _refuse(f"--set {each}: a path, =, and a value")
        try:
            found[path] = json.loads(value) if value[:1] in "[{" or value in {"true", "false"} else value
        except ValueError:
            _refuse(f"--set {path}: this is no JSON")
    return found


def _story(
    settings: Settings, source: Ehr, event: str, id_: str, now: datetime, changes: Mapping[str, Any], lang: str | None,
    minor: bool, no_consent: bool, patient: str | None, phone: str | None, file: Path | None, same_id: bool,
) -> Story:  # fmt: skip
    from bridge.cli.stories import EVENTS, Wishes, retold, tell

    if event not in EVENTS:
        from difflib import get_close_matches

        near = get_close_matches(event, EVENTS, n=1)
        _refuse(
            f"there is no event {event}"
            + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(EVENTS)}")
        )
    if patient is not None and not PATIENT.fullmatch(patient):
        _refuse(f"--patient {patient}: Patient/ and an id")
    try:
        if file is not None:
            return retold(_read(file), None if same_id else id_, changes)
        recognised = settings.consent.recognise
        wishes = Wishes(
            now=now, phone=phone or _example_number(settings.site.region), fhir_version=source.fhir_version,
            category=recognised[0].category if recognised else None, language=lang or settings.site.languages[0],
            patient=patient, minor=minor, refuses=no_consent, changes=changes,
        )  # fmt: skip
        return tell(event, id_, wishes)
    except ValueError as error:
        _refuse(str(error))


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        _refuse(f"{file} cannot be read: {type(error).__name__}")
    if not isinstance(found, dict):
        _refuse(f"{file} holds no resource")
    return found


def _example_number(region: str) -> str:
    """As the region's numbering plan gives one."""
    import phonenumbers

    number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    assert number is not None  # the config has been checked for the region
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def _business_time(settings: Settings) -> datetime:
    """The engine's, where it answers: a demo's clock may have been pushed."""
    import requests

    from bridge.console.health.machine import local

    try:
        answer = requests.get(f"http://{local(settings.listen.console)}/api/v1/clock", timeout=TIMEOUT)
        return datetime.fromisoformat(answer.json()["now"])
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return datetime.now(UTC)


# --- pushing and following ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one story ended."""

    code: int
    told: str
    traces: tuple[Trace, ...]
    bubble: str = ""  # what a pretend phone shows of it

    def to_json(self) -> dict[str, Any]:
        traces = [trace.to_json() for trace in self.traces]
        return {"exit": self.code, "told": self.told, "bubble": self.bubble, "traces": traces}


class Teller:
    """Pushes stories to one door and follows what becomes of them in the ledger."""

    def __init__(self, settings: Settings, source: Ehr, dialect: str, wait: float) -> None:
        self.settings, self.source, self.dialect, self.wait = settings, source, dialect, wait
        self.base = source.base_url or "https://ehr.example/fhir"
        self.sandbox = self._sandbox()

    def requests(self, story: Story) -> Iterator[str]:
        """The requests as text, before the proof of who sends is added."""
        for resource, created in self._pushes(story):
            pushed = self._pushed(resource, story, created)
            yield f"{pushed.method} {self._door(resource)}{pushed.tail}"
            yield from (f"{name}: {value}" for name, value in pushed.headers.items())
            yield f"({self.source.door.kind} proof of the door)\n"
            yield json.dumps(json.loads(pushed.body), indent=1, ensure_ascii=False) + "\n"

    def _pushes(self, story: Story) -> list[tuple[Resource, bool]]:
        told = [(story.consent, True)] if story.consent is not None else []
        return [*told, *((version, at == 0) for at, version in enumerate(story.versions))]

    def tell(self, store: Store, story: Story) -> Outcome:
        """Set the scene at a pretend EHR, push each version once the one before it has been dealt with."""
        self._seed(story.people)
        *scenes, (last, created) = self._pushes(story)
        for resource, new in scenes:
            outcome = self._step(store, story, resource, new)
            if outcome.code == FAILED:
                return outcome
        outcome = self._step(store, story, last, created)
        return replace(outcome, bubble=self._bubble(story)) if outcome.code == DONE else outcome

    def _step(self, store: Store, story: Story, resource: Resource, created: bool) -> Outcome:
        from bridge.console.trace import latest, number

        with store.read() as connection:
            newest = max((number(each.id) for each in latest(connection, limit=1)), default=0)
        held = self._held_by_sandbox(resource) or resource
        status = self._send(self._pushed(held, story, created), held)
        if status != 200:
            return Outcome(FAILED, _refused_by_door(status), ())
        return self._followed(store, f"{held['resourceType']}/{held['id']}", newest)

    def _pushed(self, resource: Resource, story: Story, created: bool) -> Pushed:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        whole = (
            resource
            if "meta" in resource
            else resource | {"meta": {"versionId": "1" if created else "2", "lastUpdated": at}}
        )
        return push(self.dialect, whole, base=self.base, created=created, at=at, included=story.people)

    def _door(self, resource: Resource) -> str:
        from bridge.console.health.machine import local

        kind = resource["resourceType"]
        key = next((each.key for each in self.source.subscriptions.values() if each.resource == kind), None)
        if key is None:
            _refuse(f"the config has no subscription to {kind}: add one under ehrs.{self.source.key}.subscriptions")
        return f"http://{local(self.settings.listen.doors)}/ehr/{self.source.key}/{key}"

    def _send(self, pushed: Pushed, resource: Resource) -> int:
        import requests

        sent = proven(pushed, self.source.door)
        try:
            answer = requests.request(
                sent.method,
                self._door(resource) + sent.tail,
                data=sent.body,
                headers=dict(sent.headers),
                timeout=TIMEOUT,
            )
        except requests.RequestException:  # its text holds the URL, which may hold the door's secret
            raise EngineNotRunning(f"nothing answers at {self.settings.listen.doors}") from None
        return answer.status_code

    # --- the pretend EHR, where it is one ---

    def _sandbox(self) -> str | None:
        """The control address of a pretend EHR: only such a one is written to."""
        if self.source.base_url is None or not loopback(self.source.base_url):
            return None
        import requests

        parts = urlsplit(self.source.base_url)
        origin = f"{parts.scheme}://{parts.netloc}/_sandbox"
        try:
            answer = requests.get(f"{origin}/state", timeout=TIMEOUT)
            return origin if answer.status_code == 200 and "subscriptions" in answer.json() else None
        except (requests.RequestException, ValueError, TypeError):
            return None

    def _seed(self, resources: Sequence[Resource]) -> None:
        if self.sandbox is not None and resources:
            import requests

            requests.post(
                f"{self.sandbox}/seed", json={"resources": list(resources)}, timeout=TIMEOUT
            ).raise_for_status()

    def _held_by_sandbox(self, resource: Resource) -> Resource | None:
        """The resource as the pretend EHR holds it from now on: read-backs must find what was pushed."""
        if self.sandbox is None:
            return None
        import requests

        self._seed([resource])
        answer = requests.get(f"{self.sandbox}/resources/{resource['resourceType']}/{resource['id']}", timeout=TIMEOUT)
        found: Resource | None = answer.json().get("resource")
        return found

    def _asked(self, story: Story) -> Resource:
        """The patient of `--patient`, as the pretend EHR holds it."""
        actors = [each["actor"]["reference"] for each in story.versions[-1].get("participant", ())]
        about = story.versions[-1]
        named = [*actors, *(about.get(key, {}).get("reference", "") for key in ("subject", "patient"))]
        reference = next((each for each in named if each.startswith("Patient/")), None)
        if self.sandbox is None or reference is None:
            return {}
        import requests

        found: Resource = (
            requests.get(f"{self.sandbox}/resources/{reference}", timeout=TIMEOUT).json().get("resource") or {}
        )
        return found

    def _bubble(self, story: Story) -> str:
        """The newest message on the phone of who reads, where WhatsApp is a pretend one; people there are invented."""
        bases = [each.base_url for each in self.settings.numbers.values() if loopback(each.base_url)]
        people = [*story.people, *([self._asked(story)] if story.patient is None else [])]
        phones = [each["value"] for one in reversed(people) for each in one.get("telecom", ()) if "value" in each]
        if not bases or not phones:
            return ""
        import requests

        wa_id = "".join(filter(str.isdecimal, phones[0]))
        try:
            shown = requests.get(f"{bases[0]}/_sandbox/phone/{wa_id}", timeout=TIMEOUT).json()["bubbles"]
            last = [each for each in shown if each["from"] == "business"][-1]
            return "\n".join([last["body"], *(f"[{button['title']}]" for button in last.get("buttons") or ())])
        except (requests.RequestException, ValueError, LookupError, TypeError):
            return ""

    # --- what became of it ---

    def _followed(self, store: Store, reference: str, after: int) -> Outcome:
        deadline = time.monotonic() + self.wait
        until = _business_time(self.settings) + timedelta(seconds=self.wait)
        while True:
            traces = _about(store, reference, after)
            outcome = _judged(traces, until)
            if outcome is not None:
                return outcome
            if time.monotonic() > deadline:
                return Outcome(FAILED, _not_yet(traces, self.wait), traces)
            time.sleep(EVERY)


def _as_it_is(request: Any) -> Any:
    """Without it, `requests` would put a password of ~/.netrc in the place of the door's secret."""
    return request


def _about(store: Store, reference: str, after: int) -> tuple[Trace, ...]:
    """Traces of every event about this resource since then: the pretend EHR may have told of it before us."""
    from bridge.console.trace import latest, traces

    with store.read() as connection:
        mine = [each for each in latest(connection, limit=200, after=after) if each.about == reference]
        return traces(connection, list(reversed(mine)))


def _judged(traces: Sequence[Trace], until: datetime) -> Outcome | None:
    """None while something may still happen by itself; `until` is the business time at which we stop to look."""
    events = [trace.event for trace in traces if trace.event is not None]
    if not events or any(each.fate is None for each in events):
        return None
    messages = [each for trace in traces for each in trace.messages if each.offset is None]
    if any(each.state in MOVING or _about_to(each, until) for each in messages):
        return None
    told = tuple(traces)
    for code, states in ((DONE, LEFT), (FAILED, BROKEN)):
        if named := [each for each in messages if each.state in states]:
            return Outcome(code, "; ".join(_message_told(each) for each in named), told)
    if bad := [each for each in events if each.fate in ("failed", "unusable")]:
        return Outcome(FAILED, "; ".join(f"{each.id} {each.fate}: {each.reason}" for each in bad), told)
    reasons = [_message_told(each) for each in messages]
    decided = [each for each in events if each.fate != "merged"] or events  # the same told twice says nothing new
    reasons += [f"{each.fate}: {each.reason}" if each.reason else str(each.fate) for each in decided if not messages]
    return Outcome(NOTHING_SENT, "; ".join(dict.fromkeys(reasons)), told)


def _about_to(message: Message, until: datetime) -> bool:
    """Planned, and due by itself while we look: what quiet hours delay is not."""
    return message.state == "planned" and (
        message.not_before is None or datetime.fromisoformat(message.not_before) <= until
    )


def _message_told(message: Message) -> str:
    reason = f": {message.reason}" if message.reason else ""
    due = f" for {message.not_before}" if message.state == "planned" and message.not_before else ""
    return f"{message.id} {message.state}{due}{reason}"


def _not_yet(traces: Sequence[Trace], wait: float) -> str:
    waiting = [
        f"{each.id} waits: {each.reason or 'its turn'}"
        for trace in traces
        if (each := trace.event) and each.fate is None
    ]
    moving = [_message_told(each) for trace in traces for each in trace.messages if each.offset is None]
    found = "; ".join([*waiting, *moving]) or "the door took it, and no event about it is to be seen"
    return f"not decided within {wait:.0f} s: {found}. `bridge tail` follows on."


def _refused_by_door(status: int) -> str:
    known = {
        401: "the engine runs with another door secret than this config: restart it, or name its config",
        404: "the engine runs with another config: it knows no such EHR or subscription",
        503: "the engine cannot commit: look at the disk and the database (`bridge doctor`)",
    }
    return f"the door answered {status}: {known.get(status, 'that is not bridge, see `listen.doors`')}"


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    """Of one resource pushed several times: what the first caused, and that the others caused nothing more."""
    again = [outcome for outcome in outcomes[1:] if outcome.code == DONE]
    if outcomes[0].code == DONE and again:
        return Outcome(
            FAILED,
            f"told {1 + len(again)} times: {outcomes[0].told}; {'; '.join(o.told for o in again)}",
            outcomes[0].traces,
        )
    rest = "; ".join(dict.fromkeys(outcome.told for outcome in outcomes[1:]))
    return Outcome(outcomes[0].code, f"{outcomes[0].told}; again: {rest}", outcomes[0].traces)


# --- telling -----------------------------------------------------------------------------------------------------------


def _report(outcomes: Sequence[Outcome], as_json: bool) -> None:
    from bridge.console.plain_words import steps

    if as_json:
        print(json.dumps([outcome.to_json() for outcome in outcomes], ensure_ascii=False, indent=1))
        return
    words = {DONE: "sent", NOTHING_SENT: "nothing sent", FAILED: "failed"}
    for outcome in outcomes:
        for trace in outcome.traces:
            for step in steps(trace):
                print(f"{step.at or '':<26}{step.id:<26}{step.text}")
        if outcome.bubble:
            print("\n" + "\n".join(f"  | {line}" for line in outcome.bubble.splitlines()) + "\n")
        print(f"{words[outcome.code]}: {outcome.told}")
