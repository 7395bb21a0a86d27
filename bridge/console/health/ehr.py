"""One EHR: does it answer, does it know us, may we do what the config asks, and will it tell us of changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from bridge.console.health import EHR_PAGE, Finding, Lines
from bridge.errors import BridgeError, EhrRefused, EhrUnreachable
from bridge.fhir.client import EhrClient, Resource
from bridge.settings import Ehr, SubscriptionSettings

RELEASES = {"4.0": "R4", "4.1": "R4B", "4.3": "R4B", "5.0": "R5"}  # CapabilityStatement.fhirVersion
READS = ("Appointment", "Patient", "RelatedPerson", "Practitioner", "Location")
NOT_KNOWN = {401, 403}
NO_LIST = {400, 403, 404, 405, 501}  # a server that keeps its Subscriptions elsewhere


def ehr(settings: Ehr, public_url: str | None) -> Iterator[Finding]:
    """Everything about one EHR, in the order in which it would be mended."""
    lines = Lines("ehr", f"EHR {settings.key}")
    if settings.base_url is None:
        yield lines.good("has no base_url: bridge only listens, and nothing can be asked")
        return
    try:
        client = EhrClient(settings)
    except (BridgeError, ValueError) as error:  # a key that is no key
        yield lines.bad(f"cannot be spoken to: {type(error).__name__}", _at(settings, "auth"), EHR_PAGE)
        return
    try:
        statement = client.metadata()
    except EhrUnreachable as error:
        yield _unreachable(settings, str(error))
        return
    except EhrRefused as error:
        if error.status in NOT_KNOWN:
            yield _not_known(settings, error)
        else:
            yield lines.bad(
                f"gives no CapabilityStatement ({error.status or 'not FHIR'})",
                f"Is `ehrs.{settings.key}.base_url` the FHIR base, without /metadata and without a resource type?",
                EHR_PAGE,
            )
        return
    yield Lines("ehr", f"EHR {settings.key}: CapabilityStatement").good("read")
    yield version(settings, statement)
    yield from capable(settings, statement)
    known, finding = token(settings, client)
    yield finding
    if known:
        yield from reading(settings, client)
        yield from subscriptions(settings, client, public_url)


def _at(settings: Ehr, part: str) -> str:
    return f"See `ehrs.{settings.key}.{part}`: what the EHR issued must stand there, whole."


def _unreachable(settings: Ehr, told: str) -> Finding:
    if told.startswith(("token endpoint", "smart-configuration")):
        return Lines("ehr", f"EHR {settings.key}: token").bad(
            f"the token endpoint does not give one ({told.partition(': ')[2]})",
            f"Is `ehrs.{settings.key}.auth.token_url` right and reachable from here?",
            EHR_PAGE,
        )
    return Lines("ehr", f"EHR {settings.key}").bad(
        f"is not reached ({told.partition(': ')[2]})",
        f"Is `ehrs.{settings.key}.base_url` right, is the EHR up, does the firewall let this machine through?",
        EHR_PAGE,
    )


def _not_known(settings: Ehr, error: EhrRefused) -> Finding:
    return Lines("ehr", f"EHR {settings.key}: token").bad(
        f"is refused ({error.status})",
        f"Renew what `ehrs.{settings.key}.auth` names, and see that its scopes hold what bridge reads and writes.",
        EHR_PAGE,
    )


def version(settings: Ehr, statement: Mapping[str, Any]) -> Finding:
    """The release that the EHR speaks, beside the one in the config."""
    lines = Lines("ehr", f"EHR {settings.key}: FHIR version")
    said = str(statement.get("fhirVersion", ""))
    release = RELEASES.get(said[:3])
    if release == settings.fhir_version:
        return lines.good(release)
    if release is None:
        return lines.bad(f'the EHR says "{said[:12]}", bridge speaks R4, R4B and R5', "Ask for one of these.", EHR_PAGE)
    return lines.bad(
        f"the EHR speaks {release}, the config says {settings.fhir_version}",
        f"Set `ehrs.{settings.key}.fhir_version` to {release}.",
        EHR_PAGE,
    )


def capable(settings: Ehr, statement: Mapping[str, Any]) -> Iterator[Finding]:
    """What the config asks of it that the CapabilityStatement does not offer; a statement that lists nothing says nothing."""
    offered: dict[str, set[str]] = {}
    for rest in statement.get("rest") or ():
        for each in rest.get("resource") or ():
            codes = {str(code.get("code")) for code in each.get("interaction") or ()}
            offered.setdefault(str(each.get("type")), set()).update(codes)
    lines = Lines("ehr", f"EHR {settings.key}: what it offers")
    if not any(offered.values()):
        yield lines.skipped("its CapabilityStatement lists no interactions")
        return
    back = settings.writeback
    asked = {(kind, "read") for kind in (*READS, *(each.resource for each in settings.subscriptions.values()))}
    asked |= (
        {("Appointment", {"put": "update", "patch": "patch"}[back.appointment])}
        if back.appointment != "none"
        else set()
    )
    asked |= {("Communication", "create")} if back.communication != "none" else set()
    asked |= {("Consent", "create")} if back.consent != "none" else set()
    lacking = sorted(f"{kind} {code}" for kind, code in asked if code not in offered.get(kind, ()))
    if lacking:
        yield lines.bad(
            f"not {', '.join(lacking)}",
            f"Have the EHR allow it, or set that part of `ehrs.{settings.key}.writeback` to none and drop its subscription.",
            EHR_PAGE,
        )
    else:
        yield lines.good("all that the config asks for")


def token(settings: Ehr, client: EhrClient) -> tuple[bool, Finding]:
    """Whether a search is answered: the first thing that needs more than a public page."""
    lines = Lines("ehr", f"EHR {settings.key}: token")
    try:
        next(client.search("Patient", {"_count": "1"}), None)
    except EhrUnreachable as error:
        return False, _unreachable(settings, str(error))
    except EhrRefused as error:
        if error.status in NOT_KNOWN:
            return False, _not_known(settings, error)
        return True, Lines("ehr", f"EHR {settings.key}: search of Patient").bad(
            f"is refused ({error.status})",
            "bridge reads `Patient`, and searches RelatedPerson and Consent by patient: have the EHR allow searches.",
            EHR_PAGE,
        )
    return True, lines.good("accepted")


def reading(settings: Ehr, client: EhrClient) -> Iterator[Finding]:
    """One Appointment, as a reminder would read it before it leaves."""
    lines = Lines("ehr", f"EHR {settings.key}: a read")
    try:
        found = next(client.search("Appointment", {"_count": "1"}), None)
        held = client.read(found.reference) if found is not None else None
    except BridgeError as error:
        yield lines.bad(
            f"of an Appointment fails ({getattr(error, 'status', None) or type(error).__name__})",
            "Give bridge's client read and search on Appointment.",
            EHR_PAGE,
        )
        return
    if held is None:
        yield lines.good("the EHR holds no Appointment yet")
    elif not isinstance(held, Resource):
        yield lines.bad(
            "a search finds an Appointment that a read does not",
            "Ask the vendor: ids of a search must be readable.",
            EHR_PAGE,
        )
    elif settings.writeback.appointment != "none" and held.etag is None and held.version is None:
        yield lines.bad(
            "the EHR gives its Appointments no version, so nothing can be written with If-Match",
            f"Have the server keep versions, or set `ehrs.{settings.key}.writeback` to appointment: none.",
            EHR_PAGE,
        )
    else:
        yield lines.good("an Appointment, with its version" if held.version or held.etag else "an Appointment")


def subscriptions(settings: Ehr, client: EhrClient, public_url: str | None) -> Iterator[Finding]:
    """For each in the config one at the EHR that is active and points at our door."""
    lines = Lines("ehr", f"EHR {settings.key}: Subscriptions")
    try:
        there = [each.resource for each in client.search("Subscription", {"_count": "200"})]
    except EhrRefused as error:
        if error.status in NO_LIST:
            yield lines.skipped("cannot be listed through FHIR here: look at them in the EHR's own pages")
            return
        yield lines.bad(f"cannot be listed ({error.status})", "Give bridge's client search on Subscription.", EHR_PAGE)
        return
    except EhrUnreachable as error:
        yield _unreachable(settings, str(error))
        return
    for each in settings.subscriptions.values():
        yield subscription(settings, each, there, public_url)


def subscription(
    settings: Ehr, wanted: SubscriptionSettings, there: list[dict[str, Any]], public_url: str | None
) -> Finding:
    """The first thing that is wrong with the one that should push to `/ehr/<ehr>/<key>`."""
    lines = Lines("ehr", f"EHR {settings.key}: Subscription {wanted.key}")
    path = f"/ehr/{settings.key}/{wanted.key}"
    ours = [each for each in there if _leads_to(_endpoint(each), path)]
    address = f"{public_url or 'https://…'}{path}"
    if not ours:
        return lines.bad(
            f"none at the EHR points to {path}",
            f"Create one for {wanted.resource} with the endpoint {address} and the door's secret.",
            EHR_PAGE,
        )
    here = [each for each in ours if public_url is None or _endpoint(each).startswith(public_url + path)]
    if not here:
        return lines.bad(
            f"points to {urlsplit(_endpoint(ours[0])).netloc.rpartition('@')[2]}, which is not `listen.public_url`",
            f"Change its endpoint to {address}.",
            EHR_PAGE,
        )
    active = [each for each in here if each.get("status") == "active"]
    if not active:
        return lines.bad(
            f'is "{str(here[0].get("status"))[:20]}" at the EHR, not active',
            "Set it to requested again once our door answers (servers switch it off after failures), and see its error element.",
            EHR_PAGE,
        )
    for each in active:
        if fault := _fault(settings, wanted, each):
            return lines.bad(*fault, EHR_PAGE)
    return lines.good("active, points to our door")


def _endpoint(resource: Mapping[str, Any]) -> str:
    """R4's `channel.endpoint`, R5's `endpoint`."""
    channel = resource.get("channel")
    found = channel.get("endpoint") if isinstance(channel, dict) else resource.get("endpoint")
    return found if isinstance(found, str) else ""


def _leads_to(endpoint: str, path: str) -> bool:
    found = urlsplit(endpoint).path
    return found.endswith(path) or f"{path}/" in found


def _fault(settings: Ehr, wanted: SubscriptionSettings, resource: Mapping[str, Any]) -> tuple[str, str] | None:
    criteria = resource.get("criteria")
    if isinstance(criteria, str) and "://" not in criteria:
        kind, _, query = criteria.partition("?")
        if kind != wanted.resource:
            return (
                f"tells of {kind[:40]}, the config expects {wanted.resource}",
                f"Set its criteria to {wanted.resource}?",
            )
        if "status=" in query:
            return (
                "filters by status: it never tells of what leaves that status, a cancellation above all",
                f"Set its criteria to {wanted.resource}? without a status.",
            )
    secret = _sent_secret(resource)
    if settings.door.kind == "bearer" and secret is not None and secret not in settings.door.secrets:
        return (
            "sends another secret than the door's: every push is answered 401",
            f"Put the secret of `ehrs.{settings.key}.door` into its header, or list both while they change.",
        )
    return None


def _sent_secret(resource: Mapping[str, Any]) -> str | None:
    """The bearer in its header, where the EHR shows it; masked ones count as not shown."""
    channel = resource.get("channel")
    headers = channel.get("header") if isinstance(channel, dict) else None
    for header in headers if isinstance(headers, list) else ():
        name, _, value = str(header).partition(":")
        scheme, _, secret = value.strip().partition(" ")
        if name.strip().lower() == "authorization" and scheme.lower() == "bearer" and secret.strip("*•x. "):
            return secret.strip()
    return None
