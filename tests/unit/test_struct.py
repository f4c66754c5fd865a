"""Frozen dataclasses that compile and import nothing."""

from __future__ import annotations

import dataclasses

import pytest

from otelagent.struct import struct


@struct(frozen=True)
class Point:
    """A place."""

    x: int
    y: int = 0


@struct(frozen=True, kw_only=True)
class Named:
    """A place with a name."""

    name: str
    place: Point = Point(1)


def test_made_by_position_and_by_name() -> None:
    assert Point(1) == Point(1, 0) == Point(x=1, y=0) == Point(1, y=0)
    assert Named(name="a") == Named(name="a", place=Point(1, 0))
    assert repr(Named(name="a", place=Point(1, 2))) == "Named(name='a', place=Point(x=1, y=2))"


@pytest.mark.parametrize(
    ("args", "keywords", "said"),
    [
        ((), {}, r"fields \['x'\] missing or unknown"),
        ((1, 2, 3), {}, "at most 2 positional values"),
        ((1,), {"x": 1}, r"fields \['x'\] given twice"),
        ((1,), {"z": 1}, r"fields \['z'\] missing or unknown"),
    ],
)
def test_made_wrongly(args: tuple[int, ...], keywords: dict[str, int], said: str) -> None:
    with pytest.raises(TypeError, match=f"Point: {said}"):
        Point(*args, **keywords)


def test_keywords_only() -> None:
    with pytest.raises(TypeError, match="Named: at most 0 positional values"):
        Named("a")  # type: ignore[call-arg]


def test_compared_and_hashed_by_value_within_a_class() -> None:
    assert Point(1, 2) != Point(2, 1)
    assert Point(1, 2) != object()
    assert len({Point(1, 2), Point(1, 2), Point(2, 1)}) == 2


def test_frozen() -> None:
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.x
    assert point == Point(1)


def test_dataclasses_functions_take_it() -> None:
    assert dataclasses.is_dataclass(Point)
    assert [field.name for field in dataclasses.fields(Point)] == ["x", "y"]
    assert dataclasses.replace(Point(1, 2), y=3) == Point(1, 3)
    assert dataclasses.asdict(Named(name="a")) == {"name": "a", "place": {"x": 1, "y": 0}}


def test_matched_by_position() -> None:
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)
