"""The runbook has every alert; it, and the page on deploying, name log lines, settings and tests that there are."""

import re
from pathlib import Path

import pytest
import yaml

from deployed import DEPLOY, ROOT
from pixrt.options.fields import option_fields
from pixrt.options.serve import ServeOptions
from pixrt.options.session import SessionOptions
from pixrt.serve.settings import Settings

RUNBOOK, DEPLOYING = ROOT / "docs" / "runbook.md", ROOT / "docs" / "deploying.md"
GROUPS = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule}
SECTIONS = dict(re.findall(r"^## (Pixrt\w+)\n\n(.*?)(?=^## |\Z)", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL))
OF_REQUESTS = {"deadline_ms", "deadline_unreachable", "queue_full"}
SETTINGS = {name for owner in (Settings, ServeOptions, SessionOptions) for name in option_fields(owner)}


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    assert list(SECTIONS) == list(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_links_to_its_section_and_is_as_urgent_there(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["annotations"]["runbook_url"] == f"{RUNBOOK.relative_to(ROOT).as_posix()}#{alert.lower()}"
    assert SECTIONS[alert].startswith(f"*{rule['labels']['severity']}.* ")


@pytest.mark.parametrize("page", [RUNBOOK, DEPLOYING], ids=lambda page: page.stem)
def test_settings_that_it_names_are_settings(page: Path) -> None:
    named = set(re.findall(r"`([a-z]+_[a-z_]+)(?: = [^`]*)?`", page.read_text()))
    assert named
    assert {name for name in named if not name.startswith("pixrt_")} <= SETTINGS | OF_REQUESTS


def test_log_lines_that_it_names_are_written() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "runtime" / "pixrt" / "serve").rglob("*.py"))
    lines = set(re.findall(r"`((?:the|no|a) [a-z ]+)`", RUNBOOK.read_text()))
    assert len(lines) >= 5
    for line in lines | {"failed"}:
        assert f'tell("{line}"' in sources, line


def test_reasons_that_it_names_are_given() -> None:
    source = (ROOT / "runtime" / "pixrt" / "serve" / "service.py").read_text()
    reasons = re.findall(r"^- \*(the [a-z ]+)\*:", SECTIONS["PixrtNotReady"], re.MULTILINE)
    given = re.search(r"def why_not_ready.*?def ", source, re.DOTALL)
    assert given is not None
    assert sorted(reasons) == sorted(re.findall(r'"(the [a-z ]+)"', given[0]))


def test_tests_that_hold_threats_off_are_there() -> None:
    found = 0
    for row in re.findall(r"^\|.*\|$", DEPLOYING.read_text(), re.MULTILINE):
        file = ""
        for name, test in re.findall(r"`(tests/[\w/.]+)?(?:::(\w+))?`", row):
            file = name or file
            if test and file:
                assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), (file, test)
                found += 1
    assert found >= 10
