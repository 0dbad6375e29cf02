"""One connection of a gateway's port, fed byte by byte, without a network."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrace.node.gateway.deadlines import Deadlines
from sealtrace.node.gateway.heads import (
    MAX_HEAD_BYTES,
    MAX_RECENT,
    NUMBER_DIGITS,
    Head,
    HeadReader,
    MalformedHead,
    reply_length,
)
from sealtrace.node.gateway.listening import DONE, MAX_OWED, SCRATCH_BYTES, Connection, Port
from sealtrace.node.gateway.wire import Code, Refused, decode

MESSAGE = 100_000


class Line:
    """A transport that remembers what was written, and whether it reads."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.reads, self.open = True, True

    def write(self, data) -> None:
        self.written += data

    def writelines(self, parts) -> None:
        self.written += b"".join(parts)

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def get_extra_info(self, name: str) -> None:
        return None

    def close(self) -> None:
        self.open = False

    abort = close


class Echo:
    """Answers each body with itself, at once or when told to; refuses the path /no."""

    lasting = True

    def __init__(self, *, at_once: bool = True) -> None:
        self.at_once = at_once
        self.waiting: list[tuple[Any, bytes]] = []
        self.complaints: list[str] = []
        self.judged = self.cancelled = 0

    def judge(self, head, caller):
        self.judged += 1
        if head.form.path == "/no":
            raise Refused(Code.FORBIDDEN, "no")
        return self

    def refusal(self, head, refused):
        return refused

    def broken(self, caller, why) -> None:
        self.complaints.append(why)

    def take(self, head, body, answer):
        if self.at_once:
            answer(bytes(body))
            return None
        self.waiting.append((answer, bytes(body)))

        def cancel() -> None:
            self.cancelled += 1

        return cancel


def joined(service: Echo, *, arriving: int = 10 * MESSAGE, stall_s: float = 5.0, hold_s: float = 0.0):
    port = Port(service, MESSAGE, arriving, stall_s, hold_s)
    connection, line = port.connection(), Line()
    connection.connection_made(line)
    return connection, line


def feed(connection: Connection, data: bytes, piece: int = 1 << 20) -> None:
    """What the event loop does, ``piece`` bytes at once."""
    while data:
        room = connection.get_buffer(-1)
        count = min(len(room), len(data), piece)
        assert count, "the connection should have stopped reading"
        room[:count] = data[:count]
        data = data[count:]
        connection.buffer_updated(count)


