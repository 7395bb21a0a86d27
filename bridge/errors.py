"""Every failure by name. Messages carry ids only; callers read `retryable` and `remedy`, nobody parses a message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from bridge.mappers.document import Problem


class BridgeError(Exception):
    """Message: what happened, by id only. `remedy`: what to do. `retryable`: may the same call work later?"""

    remedy: ClassVar[str] = "Look at the message; if it names nothing you can change, report it with the id it names."
    retryable: ClassVar[bool] = False


# --- configuration -------------------------------------------------------------------------------------------------


class Refused(BridgeError):
    """A config, mapping, template or reply file that may not run: every problem found, each with its position."""

    remedy = "Mend the named lines; `bridge check` shows them again. What runs now keeps running."

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SecretMissing(BridgeError):
    """A secret that the config names and neither the environment nor the file holds."""

    remedy = "Set the named environment variable or write the named file; no secret has a default."


# --- doors ---------------------------------------------------------------------------------------------------------


class SignatureMismatch(BridgeError):
    """The sender could not prove who it is."""

    remedy = "Compare the secret of this door with the sender's; during rotation list both."


class Unusable(BridgeError):
    """Authenticated, but nothing we can read: it is stored, acknowledged and shown."""

    remedy = "`bridge show` has the stored body; ask the sender's vendor, or report it with the event id."


class UnreadableResource(BridgeError):
    """A FHIR resource that lacks what no mapping can do without."""

    remedy = "Look at the resource in the EHR: the message names its reference and what is missing."


# --- EHR -----------------------------------------------------------------------------------------------------------


class EhrUnreachable(BridgeError):
    """No answer, or one that says try later (429, 5xx, a gateway's HTML)."""

    remedy = "Nothing unless it lasts: rows wait with their next try. `bridge doctor` checks address and credentials."
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None, unknown: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds, as the EHR asked; None when it did not
        self.unknown = unknown  # a write whose request may have arrived: look before it is tried again


class EhrRefused(BridgeError):
    """The EHR answered and said no for good."""

    remedy = "Read the OperationOutcome in the trace; permissions and profiles are the EHR's to change."

    def __init__(self, message: str, *, status: int | None = None, codes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status  # HTTP; None when the answer was a 2xx that contradicts the question
        self.codes = codes  # OperationOutcome.issue.code, in order


# --- ledger --------------------------------------------------------------------------------------------------------


class StoreBusy(BridgeError):
    """The store cannot commit right now."""

    remedy = "The sender was answered 503 and comes again; look at disk space and the database if it lasts."
    retryable = True


class StoreLocked(BridgeError):
    """Another engine process owns this SQLite store."""

    remedy = "Stop the other engine, or give this one another data folder."


class NotThisProcess(BridgeError):
    """A verb that needs a role which no running process of this data folder has."""

    remedy = "Ask beside a process that has the role: `bridge prime` needs `apply`."


class RolesRefused(BridgeError):
    """`--roles` that this store cannot have, or that nothing is called."""

    remedy = "`bridge serve --help` lists the roles; a store on SQLite has one engine process with all of them."


class StoreMissing(BridgeError):
    """There is no ledger to look into, or not in the form this version reads."""

    remedy = "`bridge serve` makes it and `bridge migrate` brings it up to date; is --config the right one?"


class StoreUnreachable(BridgeError):
    """The database does not answer, or does not let us in."""

    remedy = "Is the server of `store.url` running, does the database exist, and may this user use it?"


class EngineNotRunning(BridgeError):
    """A verb that only a running engine can do found none."""

    remedy = "Start `bridge serve` with the same config, then ask again."


class CannotPrime(BridgeError):
    """`bridge prime` names an EHR that cannot be read, or that is not there."""

    remedy = "Name a key of `ehrs` that has a base_url; an EHR that cannot be read needs `prime: none`."


class Overtaken(BridgeError):
    """Another node wrote first what this one was about to write for the first time."""

    remedy = "Nothing: it is decided again from what stands there now."
    retryable = True


class NothingToDo(BridgeError):
    """An operation names nothing that is in the state it needs."""

    remedy = "`bridge doubts` and `bridge reminders` list what may be resent, closed, released or cancelled."


class Undecryptable(BridgeError):
    """A row whose key is not in `security.data_keys`, whose bytes were changed, or that retention has emptied."""

    remedy = "Add the key with the id the row names back to security.data_keys."


# --- mappings ------------------------------------------------------------------------------------------------------


class BadExpression(BridgeError):
    """A FHIRPath expression that may not run: `code` and `hint` as in the config's problems, `column` counted from 0."""

    remedy = "Mend the expression at the caret; `bridge check` shows it again."

    def __init__(self, code: str, column: int, message: str, hint: str = "") -> None:
        self.code = code
        self.column = column
        self.hint = hint
        super().__init__(message)


class ExpressionFailed(BridgeError):
    """An expression that has no answer on this resource: several values where one is wanted, kinds that do not compare."""

    remedy = "Preview the mapping with this event: the raw values beside each path show which one is not single."


class UnfitValue(BridgeError):
    """A value that the chosen formatter cannot put into words."""

    remedy = "Choose another `as:` in the mapping, or a path that ends in a value this one takes."


class MediaUnreachable(BridgeError):
    """WhatsApp did not take a document now."""

    remedy = "Nothing unless it lasts: the document is fetched and offered again a few times, then a person is told."
    retryable = True


class MediaRefused(BridgeError):
    """WhatsApp does not want a document."""

    remedy = "Look at the number's access token in WhatsApp Manager, and at the size and type of the document."
