"""``fsspill top``."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsspill.cli.main import main
from fsspill.cli.tables import is_terminal
from tests.monitoring.samples import BUCKET, NODES, line, node, serve
from tests.running import INTERRUPTIBLE

FIRST, SECOND = NODES


@pytest.fixture(autouse=True)
def ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the clock: each look is ten seconds after the one before, and nothing waits."""
    times = iter(range(0, 10_000, 10))
    monkeypatch.setattr("fsspill.monitoring.scrape.time.monotonic", lambda: float(next(times)))
    monkeypatch.setattr("fsspill.cli.top.time.sleep", lambda seconds: None)


@pytest.fixture
def endpoints() -> Iterator[tuple[str, str]]:
    """Yield the endpoints of two nodes, which spill and restore between two looks."""
    with (
        serve(node(FIRST), node(FIRST, times=1)) as first,
        serve(node(SECOND), node(SECOND, times=2)) as second,
    ):
        yield first, second


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["top", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_top_prints_tables_of_nodes(
    endpoints: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """By tier, and what they have to do; all together first, then the busiest."""
    first, second = endpoints
    lines = printed(capsys, "--metrics", first, "--metrics", f"http://{second}/metrics", "--once")
    assert lines == [
        "2 nodes  rates over 10 s",
        "node tier spilled/s restored/s spill s restore s",
        "all nodes bucket 300 MiB 75 MiB 0.55/0.99 -",
        "all nodes copy 0 MiB 900 MiB - 0.051/5.5",
        "10.0.0.2 bucket 200 MiB 50 MiB 0.55/0.99 -",
        "10.0.0.2 copy 0 MiB 600 MiB - 0.051/5.5",
        "10.0.0.1 bucket 100 MiB 25 MiB 0.55/0.99 -",
        "10.0.0.1 copy 0 MiB 300 MiB - 0.051/5.5",
        "node errors/s retries/s circuit in flight deletions",
        "all nodes 6.0 4.5 closed 32, 192 MiB 6",
        "10.0.0.2 4.0 3.0 closed 16, 96 MiB 3",
        "10.0.0.1 2.0 1.5 closed 16, 96 MiB 3",
    ]


def test_json_has_bytes_and_seconds(
    endpoints: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One object, of the cluster and of each node."""
    first, second = endpoints
    found = json.loads(
        "\n".join(printed(capsys, "--metrics", first, "--metrics", second, "--json"))
    )
    assert found["seconds"] == 10.0
    assert found["failures"] == {}
    assert found["cluster"]["requests_in_flight"] == 32
    [busiest, other] = found["nodes"]
    assert (busiest["node"], busiest["address"]) == (NODES[SECOND], SECOND)
    assert other["tiers"][0]["spilled_bytes_per_second"] == 100 * 2**20
    assert other["tiers"][1]["restore_seconds"]["p99"] == pytest.approx(5.5)


def test_an_endpoint_that_does_not_answer_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """With the reason below."""
    with serve(node(times=1)) as place:
        lines = printed(capsys, "--metrics", place, "--metrics", "127.0.0.1:9", "--once")
    assert "127.0.0.1:9 - - no answer - -" in lines
    assert lines[-1] == "127.0.0.1:9 does not answer: Connection refused"


def test_what_is_wrong_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The URI that a node does not write to, and why objects are lost."""
    text = "\n".join(
        [line("circuit_open", 1, uri=BUCKET), line("lost_objects_total", 3, reason="corrupt")]
    )
    with serve(text) as place:
        lines = printed(capsys, "--metrics", place, "--once")
    assert "10.0.0.1 0 0 open 0 0" in lines
    assert lines[-2:] == [
        f"10.0.0.1 does not write to {BUCKET}: it is unhealthy",
        "objects lost so far, corrupt: 3",
    ]


def test_nodes_with_the_same_trouble_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """There may be hundreds."""
    lines = [line("circuit_open", 1, address, uri=BUCKET) for address in NODES]
    with serve("\n".join(lines)) as place:
        shown = printed(capsys, "--metrics", place, "--once")
    assert shown[-1] == f"2 nodes do not write to {BUCKET}: it is unhealthy"


def test_nodes_with_one_address_have_their_ids(capsys: pytest.CaptureFixture[str]) -> None:
    """Several of a cluster for tests may be on one machine."""
    other = node(SECOND).replace('NodeAddress="10.0.0.2"', 'NodeAddress="10.0.0.1"')
    with serve(node(FIRST) + other) as place:
        lines = printed(capsys, "--metrics", place, "--once")
    assert {text.split(" bucket")[0] for text in lines if " bucket " in text} == {
        "all nodes",
        "10.0.0.1 4f0c8e2a",
        "10.0.0.1 9a1b8e2a",
    }


def test_without_metrics_of_fsspill_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was spilled yet."""
    with serve("ray_tasks 3\n") as place:
        [title, remark] = printed(capsys, "--metrics", place, "--once")
    assert title == "0 nodes  rates over 10 s"
    assert remark.startswith("No metrics of fsspill yet")


def test_without_an_answer_it_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """The cluster has ended, or has no agents that answer."""
    assert main(["top", "--metrics", "127.0.0.1:9"]) == 1
    assert capsys.readouterr().err == (
        "fsspill: no node answers at its endpoint for metrics (127.0.0.1:9: Connection refused). "
        "Expected a cluster that runs, and ray[default] on its nodes.\n"
    )


def test_the_cluster_on_this_machine_is_the_default(
    endpoints: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As Ray lists its nodes for Prometheus; without a list the message says what to do."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert main(["top", "--once"]) == 1
    assert "fsspill: found no cluster with metrics" in capsys.readouterr().err
    listed = tmp_path / "ray" / "prom_metrics_service_discovery.json"
    listed.parent.mkdir()
    listed.write_text(json.dumps([{"targets": endpoints}]))
    assert printed(capsys, "--once")[0] == "2 nodes  rates over 10 s"


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nonsense", "127.0.0.1:99999"])
def test_an_address_without_a_head_is_refused(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, with what was expected."""
    assert main(["top", address, "--once"]) == 1
    assert f"fsspill: cannot reach a head of Ray at '{address}': " in capsys.readouterr().err


def test_an_address_and_endpoints_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 2."""
    assert main(["top", "h:1", "--metrics", "h:2"]) == 2
    assert "expected ADDRESS or --metrics, not both" in capsys.readouterr().err


def test_an_endpoint_must_be_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is named."""
    assert main(["top", "--metrics", "s3://b"]) == 1
    assert "cannot read metrics from 's3://b'" in capsys.readouterr().err


class Screen:
    """A terminal of its own that shows ``fsspill top``, until it is closed."""

    def __init__(self, columns: int, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        environment = {**os.environ, "COLUMNS": str(columns), "LINES": "60", "TERM": "xterm"}
        environment.pop("NO_COLOR", None)
        self._process = subprocess.Popen(
            [*INTERRUPTIBLE, "top", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self._shown = ""

    def expect(self, text: str) -> str:
        """Read until a text is shown, and return all that was shown so far."""
        while text not in self._shown:
            self._shown += os.read(self._master, 65536).decode()
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._shown).replace("\r", "\n")

    def interrupt(self) -> int:
        """Interrupt it as Ctrl-C does, and return its exit code."""
        self._process.send_signal(signal.SIGINT)
        try:
            while os.read(self._master, 65536):
                pass
        except OSError:
            pass  # the terminal is closed
        os.close(self._master)
        return self._process.wait()


@pytest.mark.parametrize("columns", [60, 80])
def test_on_a_terminal_it_is_live_until_ctrl_c(columns: int) -> None:
    """No line is wider than the terminal; the exit code is 0."""
    pytest.importorskip("rich")
    with serve(*(node(times=times) for times in range(100))) as place:
        screen = Screen(
            columns, "--metrics", place, "--metrics", "127.0.0.1:9", "--interval", "0.2"
        )
        screen.expect("rates follow")
        shown = screen.expect("rates over")
        assert screen.interrupt() == 0
    assert "Ctrl-C ends" in shown
    assert "no answer" in shown
    assert max(map(len, shown.splitlines())) <= columns


def test_the_live_view_is_for_terminals_with_rich(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it there is one table, of words."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("fsspill.cli.tables._has_rich", lambda: False)
    assert not is_terminal()
    with serve(node(), node(times=1)) as place:
        lines = printed(capsys, "--metrics", place)
    assert "10.0.0.1 bucket 100 MiB 25 MiB 0.55/0.99 -" in lines
