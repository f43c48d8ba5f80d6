"""RFC 9562 §5.7 and §6.2, method 3."""

import time
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

import pytest

from src.framework.sql.uuid7 import instant, next_tick, uuid7


def test_an_id_has_the_fields_of_the_standard() -> None:
    milliseconds = 0x017F22E279B0  # the standard's own example, appendix A.6

    made = uuid7(milliseconds << 12 | 0xCC3)

    assert made.version == 7
    assert made.variant == RFC_4122
    assert str(made).startswith("017f22e2-79b0-7cc3-")
    assert instant(milliseconds << 12) == datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


def test_consecutive_ids_are_ordered_and_different() -> None:
    ids = [uuid7(next_tick()) for _ in range(10_000)]

    assert ids == sorted(set(ids))
    assert {(made.version, made.variant) for made in ids} == {(7, RFC_4122)}


def test_each_of_the_62_random_bits_is_0_and_1() -> None:
    ids = [uuid7(0).int for _ in range(1000)]
    ever, always = 0, (1 << 62) - 1
    for each in ids:
        ever, always = ever | each, always & each

    assert ever & ((1 << 62) - 1) == (1 << 62) - 1
    assert always == 0


def test_a_tick_is_the_present_time() -> None:
    before = datetime.now(UTC)
    tick = next_tick()
    after = datetime.now(UTC)

    assert before - timedelta(milliseconds=1) <= instant(tick) <= after + timedelta(milliseconds=3)


def test_the_order_survives_a_clock_that_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = next_tick()
    an_hour_ago = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: an_hour_ago)

    assert next_tick() > before


def test_ids_follow_a_clock_that_is_set_back_by_more_than_two_hours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticks = next_tick()
    two_hours_ago = instant(ticks) - timedelta(hours=2)

    for milliseconds, is_followed in [(1, False), (-1, True)]:
        now = two_hours_ago + timedelta(milliseconds=milliseconds)
        monkeypatch.setattr(time, "time_ns", lambda now=now: int(now.timestamp() * 10**9))

        assert (next_tick() < ticks) == is_followed


def test_ids_follow_a_clock_that_comes_back_from_a_jump_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_2099 = time.time_ns() + 73 * 365 * 86400 * 10**9
    with monkeypatch.context() as jumped:
        jumped.setattr(time, "time_ns", lambda: in_2099)
        next_tick()

    assert instant(next_tick()) - datetime.now(UTC) < timedelta(seconds=1)


def test_ids_of_one_tick_differ() -> None:
    assert uuid7(1) != uuid7(1)
