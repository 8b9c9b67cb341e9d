"""``fsspill config``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fsspill.cli.main import main
from fsspill.deployment.forms import FORMS


def test_all_forms_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """One after another, each below its title."""
    assert main(["config", "s3://bucket/x"]) == 0
    captured = capsys.readouterr()
    titles = [line for line in captured.out.splitlines() if line.startswith("# ----")]
    assert [title.split("--for ")[1].split(")")[0] for title in titles] == list(FORMS)
    assert captured.err == ""


@pytest.mark.parametrize("form", FORMS)
def test_one_form_can_be_pasted(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no title, and its JSON has nothing else."""
    assert main(["config", "s3://bucket/x", "--for", form]) == 0
    assert "# ----" not in capsys.readouterr().out
    assert main(["config", "s3://bucket/x", "--for", form, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == [form]


@pytest.mark.parametrize(
    ("size", "workers"), [("1MiB", "8"), ("4 MiB", "8"), ("20MB", "4"), ("100k", "8")]
)
def test_sizes_have_units(size: str, workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two and of ten."""
    command = ["config", "s3://bucket/x", "--for", "env", "--json", "--object-size", size]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["env"]["RAY_max_io_workers"] == workers


def test_copies_are_for_pods_alone_unless_a_directory_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A size needs no directory there, and is refused where one is missing."""
    assert main(["config", "s3://bucket/x", "--cache-max-bytes", "5GiB", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "FSSPILL_CACHE_DIR" not in found["env"]
    assert '"5368709120"' in json.dumps(found["kuberay"])
    assert main(["config", "s3://bucket/x", "--cache-max-bytes", "5GiB", "--for", "env"]) == 1
    assert "without cache_dir" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["s3:/bucket"], 1, "Did you mean 's3://bucket'?"),
        (["memory://x"], 1, "expected storage that all processes share"),
        (["s3://b", "--object-size", "big"], 2, "expected a number and a unit"),
        (["s3://b", "--for", "docker"], 2, "'docker' is not one of"),
        ([], 2, "Usage: fsspill config"),
    ],
)
def test_mistakes_are_explained(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the error output, without any of the configuration."""
    assert main(["config", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


def test_no_request_is_made_and_no_ray_is_imported() -> None:
    """A bucket that does not exist, without Ray."""
    program = (
        "import socket, sys\n"
        "def refuse(*args): raise AssertionError('a connection')\n"
        "socket.socket.connect = refuse\n"
        "from fsspill.cli.main import main\n"
        "code = main(['config', 's3://no-such-bucket-0123/x'])\n"
        "sys.exit(code or 'ray' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