def request(body: bytes, path: str = "/echo", extra: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def answers(line: Line) -> list:
    found, rest = [], bytes(line.written)
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        length = reply_length(head + b"\r\n\r\n")
        found.append(decode(rest[:length]))
        rest = rest[length:]
    return found


def on_loop(story) -> Any:
    async def run() -> Any:
        return await story() if asyncio.iscoroutinefunction(story) else story()

    return asyncio.run(run())


@settings(deadline=None, max_examples=40)  # how long a byte at a time takes says nothing
@given(
    st.lists(st.integers(0, 70_000), min_size=1, max_size=4),
    st.integers(1, SCRATCH_BYTES),
)
def test_requests_are_answered_in_order_however_their_bytes_arrive(lengths, piece):
    bodies = [bytes([number]) * length for number, length in enumerate(lengths)]

    def story():
        connection, line = joined(Echo())
        feed(connection, b"".join(map(request, bodies)), piece)
        return answers(line)

    assert [each.payload for each in on_loop(story)] == bodies


def test_requests_of_one_form_are_judged_once():
    def story():
        service = Echo()
        connection, _ = joined(service)
        for size in range(5):
            feed(connection, request(bytes(size)))
        feed(connection, request(b"", path="/other"))
        return service.judged

    assert on_loop(story) == 2


def test_a_refused_body_passes_by_without_being_kept():
    def story():
        connection, line = joined(Echo())
        feed(connection, request(bytes(90_000), path="/no") + request(b"next"))
        return answers(line)

    refused, taken = on_loop(story)
    assert (refused.code, refused.message, taken.payload) == (Code.FORBIDDEN, "no", b"next")


def test_a_body_over_the_limit_is_refused_before_memory_is_taken():
    def story():
        service = Echo()
        connection, line = joined(service)
        feed(connection, request(bytes(MESSAGE + 1)))
        return service.judged, answers(line)[0].code

    assert on_loop(story) == (0, Code.MESSAGE)


def test_one_caller_has_only_so_much_arriving_at_once():
    def story():
        port = Port(Echo(), MESSAGE, MESSAGE, 5.0)
        first, second = port.connection(), port.connection()
        lines = Line(), Line()
        first.connection_made(lines[0])
        second.connection_made(lines[1])
        feed(first, request(bytes(80_000))[:-1])
        feed(second, request(bytes(80_000)))
        first.connection_lost(None)
        feed(second, request(bytes(80_000)))
        return [each.code for each in answers(lines[1])], port.arriving

    codes, held = on_loop(story)
    assert codes == [Code.QUEUE_FULL, Code.OK]
    assert not held


def test_an_asker_that_does_not_wait_for_answers_is_read_no_further():
    def story():
        service = Echo(at_once=False)
        connection, line = joined(service)
        feed(connection, request(b"first"))
        feed(connection, request(bytes(SCRATCH_BYTES))[:SCRATCH_BYTES])
        assert not line.reads
        service.waiting[0][0](b"done")
        return line.reads, len(service.waiting)

    assert on_loop(story) == (True, 1)


def test_who_hangs_up_is_waited_for_no_longer():
    def story():
        service = Echo(at_once=False)
        connection, line = joined(service)
        feed(connection, request(b"question"))
        connection.connection_lost(None)
        service.waiting[0][0](b"too late")
        return service.cancelled, bytes(line.written)

    assert on_loop(story) == (1, b"")


def test_who_stops_in_the_middle_of_a_message_is_hung_up_on():
    async def story():
        connection, line = joined(Echo(), stall_s=0.05)
        feed(connection, request(bytes(70_000))[:-1])
        await asyncio.sleep(0.2)
        return line.open

    assert on_loop(story) is False


def test_a_limit_runs_out_unless_it_is_taken_back():
    async def story():
        over: list[str] = []
        limits = Deadlines()
        limits.later("kept", 30, lambda: over.append("kept"))
        limits.later("back", 0.01, lambda: over.append("back"))
        limits.later("out", 0.01, lambda: over.append("out"))
        limits.back("back")
        await asyncio.sleep(0.3)
        return over

    assert on_loop(story) == ["out"]


def test_who_asks_nothing_is_left_alone():
    async def story():
        connection, line = joined(Echo(), stall_s=0.05)
        feed(connection, request(b"x"))
        await asyncio.sleep(0.2)
        return line.open

    assert on_loop(story) is True


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"POST /echo HTTP/2\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 9999999999999\r\n\r\n",
        b"POST /no HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"x" * MAX_HEAD_BYTES,
    ],
)
def test_what_is_no_request_is_answered_by_name_and_hung_up_on(garbage):
    def story():
        service = Echo()
        connection, line = joined(service)
        feed(connection, garbage)
        return line, service.complaints

    line, complaints = on_loop(story)
    assert line.written.startswith(b"HTTP/1.1 400 ")
    assert not line.open
    assert len(complaints) == 1


NOTHING = request(b"")  # Echo answers it as a gateway acknowledges a message


def test_acknowledgements_are_held_a_while_and_written_together():
    async def story():
        connection, line = joined(Echo(), hold_s=0.01)
        feed(connection, NOTHING)
        feed(connection, NOTHING)
        at_once = bytes(line.written)
        await asyncio.sleep(0.05)
        return at_once, bytes(line.written)

    assert on_loop(story) == (b"", DONE * 2)


def test_many_acknowledgements_are_not_held():
    def story():
        connection, line = joined(Echo(), hold_s=60.0)
        feed(connection, NOTHING * (MAX_OWED - 1))
        before = bytes(line.written)
        feed(connection, NOTHING)
        return before, bytes(line.written)

    assert on_loop(story) == (b"", DONE * MAX_OWED)


def test_the_acknowledgement_of_a_large_message_is_not_held():
    class Mute(Echo):
        def take(self, head, body, answer):
            answer(b"")

    def story():
        connection, line = joined(Mute(), hold_s=60.0)
        feed(connection, NOTHING + request(bytes(SCRATCH_BYTES)))
        return bytes(line.written)

    assert on_loop(story) == DONE * 2


def test_an_answer_does_not_overtake_acknowledgements_that_are_held():
    def story():
        connection, line = joined(Echo(), hold_s=60.0)
        feed(connection, NOTHING + request(b"", "/no") + NOTHING)
        connection.abort()
        return [each.code for each in answers(line)]

    assert on_loop(story) == [Code.OK, Code.FORBIDDEN]


