"""The pretend EHR's CapabilityStatement."""

from __future__ import annotations

from typing import Any

OFFERED = ("Appointment", "Communication", "Consent", "DiagnosticReport", "Location", "Patient", "Practitioner",
           "RelatedPerson", "Subscription")  # fmt: skip


def statement(names: list[str], fhir_version: str, base: str) -> dict[str, Any]:
    """What `GET metadata` answers: the usual types and those held now, and what may be done with them."""
    interactions = [
        {"code": code}
        for code in ("read", "vread", "update", "patch", "delete", "history-instance", "create", "search-type")
    ]
    return {
        "resourceType": "CapabilityStatement", "status": "active", "date": "2026-11-22", "kind": "instance",
        "fhirVersion": fhir_version, "format": ["json"], "patchFormat": ["application/json-patch+json"],
        "software": {"name": "bridge pretend EHR"}, "implementation": {"description": "no real data", "url": base},
        "rest": [{"mode": "server", "interaction": [{"code": "transaction"}, {"code": "batch"}],
                  "resource": [{"type": name, "versioning": "versioned", "interaction": interactions} for name in sorted({*OFFERED, *names})]}],
    }  # fmt: skip
