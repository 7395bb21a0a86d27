"""What `bridge doctor` looks at: small functions, each a line that is good or says what to do and where it is described.

A finding holds ids, names of settings and figures; never a secret, an answer's text, or a URL with a query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["good", "bad", "skipped"]  # skipped: cannot be asked before something above it is mended

README = "README.md"
EHR_PAGE = "docs/guides/connect-ehr.md"
WHATSAPP_PAGE = "docs/guides/connect-whatsapp.md"
OPERATE_PAGE = "docs/guides/operate.md"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor."""

    area: str  # configuration, secrets, clock, store, ehr, whatsapp
    what: str  # what was looked at: "EHR main: token"
    state: State
    told: str  # what was found
    remedy: str = ""  # of a bad one: the command, setting or menu that mends it
    page: str = ""  # and where that is described

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Lines:
    """Makes the findings about one thing."""

    area: str
    what: str

    def good(self, told: str) -> Finding:
        return Finding(self.area, self.what, "good", told)

    def bad(self, told: str, remedy: str, page: str) -> Finding:
        return Finding(self.area, self.what, "bad", told, remedy, page)

    def skipped(self, told: str) -> Finding:
        return Finding(self.area, self.what, "skipped", told)


def guarded(lines: Lines, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of one look; one that breaks is a finding too and hides none of the others."""
    try:
        yield from look()
    except Exception as error:  # an answer of a shape nobody foresaw must not end the round
        yield lines.bad(
            f"the look itself broke: {type(error).__name__}", "Report it with this line and the server's name.", README
        )
