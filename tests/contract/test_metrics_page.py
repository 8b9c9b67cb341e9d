"""``docs/metrics.md`` has what the code counts."""

from __future__ import annotations

import re

from fsspill.metrics import METRICS
from fsspill.storage import meter
from tests.contract.test_docs import ROOT

PAGE = (ROOT / "docs" / "metrics.md").read_text()


def test_the_table_is_that_of_the_code() -> None:
    """Each metric with its type, unit, labels and meaning, in the same order."""
    rows = re.findall(r"^\| `(fsspill_\w+)` \| (.*) \|$", PAGE, re.MULTILINE)
    expected = [
        (name, f"{row.kind} | {row.unit} | {', '.join(f'`{each}`' for each in row.labels)} | "
         f"{row.description}")
        for name, row in METRICS.items()
    ]  # fmt: skip
    assert rows == expected


def test_every_label_and_operation_is_explained() -> None:
    """Those of the table, and of the requests of all filesystems."""
    labels = {label for row in METRICS.values() for label in row.labels}
    operations = {*meter._OPERATIONS.values(), *meter._S3_OPERATIONS.values()}
    assert labels == set(
        re.findall(r"^\| `(\w+)` \| (?!counter|gauge|histogram)", PAGE, re.MULTILINE)
    )
    assert all(f"`{operation}`" in PAGE for operation in operations)
