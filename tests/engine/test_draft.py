"""A decimal of the EHR keeps its literal through a draft: reminders of a visit that has one must be planned."""

from bridge.engine.compose import Draft, Scene
from bridge.fhir import rawjson


def test_a_decimal_goes_through_a_draft() -> None:
    visit = rawjson.loads(b'{"resourceType":"Appointment","id":"a1","extension":[{"url":"x","valueDecimal":8.10}]}')
    draft = Draft(Scene(resource=visit, patient={"id": "p1"}), "34612000101", "self", "Europe/Madrid", "es")
    kept = Draft.from_bytes(draft.to_bytes())
    assert kept.scene.resource["extension"][0]["valueDecimal"] == 8.1
