"""Real Ray clusters whose storage, processes and files have come to harm."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fsspec
import pytest

from fsspill.cleanup import clean, scan
from fsspill.cli.main import main
from fsspill.testing.s3_server import S3Server
from tests.at_rest import keys, open_uploads, spilled
from tests.faults.fault_proxy import Fault, FaultProxy, is_part
from tests.running import Program, kill_processes, poll, processes, ray_environment
from tests.timeouts import FORGIVING
from tests.users import EVERYTHING, only_user

pytestmark = [pytest.mark.ray]
pytest.importorskip("ray")

logger = logging.getLogger(__name__)

URI = "s3://bucket/prefix"
STORE = 100_000_000
LOCAL = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
PUT = "put 30 5000000"
"""Half as much again as the object store holds."""


@pytest.fixture
def environment(proxy: FaultProxy) -> Iterator[dict[str, str]]:
    """Return the environment of a program: the proxy and keys, and a directory for Ray."""
    with ray_environment() as environment:
        yield environment


def start(
    environment: dict[str, str], system: Mapping[str, Any] | None = None, **params: Any
) -> Program:
    """Start objects.py on a cluster of its own that spills to `URI` with these parameters."""
    config = {"type": "fsspec", "params": {"uri": URI, **params}}
    options = {"object_spilling_config": json.dumps(config), **(system or {})}
    arguments = {**LOCAL, "_system_config": options}
    return Program("objects.py", json.dumps(arguments), environment=environment)


def do(program: Program, command: str, answer: str) -> str:
    program.tell(command)
    return program.expect(answer)


def named(environment: dict[str, str], text: str) -> list[int]:
    """Return the ids of the processes of a cluster whose command line has this text."""
    found = []
    for pid in processes(environment["RAY_TMPDIR"]):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue  # ended
        if text.encode() in command:
            found.append(pid)
    return found


def kill_all(environment: dict[str, str], text: str) -> None:
    victims = named(environment, text)
    assert victims, f"no process is a {text}"
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


def is_spilled(path: str) -> bool:
    """Return True if a path is that of a spilled file, and not of a heartbeat."""
    return "/ray_spilled_objects_" in path


def kill_in_the_middle(
    environment: dict[str, str], proxy: FaultProxy, method: str, worker: str, part: bool = False
) -> None:
    """Stall one request, and kill all workers of a kind meanwhile."""
    before = proxy.injected[Fault.STALL, method]

    def strikes(path: str) -> bool:
        return is_spilled(path) and is_part(path) == part

    with proxy.inject(Fault.STALL, method=method, count=1, where=strikes):
        poll(lambda: proxy.injected[Fault.STALL, method] > before, f"a {method} to hang")
        kill_all(environment, worker)


def test_killed_io_workers_lose_no_byte(environment: dict[str, str], proxy: FaultProxy) -> None:
    """SIGKILL strikes IO workers while they spill and while they restore.

    Files that they had stored and uploads that they had begun, which no object refers to, go with
    their node.
    """
    with start(environment) as program:
        program.expect("started")
        for _ in range(2):
            program.tell(PUT)
            kill_in_the_middle(environment, proxy, "PUT", "SpillWorker")
            program.expect("the slowest")
        program.tell("put 3 40000000")
        kill_in_the_middle(environment, proxy, "PUT", "SpillWorker", part=True)
        program.expect("the slowest")
        program.tell("verify")
        kill_in_the_middle(environment, proxy, "GET", "RestoreWorker")
        program.expect("right: 63 of 63")
        program.output()
    assert keys() == []
    assert open_uploads() == []


def test_an_outage_of_the_server_loses_no_object(
    environment: dict[str, str], proxy: FaultProxy
) -> None:
    """Meanwhile every ray.put returns; afterwards every object is restored correctly.

    Objects made meanwhile are in memory and on the node's own disk; once the server is back,
    objects are spilled to it again. The driver is notified of the reason, at a limited rate.
    """
    began = time.monotonic()
    with start(environment, stall_timeout=FORGIVING) as program:
        program.expect("started")
        do(program, PUT, "the slowest")
        proxy.pause()
        program.tell(PUT)
        program.expect("Until that is mended, objects stay in memory")
        logger.info("server down: %s", program.expect("the slowest"))
        proxy.resume()
        before = set(spilled())
        poll(lambda: do(program, PUT, "the slowest") and set(spilled()) - before, "a new file")
        finish(program, began)


def test_objects_that_the_server_refuses(environment: dict[str, str], proxy: FaultProxy) -> None:
    """They stay in memory, and Ray spills all others, which are in one batch with them."""
    refused = "-multi-1-60"
    # Ray spills objects as soon as they are there, with all that were not stored before.
    system = {"object_spilling_threshold": 0.0, "max_io_workers": 1}
    with (
        proxy.inject(Fault.TOO_LARGE, method="PUT", where=lambda path: refused in path),
        start(environment, system, file_size=1024) as program,
    ):
        program.expect("started")
        do(program, "put 30 600000", "put 30")
        do(program, "put 10 500000", "put 10")
        poll(lambda: len(spilled()) == 10, "all objects but those that are refused")
        do(program, "verify", "right: 40 of 40")
        assert not [key for key in spilled() if refused in key]
        said = program.output()
    assert "stays in memory" in said
    assert "unhealthy" not in said


@pytest.mark.parametrize("fault", [Fault.FORBIDDEN, Fault.RESET])
def test_one_incident_is_one_line(
    environment: dict[str, str], proxy: FaultProxy, fault: Fault
) -> None:
    """Credentials are revoked, or the storage is down: node, URI, cause, consequence, remedy."""
    with start(environment, {"max_io_workers": 1}, stall_timeout=FORGIVING) as program:
        program.expect("started")
        do(program, "put 10 1000000", "put 10")
        with proxy.inject(fault):
            program.tell("put 30 5000000")
            line = program.expect("fsspill on node")
        lines = [line, *(each for each in program.output().splitlines() if "on node" in each)]
    for line in lines:  # another one for each minute
        assert "cannot write s3://bucket" in line
        assert "Until that is mended, objects stay in memory" in line
        assert "ray_spilled_objects" not in line
        assert len(line) < 500


def finish(program: Program, began: float) -> None:
    """Verify all objects, and end the program; nothing is left, and there were few messages."""
    found = do(program, "verify", "right:").split()
    assert found[1] == found[3]
    output = program.output()
    assert keys() == []
    # Two topics, each once a minute, or by each of the IO workers that find out at the same time.
    shown = output.count("fsspill on node")
    minutes = 1 + math.ceil((time.monotonic() - began) / 60)
    logger.info("%d messages in %d minutes", shown, minutes)
    assert shown <= 2 * 4 * minutes


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", [None, Fault.UNAVAILABLE, Fault.STALL, Fault.RESET])
def test_outages_of_30_seconds_under_load_lose_no_object(
    environment: dict[str, str], proxy: FaultProxy, fault: Fault | None
) -> None:
    """The server is down, answers 503, never answers, or resets connections."""
    began = time.monotonic()
    with start(environment) as program, ExitStack() as until_up:
        program.expect("started")
        do(program, PUT, "the slowest")
        if fault is None:
            proxy.pause()
            until_up.callback(proxy.resume)
        else:
            until_up.enter_context(proxy.inject(fault))
        program.tell("put 200 5000000")
        time.sleep(30)
        until_up.close()
        logger.info("%s: %s", fault, program.expect("the slowest"))
        finish(program, began)


LOST = re.compile(
    r"object (?P<number>\d+) is lost after (?P<seconds>[0-9.]+) s: (?P<kinds>\S+): "
    r".*\b(?P<id>[0-9a-f]{56}) was spilled to s3://(?P<key>\S+)\?\S+ and cannot be restored: "
    r"(?P<reason>.*) Create it again"
)


def lost(line: str) -> dict[str, str]:
    """Take apart what objects.py prints of a lost object."""
    found = LOST.search(line)
    assert found, line
    logger.info("lost after %s s: %s", found["seconds"], found["reason"])
    assert {"SpilledObjectLostError", "ObjectLostError"} <= set(found["kinds"].split(","))
    return found.groupdict()


def verify(program: Program) -> tuple[int, list[dict[str, str]]]:
    """Get all objects; return the number of correct ones, and the errors of the others."""
    program.tell("verify")
    others = []
    while "right: " not in (line := program.expect("")):
        if line.startswith("object "):
            others.append(lost(line))
    return int(line.split()[1]), others


def flip_a_bit(key: str, index: int) -> None:
    fs = fsspec.filesystem("s3")
    data = bytearray(fs.cat_file(key))
    data[index] ^= 1
    fs.pipe_file(key, bytes(data))


def test_altered_and_removed_files_raise_object_lost_error(environment: dict[str, str]) -> None:
    """The error of ray.get names object, URL and reason; nothing hangs.

    So does a task whose argument it is. All other objects are right.
    """
    with start(environment) as program:
        program.expect("started")
        do(program, PUT, "the slowest")
        before = spilled()
        changed = before[::2]  # some of them may still be in memory
        for key in changed:
            flip_a_bit(key, 2_000_000)
        right, flipped = verify(program)
        assert flipped
        assert right + len(flipped) == 30
        assert {other["key"] for other in flipped} <= set(changed)
        assert all("digest" in other["reason"] for other in flipped)
        gone = {*before, *spilled()}
        fsspec.filesystem("s3").rm(keys())
        right, others = verify(program)
        assert right + len(others) == 30
        assert len(others) > 1
        assert {other["key"] for other in others} <= gone
        number = others[-1]["number"]
        found = lost(do(program, f"argument {number}", f"object {number} is"))
        assert found["key"] == others[-1]["key"]
        program.output()


def test_a_large_object_that_is_corrupt_at_its_end_is_lost(environment: dict[str, str]) -> None:
    """The restore had begun to fill it: its IO worker ends itself, and the next one reports why."""
    with start(environment, max_bytes_in_flight=2**24) as program:
        program.expect("started")
        do(program, "put 5 40000000", "the slowest")
        do(program, "verify", "right: 5 of 5")  # two fit into memory: the last ones now
        changed = spilled()
        for key in changed:
            flip_a_bit(key, -1000)
        other = lost(do(program, "get 0", "object 0 is"))
        program.output()
        logs = Path(environment["RAY_TMPDIR"]).glob("ray/session_2*/logs/io_worker-*.err")
        ended = [log for log in logs if "ending this IO worker" in log.read_text()]
    assert len(ended) == 1
    assert other["key"] in changed
    assert "digest" in other["reason"]


unreachable = pytest.mark.parametrize(
    "fault",
    [
        Fault.UNAVAILABLE,
        pytest.param(Fault.FORBIDDEN, marks=pytest.mark.nightly),
        pytest.param(Fault.STALL, marks=pytest.mark.nightly),
    ],
)


@unreachable
def test_ray_get_waits_for_an_unreachable_storage(
    environment: dict[str, str], proxy: FaultProxy, fault: Fault
) -> None:
    """It returns when the storage no longer refuses."""
    with start(environment, stall_timeout=FORGIVING) as program:
        program.expect("started")
        do(program, PUT, "the slowest")
        numbers = iter(range(30))
        with proxy.inject(fault, method="GET", where=is_spilled):
            get_until(program, numbers, "Ray tries again, and ray.get waits")
        program.expect("is right")
        program.output()


@unreachable
def test_objects_unreachable_for_lost_after_are_lost(
    environment: dict[str, str], proxy: FaultProxy, fault: Fault
) -> None:
    """ray.get raises, and the error states how long the storage was unreachable."""
    with start(environment, stall_timeout=FORGIVING, lost_after=5) as program:
        program.expect("started")
        do(program, PUT, "the slowest")
        numbers = iter(range(30))
        with proxy.inject(fault, method="GET", where=is_spilled):
            line = get_until(program, numbers, "is lost")
        assert "(lost_after)" in lost(line)["reason"]
        do(program, f"get {next(numbers)}", "is right")
        program.output()


def get_until(program: Program, numbers: Iterator[int], answer: str) -> str:
    """Get one object after another, past those that are still in memory, until `answer`."""
    for number in numbers:
        program.tell(f"get {number}")
        while answer not in (line := program.expect("")):
            if f"object {number} is right" in line:
                break
        else:
            return line
    raise AssertionError("all objects are still in memory")


@pytest.fixture
def strict_server(
    checking_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Server]:
    """Return the server, which knows one user, with every right, and no other."""
    with only_user(checking_server, monkeypatch, EVERYTHING) as server:
        yield server


SLOW_ANSWERS = """
import sys, time
if "_fsspill_wrappers" in sys.modules:
    storage = sys.modules["_fsspill_wrappers"].FailedStorage
    spill_objects = storage.spill_objects
    storage.spill_objects = lambda *args: time.sleep(0.05) or spill_objects(*args)
