"""One file per provider of WhatsApp, each two pure halves: `payload` and `receipt`, and where they go. No file here posts."""

from __future__ import annotations

from types import ModuleType

from bridge.outbound.providers import cloud_api

PROVIDERS: dict[str, ModuleType] = {"cloud_api": cloud_api}  # numbers.<key>.provider names one
