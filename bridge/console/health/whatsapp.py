"""WhatsApp as Meta's Graph API describes it: token, number, account, templates; and the webhook as Meta calls it.

Source: reference/whatsapp.md §3, meta-openapi v23.0 (`/{Version}/{Phone-Number-ID}`, `/{Version}/{WABA-ID}/message_templates`)
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import requests

from bridge.console.health import WHATSAPP_PAGE, Finding, Lines
from bridge.mappers.templates import Catalogue, Template
from bridge.settings import App, Number

TIMEOUT = (3.0, 15.0)  # s, connect and read
PAGES = 50  # of 200 templates: an account holds at most 6,000 with their translations
TOKEN_CODES = {0, 190}  # expired, revoked, malformed
DENIED_CODES = {3, 10, *range(200, 300)}
NUMBER_FIELDS = "id,verified_name,status,quality_rating"


class Refusal(Exception):
    """What Graph said instead of an answer; `code` None when nothing of Meta's came back."""

    def __init__(self, http: int | None, code: int | None, told: str) -> None:
        super().__init__(told)
        self.http, self.code, self.told = http, code, told


def whatsapp(number: Number, catalogue: Catalogue | None) -> Iterator[Finding]:
    """Everything about one number, in the order in which it would be mended."""
    try:
        info = graph(number, number.phone_number_id, {"fields": NUMBER_FIELDS})
    except Refusal as refusal:
        yield _refused(number, refusal)
        return
    yield Lines("whatsapp", f"number {number.key}: token").good("accepted")
    yield healthy(number, info)
    try:
        owned = list(listed(number, "phone_numbers", {"fields": "id"}))
        apps = list(listed(number, "subscribed_apps", {}))
        templates = list(listed(number, "message_templates", {"fields": "name,language,status,category,parameter_format,components"}))  # fmt: skip
    except Refusal as refusal:
        yield _account(number, refusal)
        return
    lines = Lines("whatsapp", f"number {number.key}: account")
    if number.phone_number_id in {str(each.get("id")) for each in owned}:
        yield lines.good("holds the number")
    else:
        yield lines.bad(
            "does not hold this phone_number_id",
            f"Set `numbers.{number.key}.waba_id` to the account that WhatsApp Manager shows above the number.",
            WHATSAPP_PAGE,
        )
    lines = Lines("whatsapp", f"number {number.key}: webhooks of the account")
    if apps:
        yield lines.good("an app is subscribed")
    else:
        yield lines.bad(
            "no app is subscribed: nothing that patients write would come",
            f"POST {number.base_url}/{number.api_version}/{number.waba_id}/subscribed_apps with the token.",
            WHATSAPP_PAGE,
        )
    if catalogue is None:
        yield Lines("whatsapp", f"number {number.key}: templates").skipped("mend the files first: `bridge check`")
    else:
        yield from compared(number, catalogue, templates)


