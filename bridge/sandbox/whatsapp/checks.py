"""What the Graph API looks at in a message before it takes it, and what the patient would read. Pure.

The stricter of Meta's contradicting pages holds. Sources: whatsapp.md §3.1-3.5 of the shared reference and the pages it names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.sandbox.whatsapp.catalogue import Catalogue, Template
from bridge.sandbox.whatsapp.denials import Denied

USER_ID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}\Z")
FREE_FORM = {
    "text",
    "interactive",
    "image",
    "video",
    "audio",
    "document",
    "sticker",
    "location",
    "contacts",
    "reaction",
}
MEDIA = {"image", "video", "audio", "document", "sticker"}
TEMPLATE_BODY = 1024  # characters after filling
BUTTON_PAYLOAD = 256


@dataclass(frozen=True, slots=True)
class Button:
    """A tap target as the phone shows it: `payload` comes back from a template's button, `id` from an interactive one."""

    title: str
    payload: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    kind: str  # "template", "text", "interactive.button", "image", …
    body: str
    buttons: tuple[Button, ...] = ()
    template: str = ""
    language: str = ""
    category: str = "service"
    details: Mapping[str, Any] = field(default_factory=dict)


def check(message: Mapping[str, Any], catalogue: Catalogue, media_ids: set[str] | Mapping[str, Any]) -> Content:
    """The content of an acceptable message.

    Raises:
        Denied: with the code Meta uses; the first fault found.
    """
    _frame(message)
    kind = message["type"]
    node = message.get(kind)
    if kind == "contacts":
        _need(isinstance(node, list) and 1 <= len(node) <= 5, 131009, "contacts wants 1 to 5 contacts")
        return Content("contacts", "")
    if not isinstance(node, dict):
        raise Denied(131008, f"{kind} is missing")
    if kind == "template":
        return _template(node, catalogue, media_ids)
    if kind == "text":
        body = node.get("body")
        _need(isinstance(body, str) and 1 <= len(body) <= 4096, 131009, "text.body wants 1 to 4096 characters")
        return Content("text", str(body))
    if kind == "interactive":
        return _interactive(node)
    if kind in MEDIA:
        return _media(kind, node, media_ids)
    if kind == "location":
        _need("latitude" in node and "longitude" in node, 131008, "location wants latitude and longitude")
        return Content("location", str(node.get("name", "")), details=node)
    _need(
        isinstance(node.get("message_id"), str) and isinstance(node.get("emoji"), str),
        131008,
        "reaction wants message_id and emoji",
    )
    return Content("reaction", node["emoji"], details=node)


def _need(holds: bool, code: int, details: str) -> None:
    if not holds:
        raise Denied(code, details)


def _frame(message: Mapping[str, Any]) -> None:
    _need(message.get("messaging_product") == "whatsapp", 100, "The parameter messaging_product is required.")
    _need(message.get("recipient_type") == "individual", 100, "recipient_type must be individual")
    to, recipient = message.get("to"), message.get("recipient")
    _need(isinstance(to, str) or isinstance(recipient, str), 131008, "to or recipient is required")
    if isinstance(to, str):
        _need(bool(re.fullmatch(r"\+?[0-9][0-9 ()-]{5,20}", to)), 131009, "to is not a phone number")
    else:
        _need(bool(USER_ID.match(str(recipient))), 131009, "recipient is not a business-scoped user id")
    _need(
        message.get("type") in FREE_FORM | {"template"},
        131051 if message.get("type") else 131008,
        f"type {message.get('type')!r}",
    )
    data = message.get("biz_opaque_callback_data", "")
    _need(isinstance(data, str) and len(data) <= 512, 131009, "biz_opaque_callback_data has at most 512 characters")


