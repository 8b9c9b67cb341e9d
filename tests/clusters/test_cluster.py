"""Real Ray clusters that spill."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.at_rest import files, keys, spilled
from tests.other_users import small_disk
from tests.running import Program, poll, processes

pytestmark = [pytest.mark.ray]
pytest.importorskip("ray")

STORE = 100_000_000
LOCAL = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}


def spill_and_drop(program: Program, at_rest: object, empty: object) -> None:
    """Follow spill.py to its end: objects verified, files there, refs dropped, files gone."""
    program.expect("verified")
    assert callable(at_rest)
    assert at_rest(), "nothing was spilled"
    program.tell()
    program.expect("dropped")
    assert callable(empty)
    poll(empty, "Ray to delete the files")
    program.tell()
    program.output()


def test_spilling_to_a_bucket_needs_only_the_directory(environment: dict[str, str]) -> None:
    """ray.init(object_spilling_directory="s3://...") is all it takes: spill, restore, delete.

    Keys are <uri>/<session name>/ray_spilled_objects_<node id>/<unique file>.
    """
    arguments = {**LOCAL, "object_spilling_directory": "s3://bucket/prefix"}
    with Program("spill.py", json.dumps(arguments), environment=environment) as program:
        spill_and_drop(program, assert_remote_keys, lambda: not spilled())


def test_a_node_whose_disk_is_full_spills_to_a_bucket(environment: dict[str, str]) -> None:
    """Ray's guard at 95 % of the disk of its temporary directory does not end programs."""
    directory = Path(environment["RAY_TMPDIR"])
    with small_disk(directory, size="200m", max_files=10_000):
        with (directory / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, 192 * 2**20)
        arguments = {**LOCAL, "object_spilling_directory": "s3://bucket/prefix"}
        with Program("spill.py", json.dumps(arguments), environment=environment) as program:
            spill_and_drop(program, assert_remote_keys, lambda: not spilled())


def assert_remote_keys() -> bool:
    pattern = (
        r"bucket/prefix/session_[0-9_-]+/ray_spilled_objects_[0-9a-f]{56}/"
        r"[0-9a-f]{32}-multi-[0-9]+-[0-9]+"
    )
    found = spilled()
    assert all(re.fullmatch(pattern, key) for key in found)
    return len(found) > 0


