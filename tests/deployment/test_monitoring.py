"""The alerts and dashboards in ``configs/monitoring`` name metrics that exist, and Prometheus reads them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from purveyor.kit import metrics

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs/monitoring"
TESTS = Path(__file__).with_name("alerts.test.yml")
RULES: list[dict[str, Any]] = yaml.safe_load((CONFIGS / "alerts.yml").read_text())["groups"][0]["rules"]
ALERTS = {rule["alert"]: rule["expr"] for rule in RULES}
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (CONFIGS / "grafana/dashboards").glob("*.json")}
OF_PROMETHEUS = {"job", "instance", "process", "worker", "le"}
"""Labels that a scrape or the text format adds."""


def queries() -> Iterator[tuple[str, str]]:
    """Every expression, with the alert or panel that it belongs to."""
    yield from ALERTS.items()
    for board in DASHBOARDS.values():
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{board['uid']}: {panel['title']}", target["expr"]


def series() -> dict[str, set[str]]:
    """The names of the product's series with their labels."""
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            (family,) = metric.describe()
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
            found |= {f"{family.name}{suffix}": set(metric._labelnames) for suffix in suffixes}
    return found


SERIES = series()


@pytest.fixture
def promtool() -> str:
    if (path := shutil.which("promtool")) is None:
        pytest.skip("no promtool: it is in the package prometheus")
    return path


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("where", "expression"), list(queries()))
def test_query_names_series_and_labels_that_exist(where: str, expression: str) -> None:
    used = re.findall(r"\bpurveyor_\w+", expression)
    assert set(used) <= set(SERIES), where
    assert used or "up{" in expression
    for name, matchers in re.findall(r"\b(purveyor_\w+)\{([^}]*(?:\{\w+\}[^}]*)*)\}", expression):
        labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", matchers))
        assert labels
        assert labels <= SERIES[name] | OF_PROMETHEUS, where
    lists = re.findall(r"(?:by|on|ignoring) \(([\w, ]*)\)", expression)
    grouped = {label for labels in lists for label in labels.split(", ")}
    assert grouped - {""} <= set.union(*(SERIES[name] for name in used), OF_PROMETHEUS), where


def test_each_row_of_the_table_of_alerts_has_its_alert() -> None:
    page = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    table = page.partition("| metric | alert when |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"purveyor_[a-z_]+", table))
    assert len(documented) > 15
    alerted = {name for expression in ALERTS.values() for name in re.findall(r"purveyor_[a-z_]+", expression)}
    assert {re.sub(r"_(bucket|count)$", "", name) for name in alerted} == documented


def test_each_alert_says_what_happened_and_what_to_do() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "action"}


def test_alerts_fire_for_trouble_and_not_for_what_is_normal(promtool: str) -> None:
    fired = set(re.findall(r'value: 1, labels: \'ALERTS\{alertname="(\w+)"', TESTS.read_text()))
    assert fired == set(ALERTS), "each has a test in which it fires"
    run(promtool, "check", "rules", CONFIGS / "alerts.yml")
    run(promtool, "test", "rules", TESTS)


def test_prometheus_understands_its_configuration(promtool: str, tmp_path: Path) -> None:
    shutil.copy(CONFIGS / "alerts.yml", tmp_path)
    text = (CONFIGS / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/", ""))
    run(promtool, "check", "config", tmp_path / "prometheus.yml")


def test_prometheus_understands_the_queries_of_the_dashboards(promtool: str, tmp_path: Path) -> None:
    expressions = [expression.replace("$__rate_interval", "1m") for _, expression in queries()]
    rules = [{"record": f"query{place}", "expr": expression} for place, expression in enumerate(expressions)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    run(promtool, "check", "rules", tmp_path / "queries.yml")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_are_complete_and_do_not_overlap(name: str) -> None:
    board = DASHBOARDS[name]
    assert board["uid"] == f"purveyor-{name}"
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    provisioned = CONFIGS / "grafana/provisioning/datasources/prometheus.yml"
    (source,) = yaml.safe_load(provisioned.read_text())["datasources"]
    for panel in panels:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {source["uid"]}
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_dashboards_cover_what_a_shop_and_a_system_show() -> None:
    assert set(DASHBOARDS) == {"shop", "system"}
    shown = {name: json.dumps(board) for name, board in DASHBOARDS.items()}
    for metric in ("http_requests_total", "mails_total", "mails_waiting", "order_to_mail_seconds_bucket"):
        assert f"purveyor_{metric}" in shown["shop"]
    for metric in ("http_request_seconds_bucket", "database_connections", "events_waiting", "events_handled"):
        assert f"purveyor_{metric}" in shown["system"]


def test_prometheus_scrapes_every_process_of_compose() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    (job,) = yaml.safe_load((CONFIGS / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    apps = {name for name, service in services.items() if "PURVEYOR_IMAGE" in service["image"]}
    assert set(found["names"]) == apps
    reached = set(services["prometheus"]["networks"])
    assert all(reached & set(services[name]["networks"]) for name in apps)
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["monitoring"]
        for volume in services[name]["volumes"]:
            source = volume.partition(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists()