def _template(node: Mapping[str, Any], catalogue: Catalogue, media_ids: set[str] | Mapping[str, Any]) -> Content:
    template = catalogue.templates.get(str(node.get("name")))
    language = node.get("language") or {}
    code = str(language.get("code", "")) if isinstance(language, dict) else ""
    if template is None or code not in template.bodies or template.status in {"PENDING", "REJECTED"}:
        raise Denied(132001, f"template name ({node.get('name')}) does not exist in {code}")
    if template.status == "PAUSED":
        raise Denied(132015, "Template is paused due to low quality")
    if template.status == "DISABLED":
        raise Denied(132016, "Template is disabled")
    components = node.get("components") or []
    _need(
        isinstance(components, list) and all(isinstance(item, dict) for item in components),
        100,
        "components is no list",
    )
    above = _header(template, code, [item for item in components if item.get("type") == "header"], media_ids)
    values = _values(template, code, [item for item in components if item.get("type") == "body"])
    body = template.fill(code, values)
    if len(body) > TEMPLATE_BODY:
        raise Denied(132005, f"body text has {len(body)} characters after filling")
    for item in components:
        _need(item.get("type") in {"body", "button", "header"}, 132012, f"unknown component {item.get('type')!r}")
    buttons = _buttons(template, code, [item for item in components if item.get("type") == "button"])
    return Content(
        "template", body, buttons, template.name, code, template.category.lower(), {"params": values, "header": above}
    )


def _values(template: Template, code: str, bodies: list[dict[str, Any]]) -> dict[str, str]:
    holes = template.holes(code)
    parameters = bodies[0].get("parameters") or [] if bodies else []
    if len(bodies) > 1 or len(parameters) != len(holes):
        raise Denied(
            132000, f"body: number of localizable_params ({len(parameters)}) does not match the expected ({len(holes)})"
        )
    values: dict[str, str] = {}
    for at, parameter in enumerate(parameters):
        text = parameter.get("text")
        _need(parameter.get("type") == "text", 132012, "this template takes text parameters")
        _need(isinstance(text, str) and text != "", 131008, f"Parameter {at} has no text")
        if re.search(r"[\n\t\r]| {5}", text):
            raise Denied(132018, "Param text cannot have new-line/tab characters or more than 4 consecutive spaces")
        name = parameter.get("parameter_name") if template.named else holes[at]
        _need(template.named or "parameter_name" not in parameter, 100, "this template's parameters have no names")
        _need(name in holes, 100, f"Parameter name is missing or empty, or not in the template: {name!r}")
        _need(name not in values, 132000, f"parameter {name} is given twice")
        values[str(name)] = text
    return values


def _header(template: Template, code: str, given: list[dict[str, Any]], media_ids: set[str] | Mapping[str, Any]) -> str:
    """The header as the phone shows it: its text, or what kind of thing it is."""
    holes, parameters = template.header_holes(code), given[0].get("parameters") or [] if given else []
    wanted = len(holes) if template.header in {"", "text"} else 1
    if len(given) > 1 or len(parameters) != wanted:
        raise Denied(132000, f"header: number of parameters ({len(parameters)}) does not match the expected ({wanted})")
    if not wanted:
        return template.headers.get(code, "")
    parameter = parameters[0]
    kind = template.header
    if parameter.get("type") != kind:
        raise Denied(132012, f"header: Format mismatch, expected {kind.upper()}, received {parameter.get('type')!r}")
    if kind == "text":
        text = parameter.get("text")
        _need(isinstance(text, str) and text != "", 131008, "header parameter has no text")
        if re.search(r"[\n\t\r]| {5}", str(text)):
            raise Denied(132018, "Param text cannot have new-line/tab characters or more than 4 consecutive spaces")
        _need(
            parameter.get("parameter_name") == (holes[0] if template.named else None),
            100,
            "header: parameter name is missing, or not in the template",
        )
        filled = template.headers[code].replace("{{" + holes[0] + "}}", str(text))
        _need(len(filled) <= 60, 132005, f"header text has {len(filled)} characters after filling")
        return filled
    node = parameter.get(kind)
    _need(isinstance(node, dict), 131008, f"header: {kind} is missing")
    if kind == "location":
        axes = [node.get("latitude"), node.get("longitude")]
        good = all(isinstance(axis, str) and re.fullmatch(r"-?[0-9]{1,3}(\.[0-9]+)?", axis) for axis in axes)
        _need(good, 132012, "header: location wants latitude and longitude as text")
        _need("address" not in node or "name" in node, 132012, "header: an address is shown with a name only")
        return f"[location: {node.get('name', '')}]"
    _media(kind, node, media_ids)
    _need("link" not in node or str(node["link"]).startswith("https://"), 131009, "header: the link is not public")
    _need("caption" not in node, 132012, "header: a caption belongs to no template")
    _need("filename" not in node or kind == "document", 132012, "header: only a document has a file name")
    return f"[{kind}]"


