"""The one safe sender of a key: a transaction is stored before it is sent, and sent as it was stored.

An *intent* names what is wanted, such as ``start:<task>``; one intent is one transaction for ever, whoever
asks again, however often the process dies in between. Processes of one node share a sender's database.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import rlp
import sqlalchemy
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from sealtrace.contracts import events
from sealtrace.contracts.calls import Call
from sealtrace.contracts.client import ENDPOINT_FINALIZED, Chain
from sealtrace.contracts.errors import NonceTaken, NotAccepted, NotMined, Reverted
from sealtrace.contracts.events import ChainEvent
from sealtrace.contracts.link import Ask, Failure, Link, content, hexadecimal, number
from sealtrace.contracts.outbox import Outbox, Replaced, State, Stored
from sealtrace.contracts.reverts import read_revert, unexplained
from sealtrace.protocol.accounts import Account
from sealtrace.protocol.identifiers import Hex32, address, hex32
from sealtrace.protocol.records import BlockRef

EXTRA_GAS = 60_000
FIRST_POLL_S = 0.05
LONGEST_POLL_S = 0.5
RESEND_EVERY_S = 5.0
MAX_INTENT = 200

_KNOWN = ("already known", "already imported", "known transaction", "already in pool")
_NONCE_USED = ("nonce too low", "nonce is too low", "invalid nonce", "expected")
_LATER = ("txpool is full", "too far ahead", "replacement transaction underpriced", "already pending")


@dataclass(frozen=True, slots=True)
class Fees:
    """What a transaction offers for its gas, in wei for each unit."""

    most: int
    tip: int


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction that is final and did what it should."""

    transaction: Hex32
    block: BlockRef
    gas_used: int
    events: list[ChainEvent]