def test_files_of_a_file_uri_have_rays_layout_and_are_private(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Only their user can read the files of a ``file://`` URI."""
    arguments = {**LOCAL, "object_spilling_directory": f"file://{tmp_path}/spill"}

    def at_rest() -> bool:
        found = files(tmp_path)
        node, name = "ray_spilled_objects_[0-9a-f]{56}", "[0-9a-f]{32}-multi-[0-9]+-[0-9]+"
        pattern = f"{tmp_path}/spill/{node}/{name}"
        assert all(re.fullmatch(pattern, str(path)) for path in found)
        assert all(path.stat().st_mode & 0o077 == 0 for path in found)
        return len(found) > 0

    with Program("spill.py", json.dumps(arguments), environment=environment) as program:
        spill_and_drop(program, at_rest, lambda: not files(tmp_path))


def test_a_plain_path_uses_the_storage_of_ray(environment: dict[str, str], tmp_path: Path) -> None:
    """Without a protocol Ray's own storage is used, as before."""
    arguments = {**LOCAL, "object_spilling_directory": str(tmp_path)}
    with Program("spill.py", json.dumps(arguments), environment=environment) as program:
        spill_and_drop(program, lambda: files(tmp_path), lambda: not files(tmp_path))


def test_the_environment_variable_works_like_the_argument(environment: dict[str, str]) -> None:
    """RAY_object_spilling_directory has the same effect."""
    environment["RAY_object_spilling_directory"] = "s3://bucket"
    with Program("spill.py", json.dumps(LOCAL), environment=environment) as program:
        spill_and_drop(program, spilled, lambda: not spilled())


@pytest.mark.parametrize(
    "where", ["_system_config", pytest.param("environment", marks=pytest.mark.nightly)]
)
def test_a_configuration_of_type_fsspec_takes_all_parameters(
    environment: dict[str, str], where: str
) -> None:
    """It is given through _system_config, as an object, or RAY_object_spilling_config, as JSON."""
    params = {"uri": ["s3://bucket/a", "s3://bucket/b"], "prefix": "below", "file_size": 2**20}
    config = json.dumps({"type": "fsspec", "params": params})
    arguments: dict[str, object] = dict(LOCAL)
    if where == "environment":
        environment["RAY_object_spilling_config"] = config
    else:
        arguments["_system_config"] = {"object_spilling_config": json.loads(config)}

    def at_rest() -> bool:
        found = spilled()
        return all(any(key.startswith(f"bucket/{x}/below/") for key in found) for x in "ab")

    with Program("spill.py", json.dumps(arguments), environment=environment) as program:
        spill_and_drop(program, at_rest, lambda: not spilled())


def test_ray_start_takes_a_uri_as_directory(environment: dict[str, str]) -> None:
    """Drivers that join the cluster spill to it."""
    ray = os.path.join(os.path.dirname(sys.executable), "ray")
    flags = ["--head", "--port=0", "--num-cpus=1", f"--object-store-memory={STORE}", "--block"]
    start = [ray, "start", *flags, "--object-spilling-directory=s3://bucket/started"]
    start += ["--include-dashboard=false", "--disable-usage-stats"]
    with Program(*start, environment=environment) as head:
        head.expect("Ray runtime started")
        arguments = json.dumps({"address": "auto"})
        with Program("spill.py", arguments, environment=environment) as program:
            spill_and_drop(program, spilled, lambda: not spilled())


def test_a_driver_that_exits_without_shutdown_leaves_no_file(environment: dict[str, str]) -> None:
    """The end of a driver that holds all its refs leaves an empty prefix, from atexit."""
    arguments = json.dumps({**LOCAL, "object_spilling_directory": "s3://bucket/prefix"})
    with Program("spill.py", arguments, "--exit-with-objects", environment=environment) as program:
        program.expect("verified")
        output = program.output()
    assert spilled() == [], output
    poll(lambda: not keys(), "the heartbeat to go")
    assert "could not remove" not in output


def test_another_node_restores_the_objects_of_a_killed_node(environment: dict[str, str]) -> None:
    """On S3 every node restores by itself, also after SIGKILL of the raylet that spilled."""
    with Program("two_nodes.py", "s3://bucket/x", "--kill", environment=environment) as program:
        assert int(program.expect("spilled").split()[1]) > 30
        program.expect("read on the other node")
        program.expect("read after the node was killed")
        program.output()


def test_objects_in_a_node_local_directory_are_restored_on_another_node(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """The node that spilled serves the bytes."""
    with Program("two_nodes.py", f"file://{tmp_path}", environment=environment) as program:
        assert int(program.expect("spilled").split()[1]) > 30
        program.expect("read on the other node")
        program.output()
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("head", "worker"),
    [
        ("s3://bucket/a", "s3://bucket/b"),
        pytest.param("s3://bucket/a", "/tmp", marks=pytest.mark.nightly),
        pytest.param("/tmp", "s3://bucket/a", marks=pytest.mark.nightly),
    ],
)
def test_a_worker_node_with_another_directory_is_refused(
    environment: dict[str, str], head: str, worker: str
) -> None:
    """It does not start, and the message names both and says what to do."""
    with Program("worker_node.py", head, worker, environment=environment) as program:
        message = program.expect("refused")
        program.output()
    assert head in message
    assert worker in message
    assert "Leave out --object-spilling-directory" in message


def test_a_worker_node_with_the_same_directory_starts(environment: dict[str, str]) -> None:
    """Naming the directory of the head again is allowed."""
    same = ("s3://bucket/a", "s3://bucket/a/")
    with Program("worker_node.py", *same, environment=environment) as program:
        program.expect("started")
        program.output()


@pytest.mark.parametrize("reachable", [True, False])
def test_a_worker_node_says_when_it_joins_what_it_cannot_reach(
    environment: dict[str, str], reachable: bool
) -> None:
    """The command prints it, the driver is told, and the node stays."""
    endpoint = environment["AWS_ENDPOINT_URL"] if reachable else "http://127.0.0.1:1"
    arguments = ("s3://bucket/x", endpoint)
    with Program("joining_node.py", *arguments, environment=environment) as program:
        program.expect("status 0")
        program.expect("nodes 2")
        program.tell()
        lines = [line for line in program.output().splitlines() if "cannot spill" in line]
    assert keys() == []
    if reachable:
        assert lines == []
    else:
        assert any(
            line.startswith("printed fsspill: node") and "127.0.0.1:1" in line for line in lines
        )
        assert any("(raylet)" in line and "127.0.0.1:1" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "{endpoint}"),
        pytest.param(
            "FSSPEC_S3_ENDPOINT_URL", "http://127.0.0.1:9", "{endpoint}", marks=pytest.mark.nightly
        ),
        pytest.param(
            "FSSPEC_S3", '{{"profile": "nobody"}}', '{{"anon": false}}', marks=pytest.mark.nightly
        ),
    ],
)
def test_an_environment_that_is_corrected_works(
    environment: dict[str, str], name: str, wrong: str, right: str
) -> None:
    """It fails first; in the same process, as in a notebook, it is called again and works."""
    endpoint = environment["AWS_ENDPOINT_URL"]
    values = [value.format(endpoint=endpoint) for value in (wrong, right)]
    arguments = ("s3://bucket/corrected", name, *values)
    with Program("corrected.py", *arguments, environment=environment) as program:
        program.expect("failed ")
        program.expect("right: 30")
        program.output()


