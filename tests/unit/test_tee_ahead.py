"""Messages go out and come in ahead of the one who works on them, in order, and errors come through."""

import threading

import pytest

from sealtrace.node.engines.tee.ahead import AHEAD, ReceivingAhead, SendingAhead

pytestmark = pytest.mark.timeout(20)


class Gone(Exception):
    pass


def test_what_is_sent_ahead_arrives_in_order_and_whole_before_it_is_finished():
    sent = []
    sending = SendingAhead(sent.append)
    for at in range(50):
        sending.send(b"%d" % at)
    sending.finish()
    assert sent == [b"%d" % at for at in range(50)]


def test_the_sender_waits_where_the_receiver_is_slow():
    go, begun, sent = threading.Event(), threading.Event(), []

    def slow(message):
        begun.set()
        go.wait(10)
        sent.append(message)

    def work():
        for at in range(AHEAD + 2):
            sending.send(b"%d" % at)

    sending = SendingAhead(slow)
    worker = threading.Thread(target=work)
    worker.start()
    begun.wait(10)
    worker.join(0.3)
    assert worker.is_alive()
    go.set()
    worker.join(10)
    sending.finish()
    assert len(sent) == AHEAD + 2


def test_a_message_that_does_not_go_out_is_the_caller_s_error_and_nothing_follows_it():
    tried = []

    def broken(message):
        tried.append(message)
        raise Gone

    def send_many():
        for _ in range(100):
            sending.send(b"m")

    sending = SendingAhead(broken)
    with pytest.raises(Gone):
        send_many()
    with pytest.raises(Gone):
        sending.finish()
    assert tried == [b"m"]


def test_an_error_at_the_last_message_is_not_lost():
    def broken(message):
        raise Gone

    sending = SendingAhead(broken)
    sending.send(b"m")
    with pytest.raises(Gone):
        sending.finish()


def test_what_is_received_ahead_comes_in_order_and_nothing_is_asked_for_after_the_last():
    coming, asked = iter([b"a", b"b", b"end", b"of another stream"]), []

    def receive():
        asked.append(1)
        return next(coming)

    receiving = ReceivingAhead(receive, lambda message: message == b"end")
    assert [receiving.receive() for _ in range(3)] == [b"a", b"b", b"end"]
    assert len(asked) == 3


def test_an_error_comes_where_the_message_should_have_come():
    def receive():
        if coming:
            return coming.pop()
        raise Gone

    coming = [b"a"]
    receiving = ReceivingAhead(receive, lambda message: False)
    assert receiving.receive() == b"a"
    with pytest.raises(Gone):
        receiving.receive()
