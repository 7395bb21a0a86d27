"""`bridge explain`: the offline catalogue of our codes (BR011), WhatsApp's (wa:131047) and our errors (StoreLocked)."""

from __future__ import annotations

import inspect
import json
import re
import sys
from typing import Annotated, Any

import typer

from bridge import errors
from bridge.cli import DONE, REFUSED, JsonOption
from bridge.cli.codes import CODES
from bridge.mappers.document import closest

# What a reaction of bridge.outbound.reactions means to the person who reads it.
KINDS = {
    "backoff": "bridge waits {seconds} s, doubling, and tries again",
    "retry_after": "bridge tries again after {seconds} s",
    "unsure": "it may have been sent: bridge never sends it again by itself; `bridge doubts` shows it",
    "permanent": "this message is over",
    "optout": "bridge records that the person does not want these; this message is over",
    "alarm_stop": "the {scope} stands still and keeps its queue until somebody acts",
    "pair": "only this recipient waits, longer with each try",
    "window": "free text needs an open customer service window: an approved template goes, if one is mapped",
    "hold_template": "the template stands still until its state changes; its queue is kept",
}


def explain(
    code: Annotated[str, typer.Argument(help="BR011, wa:131047 or an error's name; nothing lists them all.")] = "",
    as_json: JsonOption = False,
) -> None:
    """What a code means and what to do: BR011, wa:131047, StoreLocked."""
    if not code:
        every = {name: entry.what for name, entry in CODES.items()} | {name: _first(c) for name, c in _errors().items()}
        print(
            json.dumps(every, indent=1) if as_json else "\n".join(f"{name:<6} {what}" for name, what in every.items())
        )
        raise typer.Exit(DONE)
    found = _look_up(code)
    if found is None:
        known = [*CODES, *_errors()]
        print(
            f'there is no code "{code}"{closest(code, known)}; `bridge explain` lists all'.replace("?;", "?"),
            file=sys.stderr,
        )
        raise typer.Exit(REFUSED)
    print(json.dumps(found, indent=1) if as_json else "\n".join(f"{name}: {text}" for name, text in found.items()))


def _look_up(code: str) -> dict[str, Any] | None:
    if found := re.fullmatch(r"wa:?\s*([0-9]+)", code.strip(), re.IGNORECASE):
        return _of_whatsapp(int(found.group(1)))
    if entry := CODES.get(code.strip().upper()):
        return {"code": code.strip().upper(), "what": entry.what, "why": entry.why, "fix": entry.fix}
    kinds = {name.lower(): kind for name, kind in _errors().items()}
    if kind := kinds.get(code.strip().lower()):
        again = "yes" if kind.retryable else "no"
        return {"code": kind.__name__, "what": _first(kind), "fix": kind.remedy, "same call may work later": again}
    return None


def _of_whatsapp(code: int) -> dict[str, Any] | None:
    from bridge.outbound.reactions import BY_CODE

    reaction = BY_CODE.get(code)
    if reaction is None:
        return None
    does = KINDS[reaction.kind].format(seconds=reaction.seconds, scope=reaction.scope)
    shown: dict[str, Any] = {"code": f"wa:{code}", "what": reaction.reason, "bridge": does, "concerns": reaction.scope}
    if reaction.tries is not None:
        shown["tries"] = f"at most {reaction.tries} more"
    if reaction.alarm:
        shown["alarm"] = "somebody has to look"
    return shown


def _errors() -> dict[str, type[errors.BridgeError]]:
    found = inspect.getmembers(errors, lambda each: inspect.isclass(each) and issubclass(each, errors.BridgeError))
    return {name: kind for name, kind in found if kind is not errors.BridgeError}


def _first(kind: type[errors.BridgeError]) -> str:
    return " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
