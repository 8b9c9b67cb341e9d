"""The README and every page under docs hold: programs and commands run, names and links exist."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsspill import ExternalStorage, InMemoryObjectStore
from fsspill.cli.main import COMMANDS, main
from fsspill.testing.s3_server import S3Server
from tests.at_rest import keys
from tests.monitoring.samples import node, serve
from tests.running import Program, poll, processes, ray_environment

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fsspill"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
BUCKETS = ("my-bucket", "second-bucket")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"[\w./]+(?:\.py|/)")

RUN_HERE = (
    "pip install",
    "pip list",
    "fsspill demo",
    "fsspill ls",
    "fsspill clean",
    "fsspill du",
    "fsspill inspect",
    "fsspill config",
    "fsspill bench",
    "fsspill top",
    "fsspill dashboard",
    "fsspill check",
    "ray start",
    "python -m",
)
RUN_BY_CI = ("pytest", "ruff check", "ruff format", "mypy", "lint-imports", "pip wheel")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Yield the place, as page:line, and the text of every code block in a language."""
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            if match[1] == language:
                line = text[: match.start()].count("\n") + 1
                yield f"{name_of(page)}:{line}", match[2]


def commands(*prefixes: str) -> list[str]:
    """Return every command of the pages that begins with one of the words."""
    lines = (line for _, block in blocks("console") for line in block.splitlines())
    found = [command.strip() for line in lines for command in line.split("&&")]
    return [command for command in dict.fromkeys(found) if command.startswith(prefixes)]


def script(name: str) -> str:
    """Return the path of a command that is installed next to this Python."""
    return os.path.join(os.path.dirname(sys.executable), name)


def asked_buckets(server: S3Server, seen: int) -> set[str]:
    """Return the buckets of all requests but the first `seen`."""
    paths = [request.path for request in server.requests()[seen:]]
    return {path.split("/")[1].partition("?")[0] for path in paths}


@pytest.fixture
def environment(s3_server: S3Server, s3_bucket: str) -> Iterator[dict[str, str]]:
    """Return the environment of a user whose buckets exist."""
    for bucket in BUCKETS:
        s3_server.create_bucket(bucket)
    with ray_environment() as environment:
        yield environment


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_run(page: Path) -> None:
    """A page has no code block but programs and commands."""
    text = page.read_text()
    languages = {match[1] for match in FENCE.finditer(text)}
    # tests/deployment/test_manifests.py compares the YAML with what is printed, and
    # tests/monitoring/test_alerts.py has it checked by Prometheus.
    assert languages <= {"python", "console", "yaml"}
    assert len(FENCE.findall(text)) * 2 == text.count("```")


@pytest.mark.ray
@pytest.mark.parametrize(
    "program", [pytest.param(text, id=place) for place, text in blocks("python")]
)
def test_python_examples_run_and_leave_no_file(
    program: str, environment: dict[str, str], s3_server: S3Server, tmp_path: Path
) -> None:
    """Each program succeeds, reaches the buckets that it names, and leaves them empty."""
    if "import ray" in program:
        pytest.importorskip("ray")
    seen = len(s3_server.requests())
    with Program(*arguments_of(program, tmp_path), environment=environment) as running:
        running.output()
    named = set(re.findall(r"(?:s3|counting)://(\S+?)/", program))
    assert named <= asked_buckets(s3_server, seen)
    poll(lambda: not any(map(keys, BUCKETS)), "the buckets to be empty")


def arguments_of(program: str, directory: Path) -> list[str]:
    """Return the arguments of Python that run a program, or a file of tests."""
    if "import pytest" not in program:
        return ["-c", program]
    file = directory / "test_program.py"
    file.write_text(program)
    return ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]


@pytest.mark.parametrize("command", commands(""))
def test_every_command_is_run(command: str) -> None:
    """A test of this file runs the command, or ``.ci/run`` does."""
    if not command.startswith(RUN_HERE):
        assert command.startswith(RUN_BY_CI)
        [run] = [words for words in RUN_BY_CI if command.startswith(words)]
        assert run in (ROOT / ".ci" / "run").read_text()


@pytest.mark.ray
@pytest.mark.parametrize("command", commands("ray start"))
def test_the_ray_start_command_starts_a_validated_head(
    command: str, environment: dict[str, str]
) -> None:
    """The command starts a head that has checked the bucket."""
    pytest.importorskip("ray")
    flags = ["--block", "--port=0", "--include-dashboard=false", "--disable-usage-stats"]
    arguments = [script("ray"), *shlex.split(command)[1:], *flags]
    with Program(*arguments, environment=environment) as head:
        head.expect("Ray runtime started")
        assert processes(environment["RAY_TMPDIR"])
        config = '{"type": "fsspec", "params": {"uri": "s3://my-bucket/spill"}}'
        poll(lambda: config_of_raylet(environment["RAY_TMPDIR"]) == config, "the raylet")