def _buttons(template: Template, code: str, components: list[dict[str, Any]]) -> tuple[Button, ...]:
    titles = template.buttons.get(code, [])
    payloads = dict(enumerate(titles))  # without a payload Meta sends the title back
    seen: set[int] = set()
    for item in components:
        index = str(item.get("index", ""))
        _need(index.isdigit() and int(index) < len(titles), 131009, f"the template has no button {index!r}")
        _need(int(index) not in seen, 131009, f"two components for button {index}")
        _need(item.get("sub_type") == "quick_reply", 131009, "the template has quick reply buttons only")
        parameters = item.get("parameters") or [{}]
        payload = parameters[0].get("payload")
        _need(
            parameters[0].get("type") == "payload" and isinstance(payload, str) and payload != "",
            131008,
            "button payload is missing",
        )
        _need(len(payload.encode()) <= BUTTON_PAYLOAD, 131009, f"button payload over {BUTTON_PAYLOAD} bytes")
        seen.add(int(index))
        payloads[int(index)] = payload
    return tuple(Button(title, payload=payloads[at]) for at, title in enumerate(titles))


def _interactive(node: Mapping[str, Any]) -> Content:
    kind, action = str(node.get("type", "")), node.get("action") or {}
    body = (node.get("body") or {}).get("text")
    _need(isinstance(body, str) and 1 <= len(body) <= 1024, 131009, "interactive.body.text wants 1 to 1024 characters")
    _need(len((node.get("footer") or {}).get("text", "")) <= 60, 131009, "footer has at most 60 characters")
    _need(len((node.get("header") or {}).get("text", "")) <= 60, 131009, "header has at most 60 characters")
    buttons: tuple[Button, ...] = ()
    if kind == "button":
        replies = [item.get("reply") or {} for item in action.get("buttons") or []]
        _need(1 <= len(replies) <= 3, 131009, "1 to 3 reply buttons")
        buttons = _choices(replies, 256, 20)
        _need(len({button.title for button in buttons}) == len(buttons), 131009, "button titles must differ")
    elif kind == "list":
        sections = action.get("sections") or []
        rows = [row for section in sections for row in section.get("rows") or []]
        _need(1 <= len(str(action.get("button", ""))) <= 20, 131009, "list button wants 1 to 20 characters")
        _need(1 <= len(rows) <= 10, 131009, "a list has 1 to 10 rows over all sections")
        _need(
            len(sections) == 1 or all(section.get("title") for section in sections),
            131009,
            "several sections want titles",
        )
        _need(
            all(len(section.get("title", "")) <= 24 for section in sections),
            131009,
            "section title has at most 24 characters",
        )
        _need(
            all(len(row.get("description", "")) <= 72 for row in rows),
            131009,
            "row description has at most 72 characters",
        )
        buttons = _choices(rows, 200, 24)
    elif kind == "cta_url":
        parameters = action.get("parameters") or {}
        _need(
            1 <= len(parameters.get("display_text", "")) <= 20 and "url" in parameters,
            131009,
            "cta_url wants display_text (20) and url",
        )
        buttons = (Button(parameters["display_text"]),)
    else:
        _need(
            kind in {"location_request_message", "request_contact_info"}, 131009, f"unknown interactive type {kind!r}"
        )
    return Content(f"interactive.{kind}", str(body), buttons)


def _choices(items: list[dict[str, Any]], id_limit: int, title_limit: int) -> tuple[Button, ...]:
    for item in items:
        _need(1 <= len(str(item.get("id", ""))) <= id_limit, 131009, f"id wants 1 to {id_limit} characters")
        _need(1 <= len(str(item.get("title", ""))) <= title_limit, 131009, f"title wants 1 to {title_limit} characters")
    _need(len({item["id"] for item in items}) == len(items), 131009, "ids must differ")
    return tuple(Button(str(item["title"]), id=str(item["id"])) for item in items)


def _media(kind: str, node: Mapping[str, Any], media_ids: set[str] | Mapping[str, Any]) -> Content:
    _need(("id" in node) != ("link" in node), 131009, "exactly one of id and link")
    _need("id" not in node or node["id"] in media_ids, 131009, "unknown media id")
    caption = node.get("caption", "")
    _need(not caption or kind not in {"audio", "sticker"}, 131009, f"{kind} has no caption")
    _need(len(caption) <= 1024, 131009, "caption has at most 1024 characters")
    return Content(kind, caption, details=node)