class Sender:
    """Sends with one key. Safe to use from several threads and processes over one database."""

    def __init__(self, chain: Chain, private_key: bytes, engine: sqlalchemy.Engine) -> None:
        self.chain = chain
        self._account = Account.from_key(private_key)
        self.address = address(self._account.address)
        self._outbox = Outbox(engine, chain.settings.chain_id, self.address)
        self._link = chain.link

    def submit(self, intent: str, call: Call) -> Hex32:
        """Sign, store and send; returns the transaction's hash. Asked again, it changes nothing.

        Raises:
            Reverted: the contract would refuse it now; nothing was stored.
            ChainUnreachable: before it was stored, nothing happened; after, :meth:`pump` sends it.
            NotAccepted: the endpoint does not take it; it stays stored.
        """
        return self._submitted(intent, call).hash

    def wait(self, intent: str, *, timeout_s: float = 60) -> Mined:
        """Wait until the intent's transaction is final under the chain's settings.

        Raises:
            Reverted: it was mined and the contract refused it; the same intent is never sent again.
            NotMined: not within ``timeout_s``; it stays stored.
            KeyError: nothing was submitted under this intent.
        """
        if (row := self._outbox.find(intent)) is None:
            raise KeyError(f"nothing was submitted as {intent!r}")
        return self._waited(row, timeout_s)

    def send(self, intent: str, call: Call, *, timeout_s: float = 60) -> Mined:
        """:meth:`submit`, then :meth:`wait`; raises what they raise."""
        return self._waited(self._submitted(intent, call), timeout_s)

    def pump(self) -> None:
        """Send again, as stored and in order, whatever is not final yet. Repairs a crash at any line.

        Raises:
            ChainUnreachable: the endpoint does not answer; nothing is lost.
            NotAccepted, NonceTaken: the first transaction that cannot be sent, and why.
        """
        for row in self._outbox.unfinished():
            receipt = self._link.request("eth_getTransactionReceipt", row.hash)
            if receipt is None:
                self._push(row)
            else:
                with contextlib.suppress(Reverted):  # recorded; whoever waits for it is told
                    self._settle(row, receipt)

    def replaced(self) -> list[Replaced]:
        """Every transaction that lost its nonce to another program's and was signed again."""
        return self._outbox.replaced()

    # submitting

    def _submitted(self, intent: str, call: Call) -> Stored:
        if not 0 < len(intent) <= MAX_INTENT:
            raise ValueError(f"an intent is a text of 1 to {MAX_INTENT} characters: {intent[:40]!r}")
        row = self._outbox.find(intent) or self._stored(intent, call)
        return self._push(row) if row.state is State.QUEUED else row

    def _stored(self, intent: str, call: Call) -> Stored:
        to, data = self.chain.addresses[call.contract], "0x" + call.data().hex()
        wanted = {"from": self.address, "to": to, "data": data}
        gas, block, nonce = self._link.batch(
            [
                Ask("eth_estimateGas", [wanted]),
                Ask("eth_getBlockByNumber", ["latest", False]),
                Ask("eth_getTransactionCount", [self.address, "pending"]),
            ]
        )
        if isinstance(gas, Failure):
            # It may be refused because another process has just done it.
            if (found := self._outbox.find(intent)) is not None:
                return found
            raise self._why_refused(wanted, call.contract, gas)
        fees = offered(self._link, _given(block))
        limit = (
            number(gas) * 3 // 2 + EXTRA_GAS
        )  # an estimate made as the first of several is too low for the last
        sign = self._signer({"to": to, "data": data, "gas": limit}, fees)
        return self._outbox.add(intent, call.contract, number(_given(nonce)), sign)

    def _why_refused(self, wanted: Mapping[str, Any], contract: str, gas: Failure) -> Exception:
        if gas.data is not None:
            return read_revert(gas.data, contract)
        again = self._link.attempt("eth_call", dict(wanted), "latest")
        if isinstance(again, Failure) and again.data is not None:
            return read_revert(again.data, contract)
        return unexplained(gas.message, contract) if "revert" in gas.message.lower() else gas.error()

    def _signer(self, said: Mapping[str, Any], fees: Fees) -> Callable[[int], tuple[bytes, Hex32]]:
        def sign(nonce: int) -> tuple[bytes, Hex32]:
            transaction = {
                **said,
                "type": 2,
                "chainId": self.chain.settings.chain_id,
                "nonce": nonce,
                "value": 0,
                "maxFeePerGas": fees.most,
                "maxPriorityFeePerGas": fees.tip,
                "to": _checksummed(said["to"]),
            }
            raw = bytes(self._account.sign_transaction(transaction).raw_transaction)
            return raw, hex32(keccak(raw))

        return sign

    # sending what is stored

    def _push(self, row: Stored) -> Stored:
        answer = self._link.attempt("eth_sendRawTransaction", "0x" + row.raw.hex())
        reason = answer.message if isinstance(answer, Failure) else ""
        if not reason or _says(reason, _KNOWN):
            self._outbox.mark(row, State.SENT)
            return row
        if self._is_known(row):
            self._outbox.mark(row, State.SENT)
            return row
        if _says(reason, _LATER):
            return row  # it stays queued, and is sent again
        if _says(reason, _NONCE_USED) and self._nonce(self.address, "latest") > row.nonce:
            return self._numbered_anew(row)
        raise NotAccepted(row.hash, reason)

    def _is_known(self, row: Stored) -> bool:
        found = self._link.batch(
            [Ask("eth_getTransactionReceipt", [row.hash]), Ask("eth_getTransactionByHash", [row.hash])]
        )
        return any(answer is not None and not isinstance(answer, Failure) for answer in found)

    def _numbered_anew(self, row: Stored) -> Stored:
        """Sign again under another nonce, once it is proven which foreign transaction took ours."""
        taken_by = self._holder_of(row.nonce)
        if taken_by == row.hash:  # it was ours after all, and the endpoint's index is behind
            self._outbox.mark(row, State.SENT)
            return row
        transaction = read_transaction(row.raw)
        fees = offered(self._link, self._link.request("eth_getBlockByNumber", "latest", False))
        said = {"to": transaction["to"], "data": transaction["data"], "gas": transaction["gas"]}
        nonce = self._nonce(self.address, "pending")
        return self._push(self._outbox.renumber(row, taken_by, nonce, self._signer(said, fees)))

    def _holder_of(self, nonce: int) -> Hex32:
        """The transaction of this account with ``nonce``, found by halving on the account's count."""
        low, high = 0, self.chain.head().number  # the count is above the nonce at high
        while low < high:
            middle = (low + high) // 2
            if self._nonce(self.address, hexadecimal(middle)) > nonce:
                high = middle
            else:
                low = middle + 1
        block = self._link.request("eth_getBlockByNumber", hexadecimal(high), True)
        for found in (block or {}).get("transactions", ()):
            if str(found["from"]).lower() == self.address and number(found["nonce"]) == nonce:
                return hex32(content(found["hash"]))
        raise NonceTaken(self.address, nonce, f"block {high} does not show it")

    def _nonce(self, account: str, at: str) -> int:
        answer = self._link.attempt("eth_getTransactionCount", account, at)
        if isinstance(answer, Failure):
            raise NonceTaken(account, -1, answer.message[:200]) if at.startswith("0x") else answer.error()
        return number(answer)

    # waiting

    def _waited(self, row: Stored, timeout_s: float) -> Mined:
        started, pushed = time.monotonic(), time.monotonic()
        for pause in _pauses():
            receipt = self._link.request("eth_getTransactionReceipt", row.hash)
            if receipt is not None and (mined := self._settle(row, receipt)) is not None:
                return mined
            now = time.monotonic()
            if now - started >= timeout_s:
                raise NotMined(row.hash, timeout_s, "not in a block" if receipt is None else "not buried yet")
            if receipt is None and now - pushed >= RESEND_EVERY_S:
                row, pushed = self._push(self._outbox.find(row.intent) or row), now
            time.sleep(min(pause, max(0.0, started + timeout_s - now)))
        raise AssertionError("pauses never end")

    def _settle(self, row: Stored, receipt: Mapping[str, Any]) -> Mined | None:
        """The outcome, once the receipt's block is final, and its record in the outbox."""
        height = number(receipt["blockNumber"])
        if not self._is_final(height):
            return None
        if number(receipt["status"]) != 1:
            refusal = self._why_reverted(row, receipt, height)
            self._outbox.mark(row, State.REVERTED, height, f"{refusal.name}({refusal.words})")
            raise refusal
        self._outbox.mark(row, State.MINED, height)
        return self._mined(row, receipt, height)

    def _mined(self, row: Stored, receipt: Mapping[str, Any], height: int) -> Mined:
        logs = (events.read_log(log, self.chain.contracts) for log in receipt["logs"])
        found = [event for event in logs if event is not None]
        return Mined(row.hash, self.chain.block(height), number(receipt["gasUsed"]), found)

    def _is_final(self, height: int) -> bool:
        depth = self.chain.settings.confirmations
        if depth == ENDPOINT_FINALIZED:
            return self.chain.finalized().number >= height
        return depth == 0 or self.chain.head().number >= height + depth

    def _why_reverted(self, row: Stored, receipt: Mapping[str, Any], height: int) -> Reverted:
        """The refusal as the receipt says it, or as the same call gives it at the block and before it."""
        if reason := receipt.get("revertReason"):
            return read_revert(content(reason), row.contract).mined_as(row.hash)
        transaction = read_transaction(row.raw)
        call = {"from": self.address, "to": transaction["to"], "data": transaction["data"]}
        for at in (height - 1, height):
            answer = self._link.attempt("eth_call", call, hexadecimal(at))
            if isinstance(answer, Failure) and answer.data:
                return read_revert(answer.data, row.contract).mined_as(row.hash)
        return unexplained("no reason at its block", row.contract).mined_as(row.hash)


def offered(link: Link, block: Mapping[str, Any]) -> Fees:
    """The fees to offer after ``block``: none where the network asks none."""
    base = number(block.get("baseFeePerGas") or 0)
    if base == 0:
        return Fees(0, 0)
    tip = link.attempt("eth_maxPriorityFeePerGas")
    tip = 0 if isinstance(tip, Failure) else number(tip)
    return Fees(2 * base + tip, tip)


def read_transaction(raw: bytes) -> dict[str, Any]:
    """What a raw transaction of ours says: ``to``, ``data`` (hexadecimal) and ``gas``."""
    fields = rlp.decode(raw[1:])
    return {
        "to": "0x" + fields[5].hex(),
        "data": "0x" + fields[7].hex(),
        "gas": int.from_bytes(fields[4]),
    }


def _checksummed(account: str) -> Any:
    return to_checksum_address(account)


def _given(answer: Any) -> Any:
    if isinstance(answer, Failure):
        raise answer.error()
    return answer


def _says(reason: str, words: tuple[str, ...]) -> bool:
    return any(word in reason.lower() for word in words)


def _pauses() -> Iterator[float]:
    pause = FIRST_POLL_S
    while True:
        yield pause
        pause = min(LONGEST_POLL_S, pause * 1.5)
