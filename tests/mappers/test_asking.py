"""`consent.if_missing: ask` needs its template, with blanks and buttons that bridge knows how to fill."""

from __future__ import annotations

import pytest

from bridge.errors import Refused
from bridge.mappers.document import load_document
from bridge.mappers.mapping import load_mappings
from bridge.mappers.templates import load_templates
from tests.mappers.starter import CONFIG, LANGUAGES

MAPPING = (CONFIG / "mappings/result-ready.yaml").read_text("utf-8").replace("if_missing: inbox", "if_missing: ask")
REQUEST = (CONFIG / "templates/consent_request.yaml").read_text("utf-8")
BESIDE = [path for path in sorted((CONFIG / "templates").glob("*.yaml")) if path.name != "consent_request.yaml"]


def said(request: str | None) -> list[str]:
    docs = [load_document(path.read_text("utf-8"), path.name) for path in BESIDE]
    docs += [load_document(request, "consent_request.yaml")] if request is not None else []
    try:
        load_mappings([load_document(MAPPING, "m.yaml")], load_templates(docs), LANGUAGES)
    except Refused as refused:
        return [f"{each.line} {each.code} {each.message}" for each in refused.problems]
    return []


def test_what_we_ship_asks() -> None:
    assert said(REQUEST) == []


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (None, '7 BR040 "ask" sends the template consent_request, and config/templates has none'),
        (REQUEST.replace("buttons: [agree, decline]", "buttons: [agree]"),
         "7 BR042 consent_request needs the buttons agree and decline, and no other"),
        (REQUEST.replace("site_name", "hospital"),
         "7 BR041 consent_request has {{hospital}}, which nothing fills; it may have site_name and topics"),
        (REQUEST.replace("languages:", "header: {kind: image}\nlanguages:", 1),
         "7 BR041 consent_request has a header of kind image, which nothing fills"),
    ],
)  # fmt: skip
def test_what_stops_it(request_: str | None, says: str) -> None:
    assert request_ != REQUEST
    assert said(request_) == [says]
