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
from sealtrace.contracts.client import Chain
from sealtrace.contracts.errors import (
    ChainError,
    ChainUnreachable,
    EndpointBehind,
    FinalBlockReplaced,
    MalformedAnswer,
    NonceDoubtful,
    NonceTaken,
    NotAccepted,
    NotMined,
    Reverted,
    UnknownBlock,
)
from sealtrace.contracts.events import ChainEvent
from sealtrace.contracts.link import Ask, Failure, Link, content, hexadecimal, number
from sealtrace.contracts.outbox import Outbox, Replaced, State, Stored, Undone
from sealtrace.contracts.reverts import read_revert, unexplained
from sealtrace.protocol.accounts import Account
from sealtrace.protocol.identifiers import Hex32, UnixSeconds, address, hex32
from sealtrace.protocol.records import BlockRef

EXTRA_GAS = 60_000
FIRST_POLL_S = 0.05
LONGEST_POLL_S = 0.5
RESEND_EVERY_S = 5.0
MAX_INTENT = 200

RAISE_AFTER_S = 30.0
"""On a network with fees: a transaction that waits for so long offers more."""
MAX_RAISES = 12
"""An eighth more each time, so that a transaction never offers more than about four times its first fee
or what the network asks."""
CLOSE_GAP_AFTER_S = 15.0
MAX_FILLERS = 64
FILLER = "filler of nonce"
FILLER_GAS = 30_000
MAX_NONCES_AHEAD = 1_000

_KNOWN = ("already known", "already imported", "known transaction", "already in pool")
_NONCE_USED = ("nonce too low", "nonce is too low", "invalid nonce", "expected")
_LATER = (
    "txpool is full",
    "too far ahead",
    "too distant",
    "nonce too high",
    "nonce gap",
    "replacement transaction underpriced",
    "already pending",
)
_TOO_CHEAP = ("underpriced", "less than block base fee", "fee too low", "gas price too low", "below base fee")


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


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an intent has come, as it was last seen.

    ``transactions`` are the hashes under which it may be mined: one, and more where its fee was raised.
    ``block`` is where it stands, or last stood if ``state`` is final.
    """

    intent: str
    state: State
    transactions: tuple[Hex32, ...]
    block: int | None
    block_hash: Hex32 | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an endpoint says became of a transaction."""

    transaction: Hex32
    block_number: int
    block_hash: Hex32
    succeeded: bool
    gas_used: int
    logs: list[Any]
    reason: bytes | None