"""
"""Answers of a storage that could not be set up take as long as on a busy machine: longer than the
10 ms after which Ray asks again."""


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        ("secret", "check the credentials"),
        pytest.param("package", "--force-reinstall", marks=pytest.mark.nightly),
        ("dependency", "expected to import fsspill"),
        pytest.param("fsspill", "expected to import fsspill", marks=pytest.mark.nightly),
    ],
)
def test_the_driver_is_told_that_a_node_cannot_spill(
    strict_server: S3Server, tmp_path: Path, cause: str, message: str
) -> None:
    """The message names the node and what to do; tasks there finish with correct results."""
    broken = {"package": "s3fs", "dependency": "xxhash", "fsspill": "fsspill"}
    own = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    if cause in broken:
        (tmp_path / f"{broken[cause]}.py").write_text(
            f"{SLOW_ANSWERS}raise ImportError('not here')"
        )
        own = {"PYTHONPATH": str(tmp_path)}
    with (
        ray_environment() as environment,
        Program("refused_node.py", URI, json.dumps(own), environment=environment) as program,
    ):
        node = program.expect("maker").split()[1]
        assert message in program.expect(f"({node[:12]}): ")
        program.expect("right: 24 of 24")
        program.output()


def test_clean_removes_a_killed_cluster_and_keeps_a_live_one(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of a live session is removed, whoever asks; a dead one is removed in full."""
    with start(environment) as program:
        session = program.expect("started").split()[1]
        do(program, PUT, "the slowest")
        poll(lambda: f"bucket/prefix/{session}/fsspill_heartbeats/head" in keys(), "the heartbeat")
        assert rows(capsys)[session] == "alive"
        before = set(keys())
        assert main(["clean", URI, "--older-than", "0s", "--session", session]) == 1
        assert "it is alive" in capsys.readouterr().err
        assert main(["clean", URI, "--older-than", "0s"]) == 0
        assert before <= set(keys())
        poll(lambda: not kill_processes(environment["RAY_TMPDIR"]), "Ray's processes to end")
    assert rows(capsys)[session] == "alive"  # its heartbeat is still recent
    assert main(["clean", URI, "--older-than", "0s"]) == 0
    assert before <= set(keys())
    [found] = scan(URI, older_than=0, stale_after=0)
    assert (found.name, found.liveness) == (session, "dead")
    assert clean(URI, older_than=0, stale_after=0).sessions == [session]
    assert keys() == []


