"""Each file of testdata/broken/ against its report beside it: the fault, at its line and column, and nothing else.

The report's first line says why somebody would write the file, the rest is what `bridge check` prints.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bridge.cli.check import SECRETS, look

ROOT = Path(__file__).parents[2]
BROKEN = Path(__file__).parent / "testdata/broken"
CASES = sorted(BROKEN.glob("*/*.yaml"))

# folder -> where its files stand in the configuration we ship, and what of that makes room for them
PLACES = {
    "mappings": ("mappings/{}", "mappings/*.yaml"),
    "beside": ("mappings/{}", ""),
    "templates": ("templates/{}", ""),
    "template_not_approved": ("templates/{}", ""),
    "template_without_portuguese": ("templates/{}", ""),
    "buttons": ("templates/buttons.yaml", ""),
    "bridge": ("bridge.yaml", ""),
    "replies": ("replies/en.yaml", ""),
    "words": ("words.yaml", ""),
}

# mapping-language.md D.3, character for character
EIGHT = """
bad.yaml:3:8: error BR012 "appointment.boked" is not allowed here; did you mean "appointment.booked"?
     3 | event: appointment.boked
       |        ^
bad.yaml:4:1: error BR011 unknown key "wen" in (root); did you mean "when"?
bad.yaml:7:21: error BR015 "12 hours" has the wrong form; write it like 24h or 3d
bad.yaml:11:31: error BR012 "date.lng" is not allowed here; did you mean "date.long"?
bad.yaml:13:26: error BR020 FHIRPath syntax: unexpected 'participant' after a complete expression
    13 |     doctor: "Appointment participant"
       |                          ^
bad2.yaml:4:1: error BR014 "remind" only belongs to event appointment.reminder
bad2.yaml:8:20: error BR021 Appointment (FHIR R4) has no element "strt"; did you mean "start"?
bad2.yaml:10:39: error BR021 Reference (FHIR R4) has no element "displya"; did you mean "display"?
""".strip().splitlines()


def report(case: Path, folder: Path) -> str:
    """What `bridge check --no-secrets` prints of the configuration with this file in it, the summary apart."""
    config = folder / "config"
    shutil.copytree(ROOT / "config", config)
    place, room = PLACES[case.parent.name]
    for file in config.glob(room) if room else ():
        file.unlink()
    shutil.copy(case, config / place.format(case.name))
    problems = [each for each in look(config / "bridge.yaml", {}).problems if each.code not in SECRETS]
    return "".join(f"{each}\n" for each in problems).replace(f"{config}/", "")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_broken(case: Path, tmp_path: Path) -> None:
    why, _, expected = case.with_suffix(".txt").read_text("utf-8").partition("\n")
    assert why.startswith("# ") and len(why) > 10
    assert report(case, tmp_path) == expected


def test_eight_of_them_are_the_prototypes_messages(tmp_path: Path) -> None:
    files = [BROKEN / "mappings" / name for name in ("bad.yaml", "bad2.yaml")]
    told = "".join(report(file, tmp_path / file.stem) for file in files).replace("mappings/", "").splitlines()
    assert [line for line in told if " error " in line] == [line for line in EIGHT if " error " in line]
    assert [line for line in told if line in EIGHT] == EIGHT


def test_no_report_is_left_without_its_file() -> None:
    assert {path.with_suffix("") for path in CASES} == {path.with_suffix("") for path in BROKEN.glob("*/*.txt")}
    assert len(CASES) >= 30
