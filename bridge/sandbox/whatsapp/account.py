"""The Graph API beside the sends: media, templates, numbers, the app's subscription."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from bridge.sandbox.whatsapp.denials import Denied

if TYPE_CHECKING:
    from bridge.sandbox.whatsapp.server import Options, WhatsApp


def perform(whatsapp: WhatsApp, request: web.BaseRequest, segments: list[str], body: bytes) -> tuple[int, Any]:
    """Answer anything but a send: (status, JSON or bytes).

    Raises:
        Denied: 100 with subcode 33 for an object that is not there, as Meta says it.
    """
    options = whatsapp.options
    match request.method, segments:
        case "GET", ["_media", id]:
            return 200, whatsapp.media.content(id)
        case "POST", [_, number, "media"]:
            whatsapp.check_number(number)
            return 200, {"id": whatsapp.media.upload(request.headers.get("Content-Type", ""), body)}
        case "GET", [_, waba, "message_templates"] if waba == options.waba_id:
            listed = [template.listing(language, at * 10 + n) for at, template in enumerate(whatsapp.catalogue.templates.values(), 1)
                      for n, language in enumerate(template.bodies)]  # fmt: skip
            wanted = request.query.get("name")
            return 200, {"data": [item for item in listed if wanted in {None, item["name"]}], "paging": {}}
        case "GET", [_, waba, "phone_numbers"] if waba == options.waba_id:
            return 200, {"data": [_info(whatsapp.options, number) for number in options.phone_number_ids]}
        case "GET", [_, waba, "subscribed_apps"] if waba == options.waba_id:
            return 200, {"data": [{"whatsapp_business_api_data": {"id": "1", "name": "pretend app"}}]}
        case "POST" | "DELETE", [_, waba, "subscribed_apps"] if waba == options.waba_id:
            return 200, {"success": True}
        case "GET", [_, number] if number in options.phone_number_ids:
            return 200, _info(whatsapp.options, number)
        case "GET", [_, id] if id in whatsapp.media.known:
            return 200, whatsapp.media.info(id, whatsapp.base)
        case "DELETE", [_, id] if id in whatsapp.media.known:
            del whatsapp.media.known[id]
            return 200, {"success": True}
    raise Denied(100, f"Unsupported {request.method.lower()} request. Object does not exist.", subcode=33)


def _info(options: Options, number: str) -> dict[str, Any]:
    return {"id": number, "display_phone_number": options.display, "verified_name": "Hospital Demo", "status": "CONNECTED",
            "quality_rating": "GREEN", "throughput": {"level": "STANDARD"}, "code_verification_status": "VERIFIED",
            "whatsapp_business_manager_messaging_limit": "TIER_2K",
            "health_status": {"can_send_message": "AVAILABLE", "entities": []}}  # fmt: skip
