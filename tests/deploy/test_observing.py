"""The rules of Prometheus and the dashboard of Grafana name what a real server exports, and fire when they should."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import promql_parser as promql
import pytest
import yaml

from figures.process import Served, stand_in
from pixrt.serve.interfaces.protocols import INTERFACES
from pixrt.serve.metrics import _OUTCOMES
from promql import Known, names_of
from shapes import SCENE

ROOT = Path(__file__).parent.parent.parent
PROMETHEUS, DASHBOARD = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana" / "dashboard.json"
GROUPS = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CASES = yaml.safe_load((Path(__file__).parent / "rules_test.yaml").read_text())
PANELS = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
# Values that labels may have, of which a short run sees some only.
POSSIBLE = {
    "interface": {*(interface.name for interface in INTERFACES), "none", "other"},
    "outcome": set(_OUTCOMES),
    "status": {str(status) for status in range(200, 600)},
}
# Metrics of Prometheus itself, and one that a server has only of a GPU (tests/serve/test_metrics.py).
ELSEWHERE = {"up": dict[str, set[str]](), "pixrt_device_bytes": {"holder": set[str]()}}


def edit(client: httpx.Client, number: int) -> int:
    """A picture of ours; those with an odd number must be done soon."""
    data: dict[str, Any] = {"prompt": "a wish", "num_inference_steps": 6, "seed": number, "size": "auto"}
    data |= {"deadline_ms": 400} if number % 2 else {}
    return client.post("/v1/images/edits", data=data, files={"image": SCENE.read_bytes()}).status_code


@pytest.fixture(scope="module")
def exported() -> Known:
    """What a server exports in the middle of its work and at the end of it."""
    with (
        Served(*stand_in(40), "--queue", "6", "--max-batch", "2") as server,
        httpx.Client(base_url=server.address, timeout=60) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        answers = [pool.submit(edit, client, number) for number in range(16)]
        samples = dict(server.metrics())
        while not all(answer.done() for answer in answers):
            samples |= server.metrics()
        assert {200, 429} <= {answer.result() for answer in answers}
        edit(client, 1)  # the worker tells of its caches now and then
        for _ in range(30):
            edit(client, 0)
            samples |= server.metrics()
            if any(name == "pixrt_cache_bytes" for name, _ in samples):
                break
    metrics: dict[str, dict[str, set[str]]] = {}
    for name, labels in samples:
        for label, value in labels:
            metrics.setdefault(name, {}).setdefault(label, set(POSSIBLE.get(label, ()))).add(value)
        metrics.setdefault(name, {})
    return Known(metrics | ELSEWHERE)


@pytest.fixture(scope="module")
def known(exported: Known) -> Known:
    """With what the recording rules make of it, in their order."""
    for rule in RULES:
        if "record" in rule:
            labels = exported.answer_of(promql.parse(rule["expr"]))
            exported = Known({**exported.metrics, rule["record"]: {label: set[str]() for label in labels}})
    return exported


def queries_of(panel: dict[str, Any]) -> Iterator[tuple[promql.Expr, str]]:
    """Its queries, with a value for what Grafana puts in, and what their lines are called."""
    for target in panel["targets"]:
        yield promql.parse(target["expr"].replace("$__rate_interval", "1m")), target["legendFormat"]


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_names_what_there_is(alert: str, known: Known) -> None:
    rule = ALERTS[alert]
    labels = known.answer_of(promql.parse(rule["expr"]))
    said = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    assert said <= labels
    assert rule["labels"]["severity"] in ("page", "ticket")


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_names_what_there_is(panel: dict[str, Any], known: Known) -> None:
    assert panel["description"]
    for query, legend in queries_of(panel):
        assert set(re.findall(r"{{(\w+)}}", legend)) <= known.answer_of(query)
    assert set(re.findall(r"\bPixrt\w+", panel["description"])) <= set(ALERTS)


def test_queries_of_the_runbook_name_what_there_is(known: Known) -> None:
    queries = re.findall(r"^```promql\n(.*?)^```", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(queries) >= 3
    for query in queries:
        known.answer_of(promql.parse(query))


@pytest.mark.parametrize(
    "wrong",
    [
        "pixrt_pictures",
        'pixrt_pictures_total{state="done"}',
        'pixrt_pictures_total{outcome="good"}',
        "sum by (state) (pixrt_pictures_total)",
        "pixrt_memory_bytes / pixrt_memory_limit_bytes",
        'pixrt_picture_slowdown_bucket{le="3.5"}',
    ],
)
def test_what_there_is_not_is_found(wrong: str, known: Known) -> None:
    with pytest.raises(AssertionError):
        known.answer_of(promql.parse(wrong))


def test_every_metric_of_a_server_is_on_the_dashboard(exported: Known) -> None:
    shown = {name for panel in PANELS for query, _ in queries_of(panel) for name in names_of(query)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    own = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported.metrics if name.startswith("pixrt_")}
    assert own <= families


def test_panels_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


def test_every_alert_has_a_case_that_fires() -> None:
    firing = set(re.findall(r"Pixrt\w+", json.dumps(CASES)))
    assert firing == set(ALERTS)


def test_the_example_scrapes_the_job_that_rules_go_by() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    assert [each["job_name"] for each in config["scrape_configs"]] == ["pixrt"]
    assert [(PROMETHEUS / name).exists() for name in config["rule_files"]] == [True]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool (Debian's package prometheus)")
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    config = (PROMETHEUS / "prometheus.yaml").read_text().replace("/etc/prometheus/pixrt.key", str(tmp_path / "key"))
    (tmp_path / "key").write_text("pixrt-key")
    (tmp_path / "prometheus.yaml").write_text(config)
    shutil.copy(PROMETHEUS / "rules.yaml", tmp_path)
    for words in (
        ("check", "config", tmp_path / "prometheus.yaml"),
        ("test", "rules", Path(__file__).parent / "rules_test.yaml"),
    ):
        said = subprocess.run(["promtool", *words], capture_output=True, text=True)
        assert said.returncode == 0, said.stdout + said.stderr