def test_acknowledgements_held_for_a_connection_that_is_lost_are_forgotten():
    async def story():
        connection, line = joined(Echo(), hold_s=0.01)
        feed(connection, NOTHING)
        connection.connection_lost(None)
        await asyncio.sleep(0.05)
        return bytes(line.written)

    assert on_loop(story) == b""


@given(st.binary(max_size=600))
def test_any_bytes_are_a_head_or_refused_by_name(data):
    reader = HeadReader()
    try:
        head = reader.read(data + b"\r\n\r\n")
    except MalformedHead:
        return
    assert head.form.method in ("GET", "POST", "DELETE")


def test_the_usual_head_reads_as_any_other():
    usual = b"POST /a?b=c HTTP/1.1\r\nx-sealtrace-sequence: 7\r\nContent-Length: 5\r\nOne: 1\r\n\r\n"
    other = b"POST /a?b=c HTTP/1.1\r\nOne: 1\r\nContent-Length: 5\r\nx-sealtrace-sequence: 7\r\n\r\n"
    first, second = HeadReader().read(usual), HeadReader().read(other)
    assert (first.length, first.number) == (second.length, second.number) == (5, 7)
    assert (first.form.path, first.form.query) == (second.form.path, second.form.query) == ("/a", {"b": "c"})
    assert first.form.headers["one"] == second.form.headers["one"] == "1"


PIECES = st.binary(max_size=12)


def usual(length: int, number: int | None = None, digits: int = NUMBER_DIGITS) -> bytes:
    """A head as a peer sends it, or as an engine does where it has no number."""
    last = f"x-sealtrace-sequence: {number:0{digits}}\r\n" if number is not None else ""
    return f"POST /a HTTP/1.1\r\nContent-Length: {length}\r\nOne: 1\r\n{last}\r\n".encode()


@given(st.integers(0, 10**NUMBER_DIGITS - 1), st.integers(0, 9), PIECES, PIECES)
def test_a_head_that_repeats_another_but_for_its_number_is_found_as_it_would_be_read(number, at, cut, rest):
    reader, lengths = HeadReader(), range(10)
    forms = {reader.read(usual(length, 1)).form for length in lengths}
    assert len(forms) == 1
    second = usual(at, number)
    data = bytearray(cut + second + rest)
    found = reader.again(data, len(cut), len(data))
    if found is None:
        assert at < len(lengths) - MAX_RECENT  # the oldest are read once more
    else:
        assert found == (Head(*forms, at, number), len(cut + second))


@pytest.mark.parametrize("digits", [NUMBER_DIGITS - 1, NUMBER_DIGITS + 1])
def test_a_number_of_another_width_is_read_the_long_way(digits):
    reader = HeadReader()
    reader.read(usual(5, 1))
    other = usual(5, 2, digits)
    assert reader.again(bytearray(other), 0, len(other)) is None
    assert reader.read(other).number == (2 if digits < NUMBER_DIGITS else None)


@given(st.data(), st.sampled_from([None, 7]))
def test_a_head_that_is_not_all_there_or_differs_in_a_byte_does_not_repeat_another(data, number):
    reader, head = HeadReader(), usual(12, number)
    reader.read(head)
    at = data.draw(st.integers(0, len(head) - 1))
    assert reader.again(bytearray(head), 0, at) is None
    other = bytearray(head)
    other[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != head[at]))
    found = reader.again(other, 0, len(other))
    assert found is None or (
        found[0].length == 12 and found[0].number == reader.read(bytes(other)).number != 7
    )


@pytest.mark.parametrize("second", ["5", "", "-1", "x"])
def test_a_number_given_twice_is_refused(second):
    number = "x-sealtrace-sequence"
    twice = f"POST /a HTTP/1.1\r\nContent-Length: 5\r\n{number}: 5\r\n{number.upper()}: {second}\r\n\r\n"
    with pytest.raises(MalformedHead, match="twice"):
        HeadReader().read(twice.encode())


@pytest.mark.parametrize("text", ["", "-1", "1" * 16, "1x", "0x1"])
def test_what_is_no_number_is_none(text):
    head = f"POST /a HTTP/1.1\r\nContent-Length: 5\r\nx-sealtrace-sequence: {text}\r\n\r\n"
    assert HeadReader().read(head.encode()).number is None


def test_a_length_hidden_behind_the_usual_one_is_refused():
    twice = b"POST /a HTTP/1.1\r\nContent-Length: 5\r\nCONTENT-LENGTH: 500\r\n\r\n"
    with pytest.raises(MalformedHead, match="twice"):
        HeadReader().read(twice)
