"""The command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fsspill
from fsspill.cli.main import COMMANDS, main
from fsspill.demo import Report

COMMANDS_PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
FSSPILL = os.path.join(os.path.dirname(sys.executable), "fsspill")


@pytest.mark.parametrize(
    ("report", "succeeded"),
    [
        (Report("u", files_written=1), True),
        (Report("u", files_written=1, corrupted=1), False),
        (Report("u", files_written=1, files_left=1), False),
        (Report("u", files_written=0), False),
    ],
)
def test_the_exit_code_is_1_unless_the_demo_succeeded(
    report: Report, succeeded: bool, monkeypatch: pytest.MonkeyPatch, capsys: object
) -> None:
    """1 if an object was corrupted, a file was left, or nothing was spilled at all."""
    monkeypatch.setattr("fsspill.cli.demo.run", lambda *args, **kwargs: report)
    assert main(["demo"]) == (0 if succeeded else 1)


def test_a_missing_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Ray the message of the demo is what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["demo"]) == 1
    assert 'pip install "fsspill[ray]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--store-mib", "10"],
        ["demo", "--s3", "x"],
        ["ls"],
        ["clean"],
        ["clean", "file:///x", "--older-than", "5"],
        ["clean", "file:///x", "--older-than", "-5h"],
        ["ls", "file:///x", "--older-than", "1w"],
        [],
    ],
)
def test_invalid_arguments_print_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Usage: fsspill")


def test_a_mistyped_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """With the one that was meant; the exit code is 2."""
    assert main(["lss", "file:///x"]) == 2
    assert "No such command 'lss'. Did you mean 'ls'?" in capsys.readouterr().err
    assert main(["something"]) == 2
    assert "No such command 'something'." in capsys.readouterr().err


def test_no_arguments_are_answered_with_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """It names every command."""
    assert main([]) == 2
    shown = capsys.readouterr().err
    assert all(f"\n  {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the command itself."""
    assert main([command, "--help"]) == 0
    examples = capsys.readouterr().out.partition("Examples:\n")[2].splitlines()
    assert examples
    assert all(line.split()[:2] == ["fsspill", command] for line in examples)


def test_a_command_imports_only_its_own_module() -> None:
    """One that fails to import harms no other, and ``ls`` needs nothing of the demo's."""
    program = "import sys; from fsspill.cli.main import main; main(['ls', '--help']); " + (
        "print(sorted(name for name in sys.modules if name.startswith('fsspill.cli.')))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    imported = printed.stdout.splitlines()[-1]
    assert "fsspill.cli.ls" in imported
    assert "fsspill.cli.demo" not in imported
    assert "fsspill.cli.clean" not in imported


@pytest.mark.parametrize("command", ["ls", "clean"])
def test_a_missing_bucket_is_reported_in_one_line(
    s3_bucket: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, and exit code 1."""
    assert main([command, "s3://no-such-bucket/x"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("fsspill: cannot list s3://no-such-bucket/x")


def test_the_version_is_printed() -> None:
    """The command is installed."""
    printed = subprocess.run([FSSPILL, "--version"], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == f"fsspill {fsspill.__version__}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the line that the page on the commands has for it."""
    if shell == "bash" and not shutil.which("bash"):
        pytest.skip("click asks bash for its version")
    variable, value = "_FSSPILL_COMPLETE", f"{shell}_source"
    assert f"{variable}={value} fsspill" in COMMANDS_PAGE.read_text()
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 0
    assert "fsspill" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "found"), [("fsspill i", "inspect"), ("fsspill ls --o", "--older-than")]
)
def test_commands_and_options_are_completed(
    words: str, found: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As bash asks for it."""
    monkeypatch.setenv("_FSSPILL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    with pytest.raises(SystemExit):
        main([])
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [f"plain,{found}"]
    assert captured.err == ""
