"""`bridge init`: a folder that `bridge check` finds good, and that holds no secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from bridge.cli import main
from bridge.settings import load_settings

SITES = {
    "as it comes": (),
    "from the demo": ("--from-demo",),
    "a name that YAML would read otherwise": ("--name", 'Clínica "Ñ": sala #1'),
    "Brazil": ("--zone", "America/Sao_Paulo", "--region", "br", "--language", "pt"),
    "another hour and language": ("--zone", "America/Mexico_City", "--region", "MX", "--language", "en"),
}


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


@pytest.mark.parametrize("options", SITES.values(), ids=SITES)
def test_the_new_folder_is_good(options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "site"
    assert run("init", str(folder), *options) == 0
    capsys.readouterr()
    assert run("check", "--no-secrets", "--config", str(folder / "config/bridge.yaml")) == 0, capsys.readouterr().out
    assert "good (16 templates, 6 mappings, 3 replies)" in capsys.readouterr().out


def test_with_the_named_secrets_it_is_what_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "site"
    assert (
        run("init", str(folder), "--keys", "--name", "San Telmo", "--zone", "Atlantic/Canary", "--language", "en") == 0
    )
    told = capsys.readouterr()
    made = dict(line.split("=", 1) for line in told.out.splitlines())
    named = re.findall(r"^(\w+)=$", (folder / ".env.example").read_text("utf-8"), re.MULTILINE)
    assert set(made) < set(named), "the keys go to stdout alone, so that they can be appended to a file"
    settings = load_settings(folder / "config/bridge.yaml", {name: made.get(name, "given by others") for name in named})
    assert (settings.site.name, settings.site.zone, settings.site.languages[0]) == (
        "San Telmo",
        "Atlantic/Canary",
        "en",
    )
    assert settings.store.url.startswith("postgresql+psycopg://bridge:")
    assert settings.config_dir == folder / "config" and settings.part("mappings") == folder / "config/mappings"


def test_fresh_keys_are_fresh_and_in_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "site"
    assert run("init", str(folder), "--keys") == 0
    first = capsys.readouterr().out.splitlines()
    assert run("init", "--keys") == 0
    assert not set(first) & set(capsys.readouterr().out.splitlines())
    written = "".join(file.read_text("utf-8") for file in folder.rglob("*") if file.is_file())
    assert not [line for line in first if line.partition("=")[2] in written]


@pytest.mark.parametrize("there", ["config", "compose.yaml", ".env.example"])
def test_nothing_is_written_over(there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / there).write_text("mine", "utf-8")
    assert run("init", str(tmp_path)) == 2
    assert f"holds {there} already" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text("utf-8") == "mine"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "name a folder"),
        (("x", "--zone", "Europe/Madird"), "no time zone"),
        (("x", "--language", "xx"), "texts come in en, es, pt"),
    ],
)
def test_what_cannot_be_is_refused(
    options: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run("init", *options) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("options", "services"), [((), {"bridge", "db"}), (("--from-demo",), {"bridge"})])
def test_compose_starts_what_the_config_needs(options: tuple[str, ...], services: set[str], tmp_path: Path) -> None:
    folder = tmp_path / "site"
    assert run("init", str(folder), *options) == 0
    compose = YAML(typ="safe", pure=True).load((folder / "compose.yaml").read_text("utf-8"))
    assert set(compose["services"]) == services
    assert "./config:/config:ro" in compose["services"]["bridge"]["volumes"]
    assert "{version}" not in (folder / "compose.yaml").read_text("utf-8")
    assert ".env" in (folder / ".gitignore").read_text("utf-8").split()
