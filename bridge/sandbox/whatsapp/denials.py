"""How the Graph API says no: its error object, by code. Source: https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes"""

from __future__ import annotations

from typing import Any

TITLES: dict[int, tuple[int, str]] = {  # code -> usual HTTP status (Meta's are unreliable: key on the code), title
    0: (401, "AuthException"),
    4: (400, "Application request limit reached"),
    10: (403, "Application does not have permission for this action"),
    100: (400, "Invalid parameter"),
    190: (401, "Invalid OAuth access token"),
    131000: (500, "Something went wrong"),
    131005: (403, "Access denied"),
    131008: (400, "Required parameter is missing"),
    131009: (400, "Parameter value is not valid"),
    131016: (503, "Service unavailable"),
    131021: (400, "Recipient cannot be sender"),
    131026: (400, "Message undeliverable"),
    131031: (403, "Business Account locked"),
    131042: (400, "Business eligibility payment issue"),
    131047: (400, "Re-engagement message"),
    131048: (400, "Spam rate limit hit"),
    131049: (400, "This message was not delivered to maintain healthy ecosystem engagement"),
    131050: (400, "Unable to deliver the message. This recipient has chosen to stop receiving marketing messages"),
    131051: (400, "Unsupported message type"),
    131053: (400, "Media upload error"),
    131056: (400, "(Business Account, Consumer Account) pair rate limit hit"),
    131057: (503, "Account in maintenance mode"),
    130429: (429, "Rate limit hit"),
    130472: (400, "User's number is part of an experiment"),
    132000: (400, "Number of parameters does not match the expected number of params"),
    132001: (404, "Template name does not exist in the translation"),
    132005: (400, "Translated text too long"),
    132007: (400, "Template format character policy violated"),
    132012: (400, "Parameter format does not match format in the created template"),
    132015: (400, "Template is paused"),
    132016: (400, "Template is disabled"),
    132018: (400, "There's an issue with the parameters in your template"),
    133010: (400, "Phone number not registered"),
    137000: (400, "Recipient identity key hash mismatch"),
    80007: (429, "Rate limit issues"),
}


class Denied(Exception):
    """A request the Graph API refuses: nothing was sent."""

    def __init__(self, code: int, details: str = "", *, http: int | None = None, subcode: int | None = None) -> None:
        status, title = TITLES.get(code, (400, "Unknown error"))
        super().__init__(f"(#{code}) {title}: {details}")
        self.code, self.title, self.details = code, title, details or title
        self.http = http or status
        self.subcode = subcode

    def body(self, trace: str) -> dict[str, Any]:
        """`error` as Meta writes it; `details` is for people, programs read `code`."""
        error: dict[str, Any] = {
            "message": f"(#{self.code}) {self.title}",
            "type": "OAuthException",
            "code": self.code,
            "error_data": {"messaging_product": "whatsapp", "details": self.details},
            "fbtrace_id": trace,
        }
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        return {"error": error}

    def status_error(self) -> dict[str, Any]:
        """The same as it stands in a `failed` status."""
        return {
            "code": self.code,
            "title": self.title,
            "message": self.title,
            "error_data": {"details": self.details},
            "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
        }
