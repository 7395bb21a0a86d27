"""Meta's own description of the send call (OpenAPI v23.0), repaired so that it accepts what Graph accepts.

The repair and its reasons: whatsapp.md §3.4. Read in place; None where the file is not on this machine.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

FILE = Path("/work/shared/reference/meta-openapi-v23.0.yaml")


@functools.cache
def send_validator() -> Draft202012Validator:
    """A validator of POST bodies."""
    schemas = YAML(typ="safe").load(FILE)["components"]["schemas"]
    bare = {
        name: list(schema["discriminator"]["mapping"].values())
        for name, schema in schemas.items()
        if "discriminator" in schema and "oneOf" not in schema
    }
    kinds = {ref.rsplit("/", 1)[-1]: name for name, refs in bare.items() for ref in refs}

    def repair(part: Any, owner: str) -> Any:
        if isinstance(part, list):
            return [repair(inner, owner) for inner in part]
        if not isinstance(part, dict):
            return part
        name = str(part.get("$ref", "")).rsplit("/", 1)[-1]
        if name in bare and kinds.get(owner) != name:  # a discriminator becomes a real choice
            return {"oneOf": [{"$ref": ref} for ref in bare[name]]}
        if any(
            isinstance(branch, dict) and branch.get("additionalProperties") is False for branch in part.get("allOf", [])
        ):
            for branch in part["allOf"]:  # closed over the whole message, not over one branch
                branch.pop("additionalProperties", None)
            part["unevaluatedProperties"] = False
        return {key: inner if key == "mapping" else repair(inner, owner) for key, inner in part.items()}

    schemas = {name: repair(schema, name) for name, schema in schemas.items()}
    schemas["LanguageObject"]["required"] = ["code"]
    for part in (schemas["TemplateComponent"], schemas["ButtonComponent"]["allOf"][1]):
        part["properties"]["index"]["pattern"] = "^[0-9]$"
        part["properties"]["sub_type"]["enum"] += ["flow", "copy_code", "voice_call"]
    base = schemas["BaseMessageProperties"]
    base["required"], base["anyOf"] = ["messaging_product", "type"], [{"required": ["to"]}, {"required": ["recipient"]}]
    base["properties"] |= {
        "recipient": {"type": "string"},
        "recipient_identity_key_hash": {"type": "string"},
        "biz_opaque_callback_data": {"type": "string", "maxLength": 512},
    }
    schemas["TemplateMessage"]["unevaluatedProperties"] = False
    return Draft202012Validator({"$ref": "#/components/schemas/Message", "components": {"schemas": schemas}})
