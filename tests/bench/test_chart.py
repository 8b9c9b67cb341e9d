"""Charts of speeds."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fsspill import ConfigError
from fsspill.bench.chart import Panel, check_chart, draw, shown_speed, write_chart
from fsspill.errors import MissingPackageError

BARS = [("fsspill", 300.0), ("engine=<x>", 150.0), ("Ray's own", 75.0)]
PANELS = [Panel("spill", BARS), Panel("restore", BARS), Panel("spill small", BARS[:1])]


def test_bars_are_proportional_to_speed() -> None:
    """In panels by rows of two, with every name and number."""
    root = ElementTree.fromstring(draw(PANELS, "s3://bucket"))
    bars = root.findall("{*}rect")
    widths = [int(bar.attrib["width"]) for bar in bars]
    assert widths == [*2 * [widths[0], widths[0] // 2, widths[0] // 4], widths[0]]
    assert [bar.attrib["x"] for bar in bars[:6:3]] != [bars[0].attrib["x"]] * 2
    texts = [text.text for text in root.findall("{*}text")]
    assert {"spill", "restore", "engine=<x>", "150", "75", "MiB/s, s3://bucket"} <= set(texts)


@pytest.mark.parametrize(("speed", "shown"), [(1234.5, "1,234"), (10, "10"), (9.96, "10.0")])
def test_speeds_have_two_digits_or_more(speed: float, shown: str) -> None:
    """Without decimals where they say nothing."""
    assert shown_speed(speed) == shown


@pytest.mark.parametrize(("name", "begin"), [("x.svg", b"<svg"), ("x.png", b"\x89PNG")])
def test_the_name_of_the_file_has_the_format(name: str, begin: bytes, tmp_path: Path) -> None:
    """SVG needs no package."""
    if not name.endswith(".svg"):
        pytest.importorskip("matplotlib")
    path = tmp_path / name
    check_chart(str(path))
    write_chart(str(path), PANELS, "s3://bucket")
    assert path.read_bytes().startswith(begin)


def test_a_format_that_needs_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has both ways out, before anything is measured."""
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r"ends with \.svg, or the package matplotlib"):
        check_chart(str(tmp_path / "x.png"))
    check_chart(str(tmp_path / "x.svg"))


@pytest.mark.parametrize("name", ["missing/x.svg", "missing/x.png"])
def test_a_directory_that_does_not_exist(name: str, tmp_path: Path) -> None:
    """Before anything is measured."""
    with pytest.raises(ConfigError, match="that exists"):
        check_chart(str(tmp_path / name))


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """A directory of that name, or a format that nobody knows."""
    (tmp_path / "x.svg").mkdir()
    with pytest.raises(ConfigError, match="cannot write a chart"):
        write_chart(str(tmp_path / "x.svg"), PANELS, "")
    pytest.importorskip("matplotlib")
    with pytest.raises(ConfigError, match="cannot write a chart"):
        write_chart(str(tmp_path / "x.abc"), PANELS, "")