def config_of_raylet(directory: str) -> str | None:
    """Return the spilling configuration in the raylet's session, as Ray itself recorded it."""
    import base64

    for pid in processes(directory):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        for word in words:
            if word.startswith("--config_list="):
                config = json.loads(base64.b64decode(word.partition("=")[2]))
                found: str = config["object_spilling_config"]
                return found
    return None


@pytest.mark.ray
@pytest.mark.parametrize("command", commands("fsspill demo"))
def test_the_demo_command_succeeds(command: str, environment: dict[str, str]) -> None:
    """It exits with 0."""
    pytest.importorskip("ray")
    pytest.importorskip("rich")
    arguments = [script("fsspill"), *shlex.split(command)[1:], "--store-mib", "80"]
    with Program(*arguments, environment=environment) as program:
        program.output()


@pytest.mark.parametrize("command", commands("fsspill ls", "fsspill clean", "fsspill du"))
def test_the_clean_up_commands_leave_the_bucket_unchanged(
    command: str, s3_bucket: str, s3_server: S3Server
) -> None:
    """Each asks the bucket that it names."""
    s3_server.create_bucket("my-bucket")
    seen = len(s3_server.requests())
    assert main(shlex.split(command)[1:]) == 0
    assert asked_buckets(s3_server, seen) == {"my-bucket"}
    assert keys("my-bucket") == []