@pytest.mark.parametrize(
    ("lack", "expected"),
    [
        ("off", "cannot spill or restore objects: fsspill is not installed there, or off"),
        pytest.param(
            "absent",
            "cannot spill or restore objects: fsspill is not installed there, or off",
            marks=pytest.mark.nightly,
        ),
        pytest.param("other", "has fsspill 0.0.1, and the head ", marks=pytest.mark.nightly),
        pytest.param("complete", "", marks=pytest.mark.nightly),
    ],
)
def test_drivers_are_told_of_a_node_without_fsspill(
    environment: dict[str, str], lack: str, expected: str
) -> None:
    """Without the package, with the hook off, or of another version: one line says what to do."""
    with Program("incomplete_node.py", "s3://bucket/x", lack, environment=environment) as program:
        program.expect("status 0")
        program.expect("nodes 2")
        if expected:
            line = program.expect(expected)
            assert "fsspill: node " in line
            assert "pip install 'fsspill[s3]==" in line
            assert "runtime_env does not reach" in line
        else:
            program.tell("30")  # seconds within which drivers are told
        program.tell()
        rest = program.output()
    assert rest.count("runtime_env") == bool(expected)


def test_a_shuffle_beyond_the_object_store_returns_every_row(environment: dict[str, str]) -> None:
    """A dataset of two and a half times the object store is shuffled by Ray Data over S3."""
    pytest.importorskip("ray.data")
    with Program("shuffle.py", "s3://bucket/shuffle", environment=environment) as program:
        line = program.expect("shuffled")
        program.output()
    assert int(line.split()[2]) > STORE
    poll(lambda: not keys(), "all files to be deleted")


BAD: list[tuple[str | None, object, str, str]] = [
    ("nonsense://x", None, "ValueError", "knows no protocol 'nonsense'"),
    ("memory://x", None, "ValueError", "storage that all processes share"),
    ("s3://no-such-bucket/x", None, "FileNotFoundError", "never buckets"),
    ("file:///proc/nonsense", None, "OSError", "cannot spill to file:///proc/nonsense"),
    ("file://relative", None, "ValueError", "Did you mean 'file:///relative'"),
    ("s3:/bucket/x", None, "ValueError", "Did you mean 's3://bucket/x'"),
    ("https://bucket.s3.amazonaws.com/x", None, "ValueError", "Did you mean 's3://bucket/x'"),
    (None, {"uri": "s3://bucket", "nonsense": 1}, "ValueError", "unknown parameter 'nonsense'"),
    (None, {"uri": "s3://bucket", "file_size": "1"}, "ValueError", "expected an integer"),
    (None, {"uri": ["s3://bucket", "file:///tmp/x"]}, "ValueError", "only file:// URIs or none"),
    (None, {}, "ValueError", "expected params['uri']"),
]


def test_an_invalid_configuration_stops_ray_init(environment: dict[str, str]) -> None:
    """Each one raises its own error, and nothing is started by it.

    Afterwards a good one starts.
    """
    attempts = [
        (directory, params if params is None else {"type": "fsspec", "params": params})
        for directory, params, _, _ in BAD
    ]
    with Program("validation.py", "s3://bucket/good", environment=environment) as program:
        program.tell(json.dumps(attempts))
        lines = [line for line in program.output().splitlines() if line.startswith("{")]
    outcomes = [json.loads(line) for line in lines]
    for (_, _, kind, message), outcome in zip(BAD, outcomes, strict=False):
        assert kind in outcome["raised"]
        assert message in outcome["message"]
        assert not outcome["running"]
        assert_short(outcome["printed"], outcome["message"])
    assert len(outcomes) == len(BAD) + 1
    assert outcomes[-1] == {"raised": None}
    poll(lambda: not processes(environment["RAY_TMPDIR"]), "everything to have ended")
    assert keys() == []


def assert_short(printed: str, message: str) -> None:
    """Check that a traceback is Ray's own frames and ends with the message: the cause of it all."""
    assert printed.rstrip().endswith(message)
    assert printed.count("Traceback") == 1
    frames = re.findall(r'File "(.+?)", line', printed)
    assert len(frames) < 10
    assert not [frame for frame in frames if "fsspill/" in frame and "hook" not in frame]


@pytest.mark.parametrize(
    ("directory", "variables", "message"),
    [
        ("s3://no-such-bucket", {}, "fsspill creates directories, never buckets"),
        ("s3:/bucket/x", {}, "Did you mean 's3://bucket/x'?"),
        (
            "s3://bucket/x",
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "cannot spill to s3://bucket/x",
        ),
        ("s3://bucket/x", {"FSSPILL_FILE_SIZE": "8 MiB"}, "FSSPILL_FILE_SIZE='8 MiB'"),
    ],
)
def test_an_invalid_directory_stops_ray_start(
    environment: dict[str, str],
    tmp_path: Path,
    directory: str,
    variables: dict[str, str],
    message: str,
) -> None:
    """The command fails with the message alone, exit code 1, and no process runs."""
    ray = os.path.join(os.path.dirname(sys.executable), "ray")
    flags = ["--head", "--port=0", f"--object-spilling-directory={directory}"]
    no_keys = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    ended = subprocess.run(
        [ray, "start", *flags],
        env={**environment, **no_keys, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    printed = ended.stdout + ended.stderr
    assert ended.returncode == 1
    assert message in ended.stderr
    assert "Traceback" not in printed
    assert len(ended.stderr.splitlines()) < 10, ended.stderr
    assert processes(environment["RAY_TMPDIR"]) == []
