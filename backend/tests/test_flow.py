"""How fast a connection reads and writes."""

import asyncio
from typing import Any

import pytest

from src.framework.server.flow import Flow


class Transport:
    """As much of a transport as Flow needs."""

    def __init__(self) -> None:
        self.unsent = 0
        self.calls: list[str] = []
        self.closing = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


def flow_of(transport: Any) -> Flow:  # noqa: ANN401 - as much of one as Flow needs
    return Flow(transport, [], lambda: transport.calls.append("parse"))


@pytest.mark.parametrize("taken", [0, 1])
def test_a_peers_time_begins_with_the_first_look(taken: int) -> None:
    transport = Transport()
    flow = flow_of(transport)
    flow.sent, transport.unsent = 5 + taken, 5

    assert [flow.stands_still(now, 30) for now in (1000, 1030, 1031)] == [False, False, True]


def test_a_peers_time_begins_again_when_the_peer_takes_a_byte_or_has_taken_all() -> None:
    transport = Transport()
    flow = flow_of(transport)
    flow.sent = 5
    for now, unsent in [(1000, 5), (1031, 4), (1062, 0), (1093, 0)]:
        transport.unsent = unsent
        assert not flow.stands_still(now, 30)


def test_more_data_gives_no_more_time_to_a_peer_that_takes_none() -> None:
    transport = Transport()
    flow = flow_of(transport)
    stands = []
    for now, sent in [(1000, 5), (1031, 6)]:
        flow.sent = transport.unsent = sent
        stands.append(flow.stands_still(now, 30))

    assert stands == [False, True]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("closing", "calls"), [(False, ["pause", "parse", "resume"]), (True, ["pause"])]
)
async def test_bytes_from_before_a_pause_are_parsed_unless_the_connection_ends(
    *, closing: bool, calls: list[str]
) -> None:
    transport = Transport()
    flow = flow_of(transport)

    flow.pause_reading()
    flow.resume_reading()
    transport.closing = closing
    await asyncio.sleep(0)

    assert transport.calls == calls
