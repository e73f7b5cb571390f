"""The treemap: areas in proportion, nothing overlaps, every file is named, and it is XML."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsbuild.api import FileEntry, Manifest
from lsbuild.treemap import Box, squarified, svg
from lsbuild_runtime.manifest import Server

SIZES = st.lists(st.integers(1, 10**9), min_size=1, max_size=40).map(lambda sizes: sorted(sizes, reverse=True))


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(SIZES, st.floats(10, 2000), st.floats(10, 2000))
def test_areas_are_in_proportion_and_lie_inside(sizes: list[int], width: float, height: float) -> None:
    boxes = squarified(sizes, Box(5, 7, width, height))
    scale = width * height / sum(sizes)
    assert len(boxes) == len(sizes)
    for size, box in zip(sizes, boxes, strict=True):
        assert abs(box.width * box.height - size * scale) < 1e-6 * width * height + 1e-9
        assert box.x >= 5 - 1e-6
        assert box.y >= 7 - 1e-6
        assert box.x + box.width <= 5 + width + 1e-3
        assert box.y + box.height <= 7 + height + 1e-3


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(SIZES)
def test_no_two_boxes_overlap(sizes: list[int]) -> None:
    boxes = squarified(sizes, Box(0, 0, 1000, 600))
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert min(across, down) < 1e-3


def test_equal_sizes_in_a_square_are_squares() -> None:
    assert {(round(box.width), round(box.height)) for box in squarified([1, 1, 1, 1], Box(0, 0, 100, 100))} == {
        (50, 50)
    }


def test_every_file_with_bytes_is_a_rectangle_with_its_name() -> None:
    files = tuple(
        FileEntry(path=path, sha256="", size=size, part="model", component=component)
        for path, size, component in (
            ("models/<chat>/a.bin", 900, "chat"),
            ("site/x.py", 50, ""),
            ("site/empty.py", 0, ""),
        )
    )
    manifest = Manifest(
        schema=1, name="n&m", lsbuild="0", target="host", platform="p", services=(), server=Server(), files=files
    )
    drawn = ElementTree.fromstring(svg(manifest))  # noqa: S314 - our own
    titles = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "n&m for p, 0.0 MB unpacked"
    assert titles[1:] == ["models/<chat>/a.bin: 0.00 MB", "site/x.py: 0.00 MB"]


def test_wheels_are_grouped_by_distribution_and_small_ones_together() -> None:
    sizes = {
        "site/numpy/core.so": 600,
        "site/numpy.libs/blas.so": 300,
        "site/numpy-2.4.0.dist-info/METADATA": 20,
        "site/tiny/a.py": 3,
        "site/six.py": 4,
        "models/chat/model.onnx": 500,
    }
    files = tuple(
        FileEntry(path=path, sha256="", size=size, part="wheels" if path.startswith("site") else "model", component="")
        for path, size in sizes.items()
    )
    manifest = Manifest(
        schema=1, name="n", lsbuild="0", target="host", platform="p", services=(), server=Server(), files=files
    )
    drawn = ElementTree.fromstring(svg(manifest))  # noqa: S314 - our own
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    bold = {str(text).partition(",")[0] for text in texts if "," in str(text)}
    assert {"wheels: numpy", "model"} <= bold
    assert "wheels: six" not in bold