class Sender:
    """Sends with one key. Safe to use from several threads and processes over one database.

    No action is done twice: an intent has one nonce, and gets another only once a final block shows that a
    foreign transaction used it; a higher fee keeps the nonce. No action is lost: what is not in a final
    block is sent again, to all endpoints. ``clock`` is this machine's, and decides only when to try harder.
    """

    def __init__(
        self,
        chain: Chain,
        private_key: bytes,
        engine: sqlalchemy.Engine,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.chain = chain
        self._account = Account.from_key(private_key)
        self.address = address(self._account.address)
        self._outbox = Outbox(engine, chain.settings.chain_id, self.address)
        self._link = chain.link
        self._clock = clock
        self._history_checked = False

    def submit(self, intent: str, call: Call) -> Hex32:
        """Sign, store and send; returns the transaction's hash. Asked again, it changes nothing.

        Raises:
            Reverted: the contract would refuse it now; nothing was stored.
            EndpointBehind: the endpoint is too old to say whether it would; nothing was stored.
            NonceDoubtful: the endpoint names an impossible nonce; nothing was stored.
            ChainUnreachable: before it was stored, nothing happened; after, :meth:`pump` sends it.
            NotAccepted: the endpoint does not take it; it stays stored.
        """
        return self._submitted(intent, call).transaction

    def wait(self, intent: str, *, timeout_s: float = 60) -> Mined:
        """Wait until the intent's transaction is final under the chain's settings.

        Endpoints that fail meanwhile are waited for, too.

        Raises:
            Reverted: it was mined and the contract refused it; the same intent is never sent again.
            NotMined: not within ``timeout_s``; it stays stored.
            NotAccepted, NonceTaken: the same, and why the endpoint does not take it.
            FinalBlockReplaced: the chain broke its promise.
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
            NotAccepted, NonceTaken: the first transaction that cannot be sent, and why; the others were.
            FinalBlockReplaced: a block that was final is gone; nothing is sent.
        """
        if not (rows := self._outbox.unfinished()):
            return
        self._require_history()
        troubles = [trouble for row in rows if (trouble := self._trouble_with(row)) is not None]
        self._close_gap()
        if troubles:
            raise troubles[0]

    def _trouble_with(self, row: Stored) -> ChainError | None:
        """One step further with a transaction, or what is in its way alone."""
        try:
            self._carried(row, again=True)
        except Reverted:
            return None  # recorded; whoever waits for it is told
        except (ChainUnreachable, FinalBlockReplaced):
            raise
        except ChainError as cause:
            return cause
        return None

    def progress(self, intent: str) -> Progress | None:
        """How far an intent has come as far as is recorded; ``None`` if nothing was submitted as it."""
        if (row := self._outbox.find(intent)) is None:
            return None
        versions = (row.hash, *self._outbox.superseded(row))
        hashes = (row.transaction,) if row.is_over else versions
        return Progress(intent, row.state, hashes, row.block, row.block_hash)

    def replaced(self) -> list[Replaced]:
        """Every transaction that lost its nonce to another program's and was signed again."""
        return self._outbox.replaced()

    def undone(self) -> list[Undone]:
        """Every inclusion in a block that a reorganisation took back before it was final."""
        return self._outbox.undone()

    # submitting

    def _submitted(self, intent: str, call: Call) -> Stored:
        if not 0 < len(intent) <= MAX_INTENT:
            raise ValueError(f"an intent is a text of 1 to {MAX_INTENT} characters: {intent[:40]!r}")
        row = self._outbox.find(intent) or self._stored(intent, call)
        return self._push(row) if row.state is State.QUEUED else row

    def _stored(self, intent: str, call: Call) -> Stored:
        to, data = self.chain.addresses[call.contract], "0x" + call.data().hex()
        wanted = {"from": self.address, "to": to, "data": data}
        gas, block, latest, pending = self._link.batch(
            [
                Ask("eth_estimateGas", [wanted]),
                Ask("eth_getBlockByNumber", ["latest", False]),
                Ask("eth_getTransactionCount", [self.address, "latest"]),
                Ask("eth_getTransactionCount", [self.address, "pending"]),
            ]
        )
        self._require_recent(_given(block))
        if isinstance(gas, Failure):
            # It may be refused because another process has just done it.
            if (found := self._outbox.find(intent)) is not None:
                return found
            raise self._why_refused(wanted, call.contract, gas)
        nonce = self._plausible(number(_given(latest)), number(_given(pending)))
        fees = offered(self._link, block)
        # An estimate made as the first of several is too low for the last.
        limit = number(gas) * 3 // 2 + EXTRA_GAS
        sign = self._signer({"to": to, "data": data, "gas": limit}, fees)
        return self._outbox.add(intent, call.contract, nonce, sign, self._clock())

    def _require_recent(self, block: Mapping[str, Any]) -> None:
        """A refusal by a state that is older than what is final would be believed, and may be wrong."""
        known = self.chain.finality.known
        if known is not None and (seen := number(block.get("number", known.number))) < known.number:
            raise EndpointBehind(seen, known.number)

    def _plausible(self, latest: int, pending: int) -> int:
        """The nonce to go on from. One far too high would keep all that follow from being mined."""
        highest = self._outbox.highest_nonce()
        ours = latest if highest is None else max(latest, highest + 1)
        believed = max(latest, pending)
        if believed > ours + MAX_NONCES_AHEAD or (
            highest is not None and latest > highest + MAX_NONCES_AHEAD
        ):
            raise NonceDoubtful(self.address, believed, ours)
        return believed

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
        """Hand it to an endpoint as stored; to all of them, if one has had it and it came to nothing."""
        reason = self._refusal(row)
        if reason is None or self._is_known(row):
            return self._outbox.sent(row)
        if _says(reason, _LATER):
            return row  # it is sent again
        if _says(reason, _NONCE_USED):
            count = self._count("latest")
            if count > row.nonce:
                return self._numbered_anew(row)
            if count < row.nonce:
                return row  # its turn has not come
        if _says(reason, _TOO_CHEAP) and (dearer := self._raised(row)) is not None:
            row = dearer
            if (reason := self._refusal(row)) is None:
                return self._outbox.sent(row)
        raise NotAccepted(row.hash, reason)

    def _refusal(self, row: Stored) -> str | None:
        """Why no endpoint takes it; ``None`` where one does or has it."""
        say = ("eth_sendRawTransaction", "0x" + row.raw.hex())
        again = row.state is not State.QUEUED
        answers = self._link.everywhere(*say) if again else [self._link.attempt(*say)]
        reasons = [answer.message for answer in answers if isinstance(answer, Failure)]
        taken = len(reasons) < len(answers) or any(_says(reason, _KNOWN) for reason in reasons)
        return None if taken else reasons[0]

    def _is_known(self, row: Stored) -> bool:
        found = self._link.batch(
            [Ask("eth_getTransactionReceipt", [row.hash]), Ask("eth_getTransactionByHash", [row.hash])]
        )
        return any(answer is not None and not isinstance(answer, Failure) for answer in found)

    def _numbered_anew(self, row: Stored) -> Stored:
        """Sign again under another nonce, once a final block shows which foreign transaction took ours.

        Not before: if that block were undone, both could be mined.
        """
        final = self.chain.finalized().number
        if not self._is_used(row.nonce, final):
            return row
        taken_by = self._holder_of(row.nonce, final)
        # Anew, as another process may have raised its fee: whatever was mined was stored before.
        row, nonce = self._outbox.find(row.intent) or row, row.nonce
        if row.is_over or row.nonce != nonce:
            return row
        if taken_by in (row.hash, *self._outbox.superseded(row)):
            return self._outbox.sent(row)  # it was ours after all, and the endpoint's index is behind
        if row.contract == FILLER:
            return self._outbox.needless(row, taken_by)
        fees = offered(self._link, self._link.request("eth_getBlockByNumber", "latest", False))
        said = read_transaction(row.raw)
        anew = self._outbox.renumber(
            row, taken_by, self._count("pending"), self._signer(said, fees), self._clock()
        )
        return self._push(anew)

    def _holder_of(self, nonce: int, final: int) -> Hex32:
        """The transaction of this account with ``nonce``, found by halving on the account's count."""
        low, high = 0, final  # the count is above the nonce at high
        while low < high:
            middle = (low + high) // 2
            if self._is_used(nonce, middle):
                high = middle
            else:
                low = middle + 1
        block = self._link.request("eth_getBlockByNumber", hexadecimal(high), True)
        for found in (block or {}).get("transactions", ()):
            if str(found["from"]).lower() == self.address and number(found["nonce"]) == nonce:
                return hex32(content(found["hash"]))
        raise NonceTaken(self.address, nonce, f"block {high} does not show it")

    def _is_used(self, nonce: int, height: int) -> bool:
        """Whether a transaction of this account has the nonce in the block at ``height`` or below."""
        answers = self._counts(hexadecimal(height))
        if all(isinstance(answer, Failure) for answer in answers):
            raise NonceTaken(self.address, nonce, answers[0].message[:200])
        return _most(answers) > nonce

    def _count(self, at: str) -> int:
        """How many nonces are used: the most that any endpoint says, as one may be behind."""
        return _most(self._counts(at))

    def _counts(self, at: str) -> list[Any]:
        return self._link.everywhere("eth_getTransactionCount", self.address, at)

    # trying harder

    def _urged(self, row: Stored) -> None:
        """Send what is not in a block once more, and for more where fees decide and it is its turn."""
        row = self._push(row)
        waited = self._clock() - row.waits_since
        if row.state is not State.SENT or waited < RAISE_AFTER_S or read_fees(row.raw) == Fees(0, 0):
            return
        if self._count("latest") == row.nonce and (dearer := self._raised(row)) is not None:
            self._push(dearer)

    def _raised(self, row: Stored) -> Stored | None:
        """The same with a higher fee; ``None`` where the network asks none, or enough was offered.

        Both stay recorded, and whichever is mined counts: they share a nonce, so one is mined at most.
        """
        block = self._link.request("eth_getBlockByNumber", "latest", False)
        if number(block.get("baseFeePerGas") or 0) == 0:
            return None
        now, before = offered(self._link, block), read_fees(row.raw)
        if len(self._outbox.superseded(row)) >= MAX_RAISES and now.most <= before.most:
            return None
        fees = Fees(max(now.most, _eighth_more(before.most)), max(now.tip, _eighth_more(before.tip)))
        return self._outbox.supersede(row, self._signer(read_transaction(row.raw), fees), self._clock())

    def _close_gap(self) -> None:
        """Use up the nonces below our first open one, if nobody does.

        An endpoint that named too high a nonce left them: without them nothing of ours is ever mined, and
        signing it again under a lower nonce could have it done twice.
        """
        first = next(iter(self._outbox.unfinished()), None)
        if first is None or self._clock() - first.waits_since < CLOSE_GAP_AFTER_S:
            return
        final = self._outbox.newest_final()
        least = min(_numbers(self._counts("latest")))  # one that says too much shows no gap
        low = max(least, final.nonce + 1 if final else 0)
        for nonce in range(low, min(first.nonce, low + MAX_FILLERS)):
            self._fill(nonce)

    def _fill(self, nonce: int) -> None:
        fees = offered(self._link, self._link.request("eth_getBlockByNumber", "latest", False))
        sign = self._signer({"to": self.address, "data": "0x", "gas": FILLER_GAS}, fees)
        row = self._outbox.fill(f"{FILLER} {nonce}", FILLER, nonce, sign, self._clock())
        if row is not None and row.state is State.QUEUED:
            with contextlib.suppress(NotAccepted, NonceTaken):  # the next pump() says so
                self._push(row)

    # waiting

    def _waited(self, row: Stored, timeout_s: float) -> Mined:
        until, urged_at = time.monotonic() + timeout_s, time.monotonic()
        for pause in _pauses():
            again = time.monotonic() - urged_at >= RESEND_EVERY_S
            urged_at = time.monotonic() if again else urged_at
            trouble = None
            try:
                if again:
                    self._carry_earlier(row)
                if (mined := self._carried(row, again=again)) is not None:
                    return mined
            except (Reverted, FinalBlockReplaced):
                raise
            except ChainError as cause:  # whatever an endpoint says or not, the transaction stays stored
                trouble = cause
            row = self._outbox.find(row.intent) or row
            if time.monotonic() >= until:
                raise _why_not(row, timeout_s, trouble) from trouble
            time.sleep(min(pause, max(0.0, until - time.monotonic())))
        raise AssertionError("pauses never end")

    def _carry_earlier(self, row: Stored) -> None:
        """See to what has to be mined before it: whoever stored that may have died before sending it."""
        for earlier in self._outbox.unfinished():
            if earlier.nonce < row.nonce:
                self._trouble_with(earlier)
        self._close_gap()

    def _carried(self, row: Stored, *, again: bool) -> Mined | None:
        """One look at what became of it, and one step further. The outcome, once it is final.

        Raises:
            Reverted: the outcome is a refusal.
        """
        receipt = self._receipt(row)
        if row.is_over and row.block_hash and (receipt is None or receipt.block_hash != row.block_hash):
            self._require_unchanged(row)
        elif receipt is not None:
            return self._settled(row, receipt)
        elif not row.is_over:
            self._missed(row, again=again)
        return None

    def _receipt(self, row: Stored) -> Receipt | None:
        """The receipt of whichever version was mined."""
        hashes = [row.transaction] if row.is_over else [row.hash, *self._outbox.superseded(row)]
        answers = self._link.batch([Ask("eth_getTransactionReceipt", [each]) for each in hashes])
        for hash, answer in zip(hashes, answers, strict=True):
            if (found := _given(answer)) is not None:
                return read_receipt(found, hash)
        return None

    def _missed(self, row: Stored, *, again: bool) -> None:
        """No endpoint shows it in a block (any more)."""
        undone = row.state is State.INCLUDED and self._is_undone(row)
        if undone:
            row = self._outbox.taken_back(row, self._clock())
        if again or undone:
            self._urged(row)

    def _is_undone(self, row: Stored) -> bool:
        """Whether another block is in its block's place; an endpoint that has none there proves nothing."""
        try:
            return row.block is not None and self.chain.block(row.block).hash != row.block_hash
        except UnknownBlock:
            return False

    def _settled(self, row: Stored, receipt: Receipt) -> Mined | None:
        """The outcome, once the receipt's block is final, and its record in the outbox."""
        final, height = self.chain.finalized(), receipt.block_number
        block = final if height == final.number else self.chain.block(height)
        if block.hash != receipt.block_hash:
            return None  # the endpoint is about to change its mind: look again
        if height > final.number:
            self._outbox.included(row, receipt.transaction, block)
            return None
        if not receipt.succeeded:
            refusal = self._why_reverted(row, receipt)
            words = f"{refusal.name}({refusal.words})"
            self._outbox.final(row, State.REVERTED, receipt.transaction, block, words)
            raise refusal
        self._outbox.final(row, State.MINED, receipt.transaction, block)
        return Mined(receipt.transaction, block, receipt.gas_used, self._events(receipt))

    def _events(self, receipt: Receipt) -> list[ChainEvent]:
        logs = (events.read_log(log, self.chain.contracts) for log in receipt.logs)
        return [event for event in logs if event is not None]

    def _why_reverted(self, row: Stored, receipt: Receipt) -> Reverted:
        """The refusal as the receipt says it, or as the same call gives it at the block and before it."""
        hash, height = receipt.transaction, receipt.block_number
        if receipt.reason:
            return read_revert(receipt.reason, row.contract).mined_as(hash)
        transaction = read_transaction(row.raw)
        call = {"from": self.address, "to": transaction["to"], "data": transaction["data"]}
        for at in (height - 1, height):
            answer = self._link.attempt("eth_call", call, hexadecimal(at))
            if isinstance(answer, Failure) and answer.data:
                return read_revert(answer.data, row.contract).mined_as(hash)
        return unexplained("no reason at its block", row.contract).mined_as(hash)

    # what was final stays

    def _require_history(self) -> None:
        """What became final is still on the chain; once in a process, what an earlier one saw as well."""
        self.chain.finalized()
        if self._history_checked:
            return
        if (newest := self._outbox.newest_final()) is not None:
            self._require_unchanged(newest)
        self._history_checked = True

    def _require_unchanged(self, row: Stored) -> None:
        if row.block is not None and row.block_hash is not None:
            self.chain.finality.require(BlockRef(row.block, row.block_hash, UnixSeconds(0)))


def _why_not(row: Stored, seconds: float, trouble: ChainError | None) -> ChainError:
    """Why there is no outcome yet."""
    if isinstance(trouble, NotAccepted | NonceTaken):
        return trouble
    if trouble is not None:
        return NotMined(row.transaction, seconds, f"the last answer was: {trouble}")
    included = row.state is State.INCLUDED
    return NotMined(row.transaction, seconds, "not buried yet" if included else "not in a block")


def offered(link: Link, block: Mapping[str, Any]) -> Fees:
    """The fees to offer after ``block``: none where the network asks none."""
    base = number(block.get("baseFeePerGas") or 0)
    if base == 0:
        return Fees(0, 0)
    tip = link.attempt("eth_maxPriorityFeePerGas")
    tip = 0 if isinstance(tip, Failure) else number(tip)
    return Fees(2 * base + tip, tip)


def read_receipt(found: Any, hash: Hex32) -> Receipt:
    """A receipt from its JSON.

    Raises:
        MalformedAnswer: it is none of the transaction ``hash``.
    """
    try:
        reason = found.get("revertReason")
        receipt = Receipt(
            transaction=hex32(content(found["transactionHash"])),
            block_number=number(found["blockNumber"]),
            block_hash=hex32(content(found["blockHash"])),
            succeeded=number(found["status"]) == 1,
            gas_used=number(found["gasUsed"]),
            logs=list(found["logs"]),
            reason=content(reason) if reason else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        raise MalformedAnswer(f"the receipt of {hash}", repr(cause)) from cause
    if receipt.transaction != hash:
        raise MalformedAnswer(f"the receipt of {hash}", f"it is that of {receipt.transaction}")
    return receipt


def read_fees(raw: bytes) -> Fees:
    """What a raw transaction of ours offers."""
    fields = rlp.decode(raw[1:])
    return Fees(most=int.from_bytes(fields[3]), tip=int.from_bytes(fields[2]))


def read_transaction(raw: bytes) -> dict[str, Any]:
    """What a raw transaction of ours says: ``to``, ``data`` (hexadecimal) and ``gas``."""
    fields = rlp.decode(raw[1:])
    return {
        "to": "0x" + fields[5].hex(),
        "data": "0x" + fields[7].hex(),
        "gas": int.from_bytes(fields[4]),
    }


def _eighth_more(fee: int) -> int:
    """Pools replace a transaction for a tenth more, and not for less."""
    return fee + fee // 8 + 1 if fee else 0


def _checksummed(account: str) -> Any:
    return to_checksum_address(account)


def _given(answer: Any) -> Any:
    if isinstance(answer, Failure):
        raise answer.error()
    return answer


def _numbers(answers: list[Any]) -> list[int]:
    """Those of many endpoints' answers that are numbers; an error where none is."""
    found = [number(answer) for answer in answers if not isinstance(answer, Failure)]
    return found or [number(_given(answers[0]))]


def _most(answers: list[Any]) -> int:
    return max(_numbers(answers))


def _says(reason: str, words: tuple[str, ...]) -> bool:
    return any(word in reason.lower() for word in words)


def _pauses() -> Iterator[float]:
    pause = FIRST_POLL_S
    while True:
        yield pause
        pause = min(LONGEST_POLL_S, pause * 1.5)
