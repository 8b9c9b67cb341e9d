"""The announcement of a node to the head of its cluster."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

import fsspill
from fsspill.ray.announcement import announce, key_of


@pytest.mark.parametrize(
    ("variables", "of_raylet", "announced"),
    [
        (None, None, True),
        ("0", None, False),
        (None, {"FSSPILL_HOOK": "0"}, False),
        ("0", {"FSSPILL_HOOK": "1"}, True),
        (None, {"OTHER": "0"}, True),
    ],
)
def test_a_node_whose_io_workers_have_no_hook_is_not_announced(
    monkeypatch: pytest.MonkeyPatch,
    variables: str | None,
    of_raylet: dict[str, str] | None,
    announced: bool,
) -> None:
    """Ray's cluster_utils starts raylets in another environment than that of the program."""
    if variables:
        monkeypatch.setenv("FSSPILL_HOOK", variables)
    written: dict[bytes, bytes] = {}
    client = SimpleNamespace(
        internal_kv_put=lambda key, value, *rest, **options: written.update({key: value})
    )
    params = SimpleNamespace(env_vars=of_raylet)
    node = SimpleNamespace(node_id="aa", get_gcs_client=lambda: client, _ray_params=params)
    announce(node)
    assert written == ({key_of("aa"): fsspill.__version__.encode()} if announced else {})
