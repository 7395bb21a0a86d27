"""What blind indexes are made of, in one place: two rooms that mean the same thing must hash the same string."""

from __future__ import annotations


def conversation(number: str, value: str) -> str:
    """Our number (its config key) and the recipient: a wa_id, or a user_id where there is no number."""
    return f"conversation|{number}|{value}"


def identity(value: str) -> str:
    """A phone or business-scoped user id, whoever it belongs to."""
    return f"identity|{value}"


def resource(ehr: str, reference: str) -> str:
    return f"resource|{ehr}|{reference}"


def person(ehr: str, reference: str) -> str:
    return f"person|{ehr}|{reference}"


def anything(ehr: str) -> str:
    """Subject of an event that changed something that messages speak of, but does not say what: an empty push."""
    return f"resource|{ehr}|*"


def anyone(ehr: str) -> str:
    """Subject of an event that may silence somebody, but does not say whom: an id-only Consent."""
    return f"person|{ehr}|*"


def wamid(value: str) -> str:
    return f"wamid|{value}"