def graph(number: Number, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    """GET one object. Raises: Refusal."""
    url = f"{number.base_url}/{number.api_version}/{path}"
    headers = {"Authorization": f"Bearer {number.access_token}"}
    try:
        answer = requests.get(
            url, params=dict(query), headers=headers, timeout=TIMEOUT, allow_redirects=False,
            auth=lambda request: request,  # else a password of ~/.netrc would take the token's place
        )  # fmt: skip
    except (requests.RequestException, UnicodeError) as error:  # its text holds the URL
        raise Refusal(None, None, type(error).__name__) from None
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refusal(answer.status_code, None, "no JSON")
    said = body.get("error")
    if answer.status_code != 200 or isinstance(said, dict):
        code = said.get("code") if isinstance(said, dict) else None
        raise Refusal(answer.status_code, code if isinstance(code, int) else None, "")
    return body


def listed(number: Number, edge: str, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Every item of an edge of the account; pages by cursor, so that no address of an answer is followed."""
    after: dict[str, str] = {}
    for _ in range(PAGES):
        page = graph(number, f"{number.waba_id}/{edge}", {**query, "limit": "200", **after})
        yield from (each for each in page.get("data") or () if isinstance(each, dict))
        paging = page.get("paging") or {}
        cursor = (paging.get("cursors") or {}).get("after")
        if not cursor or not paging.get("next"):
            return
        after = {"after": str(cursor)}


def _refused(number: Number, refusal: Refusal) -> Finding:
    if refusal.code is None:
        return Lines("whatsapp", f"number {number.key}").bad(
            f"WhatsApp is not reached ({refusal.told or f'HTTP {refusal.http}'})",
            f"Is `numbers.{number.key}.base_url` right, and does the firewall let this machine through?",
            WHATSAPP_PAGE,
        )
    if refusal.code in TOKEN_CODES or refusal.http == 401:
        return Lines("whatsapp", f"number {number.key}: token").bad(
            f"is refused (code {refusal.code})",
            f"Make a new one for the system user and put it where `numbers.{number.key}.access_token` says.",
            WHATSAPP_PAGE,
        )
    if refusal.code in DENIED_CODES:
        return Lines("whatsapp", f"number {number.key}: token").bad(
            f"may not see the number (code {refusal.code})",
            "Give the system user whatsapp_business_messaging and whatsapp_business_management on the account.",
            WHATSAPP_PAGE,
        )
    return Lines("whatsapp", f"number {number.key}: number").bad(
        f"Meta knows no such phone_number_id, or this token may not see it (code {refusal.code})",
        f"Copy `numbers.{number.key}.phone_number_id` from the app's API setup: it is not the number itself.",
        WHATSAPP_PAGE,
    )


def _account(number: Number, refusal: Refusal) -> Finding:
    if refusal.code is None:
        return _refused(number, refusal)
    return Lines("whatsapp", f"number {number.key}: account").bad(
        f"cannot be read (code {refusal.code})",
        f"Is `numbers.{number.key}.waba_id` the account's id, and has the token whatsapp_business_management on it?",
        WHATSAPP_PAGE,
    )


def healthy(number: Number, info: Mapping[str, Any]) -> Finding:
    """Connected, and not about to be limited."""
    lines = Lines("whatsapp", f"number {number.key}: number")
    status, quality = str(info.get("status", "CONNECTED")), str(info.get("quality_rating", "UNKNOWN"))
    if status != "CONNECTED":
        return lines.bad(
            f"is {status[:30]}, not CONNECTED",
            "Register it for the Cloud API; WhatsApp Manager, Phone numbers, says what it waits for.",
            WHATSAPP_PAGE,
        )
    if quality == "RED":
        return lines.bad(
            "has quality RED: too many people blocked or reported it, and Meta will limit it",
            "Send less, and only what is expected; WhatsApp Manager, Insights, shows which template is blocked most.",
            WHATSAPP_PAGE,
        )
    return lines.good(f"connected, quality {quality.lower()}")


def compared(number: Number, catalogue: Catalogue, there: list[dict[str, Any]]) -> Iterator[Finding]:
    """Each template of the files, in each language, beside what Meta holds under its name."""
    by_name = {(str(each.get("name")), str(each.get("language"))): each for each in there}
    wrong = 0
    for template in catalogue.templates.values():
        for language, code in template.whatsapp_language.items():
            lines = Lines("whatsapp", f"number {number.key}: template {template.name} {code}")
            fault = _template_fault(template, language, by_name.get((template.name, code)))
            if fault is not None:
                wrong += 1
                yield lines.bad(*fault, WHATSAPP_PAGE)
    if not wrong:
        count = len(catalogue.templates)
        yield Lines("whatsapp", f"number {number.key}: templates").good(f"{count} approved in every language")


def _template_fault(template: Template, language: str, there: Mapping[str, Any] | None) -> tuple[str, str] | None:
    where = "WhatsApp Manager, Message templates"
    if there is None:
        return "is not at Meta: a message with it would be refused", f"Create it in {where}, with the text of its file."
    status = str(there.get("status"))
    if status != "APPROVED":
        return (
            f"is {status[:30]}, not APPROVED",
            f"{where} says why; while it waits or after a rejection, messages with it are held.",
        )
    if str(there.get("parameter_format", "")).lower() not in {"", template.parameter_format}:
        return (
            f"has {str(there['parameter_format']).lower()[:20]} variables, the file says {template.parameter_format}",
            f"Create it anew in {where} with variables like {{{{{'patient_name' if template.parameter_format == 'named' else 1}}}}}, or say so in its file.",
        )
    category = str(there.get("category", "")).lower()
    if category and category != template.category:
        return (
            f"is filed as {category[:20]}, the file says {template.category}: it costs more and needs an opt-in of its own",
            f"Ask for a review in {where}, or say {category[:20]} in its file.",
        )
    body, titles, above = _shown(there)
    fault = _header_fault(template, language, above)
    if fault is not None:
        return fault
    if body is not None and body.strip() != template.as_approved(template.languages[language]).strip():
        return (
            "has another text at Meta than in its file",
            "Change the file or the template: `bridge preview` shows the file's.",
        )
    wanted = [template.button_titles.get(language, {}).get(button, "") for button in template.buttons]
    if titles != wanted:
        return (
            f"has other buttons at Meta ({len(titles)}) than in its file ({len(wanted)}), or in another order",
            "Change the file or the template: a tap is understood by its place.",
        )
    return None


def _header_fault(template: Template, language: str, above: tuple[str, str] | None) -> tuple[str, str] | None:
    """`above` is Meta's header: (kind, text), or None where it has none."""
    header = template.header
    kind, text = above or ("", "")
    if kind != (header.kind if header is not None else ""):
        ours = header.kind if header is not None else "none"
        return (
            f"has a header of kind {kind[:20] or 'none'} at Meta, the file says {ours}",
            "Change `header` in the file or the template: a message with another header is refused.",
        )
    ours = header.languages.get(language, "") if header is not None and header.kind == "text" else text
    if text.strip() != template.as_approved(ours).strip():
        return "has another header at Meta than in its file", "Change the file or the template."
    return None


def _shown(there: Mapping[str, Any]) -> tuple[str | None, list[str], tuple[str, str] | None]:
    """(body, titles of its quick replies in order, kind and text of its header)."""
    body, titles, above = None, [], None
    for part in there.get("components") or ():
        if part.get("type") == "BODY":
            body = str(part.get("text", ""))
        elif part.get("type") == "HEADER":
            above = str(part.get("format", "TEXT")).lower(), str(part.get("text", ""))
        elif part.get("type") == "BUTTONS":
            titles = [str(each.get("text")) for each in part.get("buttons") or () if each.get("type") == "QUICK_REPLY"]
    return body, titles, above


def webhook(app: App, public_url: str | None) -> Finding:
    """Meta's verification, as Meta does it: a challenge that comes back, for the verify token only."""
    lines = Lines("whatsapp", f"app {app.key}: webhook")
    if public_url is None:
        return lines.skipped("`listen.public_url` is not set")
    challenge = secrets.token_hex(8)
    query = {"hub.mode": "subscribe", "hub.verify_token": app.verify_token, "hub.challenge": challenge}
    callback = f"{public_url}/whatsapp/{app.key}/webhook"
    try:
        answer = requests.get(callback, params=query, timeout=TIMEOUT, allow_redirects=False)
    except requests.RequestException as error:
        return lines.bad(
            f"is not reached through the public address: {type(error).__name__}",
            "Is bridge running, does the proxy pass /whatsapp/ on to `listen.doors`, does the name resolve?",
            WHATSAPP_PAGE,
        )
    if answer.status_code == 200 and answer.text == challenge:
        return lines.good("answers Meta's challenge")
    if answer.status_code == 403:
        return lines.bad(
            "refuses the verify token of this config",
            f"The engine runs with another `apps.{app.key}.verify_token`: restart it, and enter the same at Meta.",
            WHATSAPP_PAGE,
        )
    return lines.bad(
        f"answers {answer.status_code} where bridge would answer the challenge",
        f"The proxy must pass {callback} on as it is, to `listen.doors`.",
        WHATSAPP_PAGE,
    )
