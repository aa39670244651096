"""Configs to JSON and back: equal round trips, and errors that name the field."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pytest

from nextmove.config import ConfigError, decode, encode, nearest


@dataclass(frozen=True)
class Inner:
    width: int = 3
    rate: float = 0.5


@dataclass(frozen=True)
class Other:
    name: str = "x"


class Built(Protocol):
    def build(self) -> None: ...


@dataclass(frozen=True)
class Outer:
    part: Inner | Other = Inner()
    anything: Any = None
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] = (1, 2.0)
    mode: Literal["fast", "slow"] = "fast"
    maybe: int | None = None
    table: dict[str, int] | None = None
    flag: bool = False
    built: Built | None = None


@pytest.mark.parametrize(
    "value",
    [
        Outer(),
        Outer(part=Other("y"), anything=Inner(7), sizes=(), mode="slow", maybe=4, table={"a": 1}, flag=True),
        Outer(anything=[1, "two"]),
    ],
)
def test_round_trip_through_json(value: Outer) -> None:
    found = decode(Outer, json.loads(json.dumps(encode(value))), parts=[Inner])
    assert found == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widht": 1}, "unknown key 'widht'"),
        ({"part": {"kind": "Iner"}}, "part.kind: expected one of .*did you mean 'Inner'"),
        ({"part": {"kind": "Inner", "widht": 2}}, "Outer.part: unknown key 'widht', did you mean 'width'"),
        ({"part": {"kind": "Inner", "width": "wide"}}, "Outer.part.width: expected int, found 'wide'"),
        ({"mode": "fats"}, "Outer.mode: expected one of 'fast', 'slow'; found 'fats', did you mean 'fast'"),
        ({"sizes": [1, "a"]}, r"Outer.sizes\[1\]: expected int"),
        ({"pair": [1]}, "Outer.pair: expected 2 entries, found 1"),
        ({"maybe": True}, "Outer.maybe: expected int, found True"),
        ({"anything": {"kind": "os.system"}}, "anything.kind: expected one of"),
        ({"built": "inner"}, "Outer.built: expected an object whose 'kind' names a part, found 'inner'"),
        ({"built": {"width": 4}}, "Outer.built: expected an object whose 'kind' names a part, found {'width': 4}"),
    ],
)
def test_errors_name_the_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decode(Outer, {**encode(Outer()), **change}, parts=[Inner])


def test_missing_key() -> None:
    @dataclass(frozen=True)
    class Needs:
        width: int

    with pytest.raises(ConfigError, match="missing key 'width'"):
        decode(Needs, {})


def test_an_integer_may_stand_for_a_float_but_not_the_reverse() -> None:
    assert decode(Inner, {"rate": 1}).rate == 1.0
    with pytest.raises(ConfigError, match=r"width: expected int, found 1\.5"):
        decode(Inner, {"width": 1.5})


def test_nearest() -> None:
    assert nearest("flwo", ["flow", "diffusion"]) == ", did you mean 'flow'?"
    assert nearest("zzz", ["flow"]) == ""
