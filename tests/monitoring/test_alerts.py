"""Alert rules, and every expression of the dashboard, as Prometheus reads them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fsspill.monitoring.alerts import ALERTS, Alert, make_rules
from fsspill.monitoring.panels import ROWS
from tests.monitoring.pictures import with_values
from tests.monitoring.prometheus import find_programs

PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"

Promtool = Callable[..., str]


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Promtool:
    """Return a function that runs promtool, and returns what it prints."""
    program = find_programs(tmp_path_factory.mktemp("prometheus")) / "promtool"

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(program), *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_promtool_accepts_the_configuration_of_the_documentation(
    promtool: Promtool, tmp_path: Path
) -> None:
    """It has the endpoints of Ray, and the rules as fsspill dashboard writes them."""
    [text] = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    text = text.replace("/etc/prometheus/", f"{tmp_path}/")
    (tmp_path / "fsspill-alerts.yml").write_text(make_rules())
    (tmp_path / "prometheus.yml").write_text(text)
    shown = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert f"{len(ALERTS)} rules found" in shown


def test_the_rules_are_yaml_with_every_alert() -> None:
    """Written without a library for it, and read by one."""
    [group] = yaml.safe_load(make_rules())["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [alert.name for alert in ALERTS]
    for rule, alert in zip(group["rules"], ALERTS, strict=True):
        assert rule["expr"] == alert.expression
        assert rule["for"] == alert.lasting
        assert rule["labels"] == {"severity": alert.severity}
        assert rule["annotations"] == {"summary": alert.summary, "description": alert.advice}


def test_promtool_accepts_the_rules(promtool: Promtool, tmp_path: Path) -> None:
    """The file as fsspill dashboard writes it."""
    file = tmp_path / "fsspill-alerts.yml"
    file.write_text(make_rules())
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(file))


def test_promtool_accepts_every_expression_of_the_dashboard(
    promtool: Promtool, tmp_path: Path
) -> None:
    """With values for the variables of Grafana."""
    expressions = [
        query.expression for panels in ROWS.values() for panel in panels for query in panel.queries
    ]
    rules = [
        {"record": f"panel_{number}", "expr": with_values(expression)}
        for number, expression in enumerate(expressions)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(expressions)} rules found" in promtool("check", "rules", str(file))


NODE = 'node="n1",NodeAddress="10.0.0.1"'
AT_NODE = {"node": "n1", "NodeAddress": "10.0.0.1"}
CASES = {
    "FsspillObjectsLost": (
        {f'ray_fsspill_lost_objects_total{{reason="corrupt",{NODE}}}': "_x20 1x40"},
        "20m",
        {"reason": "corrupt", **AT_NODE},
        "Node 10.0.0.1 has lost spilled objects: corrupt.",
    ),
    "FsspillCircuitOpen": (
        {
            f'ray_fsspill_circuit_open{{uri="s3://b",WorkerId="w1",{NODE}}}': "1x60",
            f'ray_fsspill_circuit_open{{uri="s3://b",WorkerId="w2",{NODE}}}': "0x60",
        },
        "10m",
        {"uri": "s3://b", **AT_NODE},
        "Node 10.0.0.1 cannot write to s3://b.",
    ),
    "FsspillRequestsFail": (
        {
            f'ray_fsspill_requests_total{{uri="s3://b",outcome="success",{NODE}}}': "0+70x60",
            f'ray_fsspill_requests_total{{uri="s3://b",outcome="superseded",{NODE}}}': "0+20x60",
            f'ray_fsspill_requests_total{{uri="s3://b",outcome="throttled",{NODE}}}': "0+10x60",
        },
        "25m",
        {"uri": "s3://b"},
        "10% of the requests to s3://b fail.",
    ),
    "FsspillWrongBytes": (
        {f'ray_fsspill_digest_mismatches_total{{uri="s3://b",tier="copy",{NODE}}}': "0x20 1x40"},
        "30m",
        {"uri": "s3://b", "tier": "copy"},
        "Wrong bytes were read from copy of s3://b.",
    ),
    "FsspillObjectsRefused": (
        {f"ray_fsspill_refused_objects_total{{{NODE}}}": "_x20 2x40"},
        "20m",
        AT_NODE,
        "No URI takes some objects of node 10.0.0.1.",
    ),
    "FsspillRestoresSlow": (
        {
            f'ray_fsspill_restore_seconds_bucket{{tier="bucket",le="30.0",{NODE}}}': "0+1x60",
            f'ray_fsspill_restore_seconds_bucket{{tier="bucket",le="120.0",{NODE}}}': "0+4x60",
            f'ray_fsspill_restore_seconds_bucket{{tier="bucket",le="+Inf",{NODE}}}': "0+4x60",
        },
        "25m",
        {"tier": "bucket"},
        "One of 100 restores from bucket takes more than 30 seconds.",
    ),
    "FsspillDeletionsWait": (
        {
            f'ray_fsspill_pending_deletions{{WorkerId="w1",{NODE}}}': "60x90",
            f'ray_fsspill_pending_deletions{{WorkerId="w2",{NODE}}}': "60x90",
        },
        "45m",
        AT_NODE,
        "Node 10.0.0.1 cannot delete 120 files.",
    ),
}
"""By alert: series with a value a minute, when it fires, with which labels and summary."""


def test_every_alert_has_a_case() -> None:
    """No rule is believed unseen."""
    assert set(CASES) == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=[alert.name for alert in ALERTS])
def test_an_alert_fires(promtool: Promtool, tmp_path: Path, alert: Alert) -> None:
    """On what it is about; at the beginning, and where nothing happens, it does not."""
    series, at, labels, summary = CASES[alert.name]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    quiet = [
        {"series": f'{name.partition("{")[0]}{{node="n2"}}', "values": "0x120"} for name in series
    ]
    fired = {
        "exp_labels": {"severity": alert.severity, **labels},
        "exp_annotations": {"summary": summary, "description": alert.advice},
    }
    (tmp_path / "rules.yml").write_text(make_rules())
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [*inputs, *quiet],
                "alert_rule_test": [
                    {"eval_time": "0m", "alertname": alert.name, "exp_alerts": []},
                    {"eval_time": at, "alertname": alert.name, "exp_alerts": [fired]},
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    promtool("test", "rules", str(tmp_path / "test.yml"))
