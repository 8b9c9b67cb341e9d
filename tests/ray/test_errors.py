"""The error of an object that is lost."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

pytest.importorskip("ray")

import ray.cloudpickle
import ray.exceptions

import fsspill.ray
from fsspill import FsspillError

ERROR = fsspill.ray.SpilledObjectLostError("0a" * 28, "s3://b/f", "The bucket is gone.")


def test_the_error_belongs_to_both_ray_and_fsspill() -> None:
    """Handlers of either catch it."""
    assert isinstance(ERROR, ray.exceptions.ObjectLostError)
    assert isinstance(ERROR, FsspillError)


def test_the_message_names_object_url_and_reason() -> None:
    """It also tells what to do, in place of Ray's fixed text."""
    for part in ("0a" * 28, "s3://b/f", "The bucket is gone.", "Create it again"):
        assert part in str(ERROR)


def test_the_reason_shows_no_secret() -> None:
    """It comes from an exception, or from a record of another process."""
    error = fsspill.ray.SpilledObjectLostError("0a" * 28, "s3://b/f", "at https://h/c?sig=hunter2")
    assert error.reason == "at https://h/c?sig=***"
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("pickler", [pickle, ray.cloudpickle])
def test_it_is_pickled_by_its_public_name(pickler: object) -> None:
    """Ray carries it across processes, which find the class where users import it from."""
    data = pickler.dumps(ERROR)  # type: ignore[attr-defined]
    assert b"fsspill.ray" in data
    assert b"fsspill.ray.errors" not in data
    again = pickle.loads(data)
    assert type(again) is fsspill.ray.SpilledObjectLostError
    assert (again.object_ref_hex, again.url, again.reason) == ("0a" * 28, "s3://b/f", ERROR.reason)
    assert str(again) == str(ERROR)


def test_another_process_unpickles_the_error() -> None:
    """The process has imported nothing of fsspill before."""
    text = "import pickle, sys; print(pickle.load(sys.stdin.buffer))"
    printed = subprocess.check_output([sys.executable, "-c", text], input=pickle.dumps(ERROR))
    assert printed.decode().strip() == str(ERROR)


def test_the_public_names_of_fsspill_ray() -> None:
    """`__all__` holds the names that exist, and no other name is made up."""
    assert fsspill.ray.__all__ == ["SpilledObjectLostError", "install", "is_installed"]
    assert {*fsspill.ray.__all__} <= {*dir(fsspill.ray)}
    assert all(hasattr(fsspill.ray, name) for name in fsspill.ray.__all__)
    assert fsspill.ray.SpilledObjectLostError.__module__ == "fsspill.ray"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        fsspill.ray.nonsense  # noqa: B018