def rows(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Return what `fsspill ls` says of each session."""
    capsys.readouterr()
    assert main(["ls", URI]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    return {line[0]: line[5] for line in lines if line[1] == "-"}


ENDS = [
    ("wait", signal.SIGTERM, signal.SIGTERM),
    ("wait", signal.SIGINT, 1),
    ("exit_with_status", None, 3),
    ("exit_in_thread", None, 0),
    ("fail", None, 1),
    ("fail_at_exit", None, 0),
    ("fail_in_destructor", None, 0),
    ("exit_within_shutdown", None, 0),
]
"""The way, the signal, and the exit status: that of a driver that spills to a local directory."""


@pytest.mark.parametrize(
    ("way", "number", "status"),
    [ENDS[0], *(pytest.param(*end, marks=pytest.mark.nightly) for end in ENDS[1:])],
)
def test_a_driver_ends_as_it_does_without_fsspill(
    environment: dict[str, str], way: str, number: int | None, status: int
) -> None:
    """Its exit status is the same; no process stays, no file, and so no heartbeat."""
    arguments = {**LOCAL, "object_spilling_directory": URI}
    with Program("ends.py", way, json.dumps(arguments), environment=environment) as program:
        program.expect("ready")
        if number is not None:
            program.send_signal(number)
        assert program.status() == status
        poll(lambda: not processes(environment["RAY_TMPDIR"]), "every process to end")
    assert keys() == []


@pytest.mark.parametrize(
    "with_files",
    # Ray itself gives a driver that is connected 30 s.
    [False, pytest.param(True, marks=pytest.mark.nightly)],
)
def test_sigterm_of_a_head_leaves_no_process(environment: dict[str, str], with_files: bool) -> None:
    """All processes of `ray start --block` end.

    The heartbeat goes with them, unless the session leaves files: then it stays, for clean-up.
    """
    ray = os.path.join(os.path.dirname(sys.executable), "ray")
    flags = ["--head", "--port=0", "--num-cpus=1", f"--object-store-memory={STORE}", "--block"]
    command = [ray, "start", *flags, "--include-dashboard=false", "--disable-usage-stats"]
    command.append(f"--object-spilling-directory={URI}")
    with ExitStack() as programs:
        head = programs.enter_context(Program(*command, environment=environment))
        head.expect("Ray runtime started")
        poll(lambda: [key for key in keys() if key.endswith("/head")], "the heartbeat")
        drivers = []
        if with_files:
            arguments = ("objects.py", json.dumps({"address": "auto"}))
            driver = programs.enter_context(Program(*arguments, environment=environment))
            do(driver, PUT, "the slowest")
            drivers = named(environment, "objects.py")
        [blocking] = named(environment, "--block")
        os.kill(blocking, signal.SIGTERM)
        poll(lambda: set(processes(environment["RAY_TMPDIR"])) <= set(drivers), "Ray to end")
    assert bool(spilled()) == with_files
    assert any(key.endswith("/head") for key in keys()) == with_files


HEAD_FLAGS = ("--head", "--port=0", "--num-cpus=1", "--block", "--include-dashboard=false")


def start_head(environment: dict[str, str]) -> Program:
    """Start a head with `ray start`."""
    ray = os.path.join(os.path.dirname(sys.executable), "ray")
    memory = f"--object-store-memory={STORE}"
    spilling = f"--object-spilling-directory={URI}"
    command = [ray, "start", *HEAD_FLAGS, "--disable-usage-stats", memory, spilling]
    return Program(*command, environment=environment)


def heartbeats(name: str) -> dict[str, Any]:
    """Return when the heartbeats of a name were last written, by their keys."""
    fs = fsspec.filesystem("s3")
    found = fs.find("bucket/prefix", detail=True, refresh=True)
    return {key: f["LastModified"] for key, f in found.items() if key.endswith(f"/{name}")}


def heartbeat_writers(environment: dict[str, str]) -> list[int]:
    """Return the processes of heartbeats that have a standby, as the parents of those."""
    pids = named(environment, "child_process.py")
    return [pid for pid in pids if any(parent_of(other) == pid for other in pids)]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_standby_continues_the_heartbeat_of_a_head(environment: dict[str, str]) -> None:
    """It takes over within seconds of a SIGKILL, and another standby is started."""
    with start_head(environment) as head:
        head.expect("Ray runtime started")
        poll(lambda: heartbeats("head"), "the heartbeat")
        for _ in range(2):
            poll(lambda: heartbeat_writers(environment), "a writer and its standby")
            [beat] = heartbeats("head")
            fsspec.filesystem("s3").rm_file(beat)
            [writer] = heartbeat_writers(environment)
            os.kill(writer, signal.SIGKILL)
            poll(lambda: heartbeats("head"), "another heartbeat")


def test_the_heartbeat_of_a_node_survives_its_io_workers(environment: dict[str, str]) -> None:
    """Ray starts no others while the node is idle. A process of its own writes its heartbeat.

    It ends with the node.
    """
    with start(environment) as program:
        program.expect("started")
        do(program, PUT, "the slowest")
        # One for the head, one for its node, however many IO workers have spilled.
        poll(lambda: len(heartbeat_writers(environment)) == 2, "the writers")
        kill_all(environment, "SpillWorker")
        poll(lambda: not named(environment, "SpillWorker"), "the IO workers to end")
        assert len(heartbeat_writers(environment)) == 2
        do(program, "verify", "right: 30 of 30")
        assert len(heartbeat_writers(environment)) == 2
        program.output()
    poll(lambda: not named(environment, "child_process.py"), "the writers to end")
    assert keys() == []


def test_a_restarted_head_continues_the_heartbeat_of_its_session(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """A head that finds its state again has the same session."""
    environment |= {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(tmp_path / "gcs")}
    with start_head(environment) as head:
        head.expect("Ray runtime started")
        poll(lambda: heartbeats("head"), "the heartbeat")
        before = heartbeats("head")
    poll(lambda: not kill_processes(environment["RAY_TMPDIR"]), "Ray's processes to end")
    assert heartbeats("head") == before
    with start_head(environment) as head:
        head.expect("Ray runtime started")
        poll(lambda: heartbeats("head") != before, "the heartbeat of the same session")
        assert heartbeats("head").keys() == before.keys()
        poll(lambda: len(heartbeat_writers(environment)) == 1, "a writer and its standby")
