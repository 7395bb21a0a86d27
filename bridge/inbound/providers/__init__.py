"""One file per provider of WhatsApp: how its webhooks prove themselves, and what they say, as updates. Pure."""

from __future__ import annotations

from types import ModuleType

from bridge.inbound.providers import cloud_api

PROVIDERS: dict[str, ModuleType] = {"cloud_api": cloud_api}