@pytest.mark.parametrize("command", commands("fsspill inspect"))
def test_the_inspect_commands_find_a_file(
    command: str, s3_bucket: str, s3_server: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the session and the node that they name, whatever it is called."""
    s3_server.create_bucket("my-bucket")
    store = InMemoryObjectStore()
    store.put(b"ref", b"some data")
    names = {"session_name": "session_1", "node_id": "n1"}
    storage = ExternalStorage("s3://my-bucket/spill", object_store=store, **names)  # type: ignore[arg-type]
    [url] = storage.spill_objects([b"ref"])
    base_url, _, parameters = url.decode().partition("?")
    file = base_url.rpartition("/")[2]
    arguments = [
        re.sub(r"FILE\?.*", f"{file}?{parameters}", word).replace("FILE", file)
        for word in shlex.split(command)[1:]
    ]
    assert main(arguments) == 0
    verdict = "right" if "?" in command else "unchecked"
    assert f"0 33 - - {verdict}" in capsys.readouterr().out


def test_every_command_has_a_section() -> None:
    """Of its name, in the order of ``--help``."""
    page = ROOT / "docs" / "commands.md"
    headings = re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)
    assert headings == list(COMMANDS)


@pytest.mark.parametrize("command", commands("fsspill config"))
def test_the_config_command_prints(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the bucket."""
    assert main(shlex.split(command)[1:]) == 0
    assert "s3://my-bucket/spill" in capsys.readouterr().out


@pytest.mark.parametrize("command", commands("fsspill top"))
def test_the_top_command_reads_the_endpoints(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of nodes, by any of the ways to name them."""
    with serve(node()) as place:
        listed = tmp_path / "ray" / "prom_metrics_service_discovery.json"
        listed.parent.mkdir()
        listed.write_text(json.dumps([{"targets": [place]}]))
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        # Addresses of the pages are of other machines.
        monkeypatch.setattr("fsspill.ray.metrics_endpoints.metrics_endpoints", lambda _: [place])
        monkeypatch.setattr("fsspill.cli.top.time.sleep", lambda seconds: None)
        words = [f"http://{place}" if "://" in word else word for word in shlex.split(command)]
        assert main([*words[1:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cluster"]["requests_in_flight"] == 16


@pytest.mark.parametrize("command", commands("fsspill dashboard"))
def test_the_dashboard_command_writes_files(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the directory that it names."""
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[1:]) == 0
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize("command", commands("fsspill check"))
def test_the_check_commands_leave_the_bucket_empty(
    command: str, s3_bucket: str, s3_server: S3Server
) -> None:
    """Each checks the bucket that it names; tests/clusters/test_check.py has a real cluster."""
    s3_server.create_bucket("my-bucket")
    seen = len(s3_server.requests())
    arguments = [word for word in shlex.split(command)[1:] if word != "--cluster"]
    assert main(arguments) == 0
    assert asked_buckets(s3_server, seen) == {"my-bucket"}
    assert keys("my-bucket") == []


@pytest.mark.nightly
@pytest.mark.parametrize("command", commands("fsspill bench"))
def test_the_bench_command_leaves_the_bucket_empty(
    command: str, environment: dict[str, str], s3_server: S3Server, tmp_path: Path
) -> None:
    """It measures the bucket that it names, and writes its chart."""
    pytest.importorskip("ray")
    seen = len(s3_server.requests())
    words = [str(tmp_path / word) if word.endswith(".svg") else word for word in command.split()]
    arguments = [script("fsspill"), *words[1:], "--size", "4MiB", "--seconds", "1"]
    with Program(*arguments, environment=environment) as program:
        assert "To set:" in program.output()
    assert asked_buckets(s3_server, seen) == {"my-bucket"}
    assert keys("my-bucket") == []
    assert ("--plot" in words) == any(tmp_path.iterdir())


@pytest.mark.parametrize("command", commands("python -m"))
def test_the_options_of_a_module(command: str) -> None:
    """The module has the options that the command gives it, and the files that it writes exist."""
    _, _, module, *arguments = shlex.split(command)
    shown = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for argument in arguments:
        if argument.startswith("--"):
            assert argument in shown
        elif argument != ">":
            assert (ROOT / argument).is_file()


def test_the_readme_begins_with_one_line() -> None:
    """Someone with only Python and pip finds what to install and to run first, and the tests."""
    lines = [line for _, block in blocks("console") for line in block.splitlines()]
    assert lines[0] == "pip install '.[all]' && fsspill demo"
    assert "pip install '.[test]' && pytest -n 4" in lines


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_extras_exist(page: Path) -> None:
    """Every extra that a page installs is one of the package."""
    extras = set(importlib.metadata.metadata("fsspill").get_all("Provides-Extra") or [])
    named = re.findall(r"pip install '(?:fsspill|\.)\[([\w,]+)\]'", page.read_text())
    assert {extra for names in named for extra in names.split(",")} <= extras


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_the_links_resolve(page: Path) -> None:
    """Every relative link leads to a file of the repository, and to a heading of it."""
    for target, anchor in links(page):
        assert target.is_file(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


def test_every_page_is_linked() -> None:
    """A reader who begins with the README finds every page."""
    reached = {target for page in PAGES for target, _ in links(page) if target != page}
    assert set(PAGES) <= reached


def links(page: Path) -> list[tuple[Path, str]]:
    """Return the file and the anchor of every relative link of a page."""
    found = [link for link in LINK.findall(FENCE.sub("", page.read_text())) if "://" not in link]
    parts = [link.partition("#") for link in found]
    return [((page.parent / path).resolve() if path else page, anchor) for path, _, anchor in parts]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    assert len(set(kept)) == len(kept), "two headings of the same name"
    return {heading.replace(" ", "-") for heading in kept}


def paths_in_the_architecture() -> list[str]:
    """Return every file and folder that the page on architecture or its picture names."""
    named = re.findall(r"`([^`]+)`", ARCHITECTURE.read_text())
    drawn = re.findall(r">([^<>]+)</text>", ARCHITECTURE.with_suffix(".svg").read_text())
    return sorted({name for name in (*named, *drawn) if PATH.fullmatch(name)})


@pytest.mark.parametrize("path", paths_in_the_architecture())
def test_paths_in_the_architecture_page_exist(path: str) -> None:
    """A file or a folder is in the package or, by its whole path, in the repository."""
    found = [parent / path for parent in (PACKAGE, ROOT) if (parent / path).exists()]
    assert found
    assert all(place.is_dir() == path.endswith("/") for place in found)


def rooms() -> list[str]:
    """Return the first column of the table of folders, from top to bottom."""
    section = ARCHITECTURE.read_text().partition("\n## Folders\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([\w./]+)` \|", section, re.MULTILINE)


def test_the_table_of_folders_is_complete() -> None:
    """It has every folder of the package and every module next to them, once."""
    folders = [f"{file.parent.name}/" for file in PACKAGE.glob("*/__init__.py")]
    modules = [file.name for file in PACKAGE.glob("*.py") if file.name != "__init__.py"]
    assert sorted(rooms()) == sorted(folders + modules)


def test_the_table_of_folders_has_the_order_of_the_layers() -> None:
    """Its rows are the layers that import-linter checks, from top to bottom."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [contract["layers"] for contract in linter["contracts"] if "layers" in contract]
    names = [room.removesuffix("/").removesuffix(".py") for room in rooms()]
    for layer in layers:
        siblings = set(re.findall(r"\w+", layer))
        assert set(names[: len(siblings)]) == siblings
        del names[: len(siblings)]
    assert not names


def test_the_picture_has_every_folder() -> None:
    """The boxes of the picture are the folders of the package, and nothing is missing."""
    drawn = ARCHITECTURE.with_suffix(".svg").read_text()
    for room in rooms():
        assert f">{room}</text>" in drawn
