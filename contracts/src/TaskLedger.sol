// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {Governed} from "./Governed.sol";
import {IConsortium} from "./interfaces/IConsortium.sol";
import {IGrantRegistry} from "./interfaces/IGrantRegistry.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {ITaskLedger} from "./interfaces/ITaskLedger.sol";
import {Signatures} from "./Signatures.sol";
import {
    Blame,
    Request,
    Signed,
    SignedReceipt,
    SignedStart,
    TaskKey,
    TaskStatus,
    TaskTerms,
    Use
} from "./Types.sol";

/// @title The implementation of `ITaskLedger`, which is its manual
contract TaskLedger is ITaskLedger, Governed, Signatures, Multicall {
    uint8 private constant REQUESTER = 4;
    uint256 private constant MAX_PARTIES = 16;
    uint256 private constant MAX_USES = 64;
    uint128 private constant CONFLICT = type(uint128).max;
    bytes32 private constant APPROVAL_TYPE = keccak256("Approval(bytes32 task,uint40 validUntil)");
    bytes32 private constant START_TYPE = keccak256("Start(bytes32 task,bytes32 inputCommitment,uint40 validUntil)");
    bytes32 private constant REFUSAL_TYPE = keccak256("Refusal(bytes32 task,uint8 reason,uint40 validUntil)");
    bytes32 private constant RECEIPT_TYPE =
        keccak256("Receipt(bytes32 task,bytes32 receipt,bytes32 result,uint40 validUntil)");

    INodeRegistry public immutable nodes;
    IGrantRegistry public immutable grants;
    uint32 public lapses;
    bool public closed;
    mapping(bytes32 => uint256) private _tasks;

    constructor(IConsortium consortium_, INodeRegistry nodes_, IGrantRegistry grants_)
        Governed(consortium_)
        Signatures("Sealtrace TaskLedger")
    {
        nodes = nodes_;
        grants = grants_;
        if (nodes_.tells(address(this))) lapses = 1;
    }

    /// @inheritdoc ITaskLedger
    function create(TaskTerms calldata terms) external returns (bytes32 task) {
        if (closed) revert ClosedForNewTasks();
        nodes.requireActive(msg.sender, REQUESTER);
        address[] calldata parties = terms.parties;
        Use[] calldata uses = terms.uses;
        _requireShape(terms, parties, uses);
        task = _idOf(terms, parties);
        if (msg.sender != terms.requester) revert NotTheRequester(task, msg.sender, terms.requester);
        if (_tasks[task] != 0) revert TaskAlreadyKnown(task, statusOf(task));

        uint16 approved = _standingParties(parties, uses);
        bool authorized = approved == _all(parties);
        TaskStatus status = authorized ? TaskStatus.Authorized : TaskStatus.Created;
        uint32 seen = nodes.areActive(parties) ? lapses : 0;
        _store(task, Task(0, seen, terms.deadline, status, false, approved, 0, 0));

        _emitCreated(task, terms, parties, uses, approved);
        if (authorized) emit TaskAuthorized(task);
    }

    /// @inheritdoc ITaskLedger
    function approve(TaskKey calldata key) external {
        bytes32 task = _idOf(key);
        _approve(task, key, _indexOf(task, key.parties, msg.sender));
    }

    /// @inheritdoc ITaskLedger
    function approveSigned(TaskKey calldata key, uint8 party, Signed calldata signed) external {
        bytes32 task = _idOf(key);
        address signer = _partyAt(task, key.parties, party);
        _requireSigned(signer, keccak256(abi.encode(APPROVAL_TYPE, task, signed.validUntil)), signed);

        _approve(task, key, party);
    }

    /// @inheritdoc ITaskLedger
    function start(TaskTerms calldata terms, bytes32 inputCommitment) external {
        address[] calldata parties = terms.parties;
        bytes32 task = _idOf(terms, parties);
        uint256 index = _indexOf(task, parties, msg.sender);
        Task memory t = _startable(task, parties);

        _start(task, t, terms, parties, index, inputCommitment);
    }

    /// @inheritdoc ITaskLedger
    function startSigned(TaskTerms calldata terms, SignedStart[] calldata starts) external {
        address[] calldata parties = terms.parties;
        bytes32 task = _idOf(terms, parties);
        Task memory t = _startable(task, parties);
        if (starts.length == 0) revert NothingSigned();
        for (uint256 i; i < starts.length; ++i) {
            SignedStart calldata s = starts[i];
            address signer = _partyAt(task, parties, s.party);
            bytes32 said = keccak256(abi.encode(START_TYPE, task, s.inputCommitment, s.signed.validUntil));
            _requireSigned(signer, said, s.signed);

            _start(task, t, terms, parties, s.party, s.inputCommitment);
        }
    }

    /// @inheritdoc ITaskLedger
    function refuse(TaskKey calldata key, uint8 reason) external {
        bytes32 task = _idOf(key);
        _refuse(task, key, _indexOf(task, key.parties, msg.sender), reason);
    }

    /// @inheritdoc ITaskLedger
    function refuseSigned(TaskKey calldata key, uint8 party, uint8 reason, Signed calldata signed) external {
        bytes32 task = _idOf(key);
        address signer = _partyAt(task, key.parties, party);
        _requireSigned(signer, keccak256(abi.encode(REFUSAL_TYPE, task, reason, signed.validUntil)), signed);

        _refuse(task, key, party, reason);
    }

    /// @inheritdoc ITaskLedger
    function progress(TaskKey calldata key, uint8 step, uint16 permille) external {
        bytes32 task = _idOf(key);
        uint256 index = _indexOf(task, key.parties, msg.sender);
        Task memory t = _act(task, key.parties, index);
        _requireFrom(task, t.status, TaskStatus.Running, TaskStatus.Running);
        if (permille > 1000) revert InvalidProgress(permille);

        emit TaskProgress(task, msg.sender, step, permille);
    }

    /// @inheritdoc ITaskLedger
    function finish(TaskKey calldata key, bytes32 receipt, bytes32 result) external {
        bytes32 task = _idOf(key);
        address[] calldata parties = key.parties;
        uint256 index = _indexOf(task, parties, msg.sender);
        Task memory t = _act(task, parties, index);

        _finish(task, t, parties, index, receipt, result);
    }

    /// @inheritdoc ITaskLedger
    function finishSigned(TaskKey calldata key, SignedReceipt[] calldata receipts) external {
        bytes32 task = _idOf(key);
        if (receipts.length == 0) revert NothingSigned();
        Task memory t = _onRecord(task);
        for (uint256 i; i < receipts.length; ++i) {
            SignedReceipt calldata s = receipts[i];
            address signer = _partyAt(task, key.parties, s.party);
            bytes32 said = keccak256(abi.encode(RECEIPT_TYPE, task, s.receipt, s.result, s.signed.validUntil));
            _requireSigned(signer, said, s.signed);
            _requireActing(t, signer);

            _finish(task, t, key.parties, s.party, s.receipt, s.result);
        }
    }

    /// @inheritdoc ITaskLedger
    function fail(TaskKey calldata key, uint8 reason, Blame blame, address blamed) external {
        bytes32 task = _idOf(key);
        uint256 index = _indexOf(task, key.parties, msg.sender);
        Task memory t = _act(task, key.parties, index);
        _requireFrom(task, t.status, TaskStatus.Running, TaskStatus.Failed);
        if (t.finished & _bit(index) != 0) revert AlreadyFinished(task, msg.sender);
        if (reason == 0) revert ReasonMissing();
        _requireBlame(task, key.parties, blame, blamed);

        t.status = TaskStatus.Failed;
        _store(task, t);

        emit TaskFailed(task, msg.sender, reason, blame, blamed);
    }

    /// @inheritdoc ITaskLedger
    function cancel(TaskKey calldata key) external {
        bytes32 task = _idOf(key);
        Task memory t = _open(task, TaskStatus.Cancelled);
        if (msg.sender != key.requester) revert NotTheRequester(task, msg.sender, key.requester);

        t.status = TaskStatus.Cancelled;
        _store(task, t);

        emit TaskCancelled(task, msg.sender);
    }

    /// @inheritdoc ITaskLedger
    function stop(TaskKey calldata key) external {
        // No `_act`: an owner whose node was suspended must still be able to stop a run on its data.
        bytes32 task = _idOf(key);
        Task memory t = _open(task, TaskStatus.Cancelled);
        _indexOf(task, key.parties, msg.sender);
        _requireFrom(task, t.status, TaskStatus.Running, TaskStatus.Cancelled);

        t.status = TaskStatus.Cancelled;
        _store(task, t);

        emit TaskCancelled(task, msg.sender);
    }

    /// @inheritdoc ITaskLedger
    function acknowledge(TaskKey calldata key, bytes32 result) external {
        bytes32 task = _idOf(key);
        Task memory t = _load(task);
        if (t.status == TaskStatus.None) revert UnknownTask(task);
        if (msg.sender != key.requester) revert NotTheRequester(task, msg.sender, key.requester);
        _requireFrom(task, t.status, TaskStatus.Completed, TaskStatus.Completed);
        if (t.acknowledged) revert AlreadyAcknowledged(task);
        if (_mark(result) != t.agreed) revert ResultDiffers(task, result);

        t.acknowledged = true;
        _store(task, t);

        emit TaskAcknowledged(task, msg.sender, result);
    }

    /// @inheritdoc ITaskLedger
    function close() external onlyConsortium {
        if (closed) revert ClosedForNewTasks();

        closed = true;

        emit LedgerClosed(msg.sender);
    }

    /// @inheritdoc ITaskLedger
    function lapse() external {
        if (msg.sender != address(nodes)) revert OnlyNodeRegistry(msg.sender);

        ++lapses;
    }

    /// @inheritdoc ITaskLedger
    function statusOf(bytes32 task) public view returns (TaskStatus) {
        Task memory t = _load(task);
        return _isOpen(t.status) && block.timestamp >= t.deadline ? TaskStatus.Expired : t.status;
    }

    /// @inheritdoc ITaskLedger
    function taskOf(bytes32 task) external view returns (Task memory) {
        return _load(task);
    }

    /// @inheritdoc ITaskLedger
    function idOf(TaskTerms calldata t) public view returns (bytes32) {
        return _idOf(t, t.parties);
    }

    function _approve(bytes32 task, TaskKey calldata key, uint256 index) private {
        Task memory t = _act(task, key.parties, index);
        uint16 bit = _bit(index);
        if (t.approved & bit != 0) revert AlreadyApproved(task, key.parties[index]);
        _requireFrom(task, t.status, TaskStatus.Created, TaskStatus.Authorized);

        t.approved |= bit;
        bool authorized = t.approved == _all(key.parties);
        if (authorized) t.status = TaskStatus.Authorized;
        _store(task, t);

        emit TaskApproved(task, key.parties[index]);
        if (authorized) emit TaskAuthorized(task);
    }

    function _start(
        bytes32 task,
        Task memory t,
        TaskTerms calldata terms,
        address[] calldata parties,
        uint256 index,
        bytes32 inputCommitment
    ) private {
        address party = parties[index];
        uint16 bit = _bit(index);
        if (t.started & bit != 0) revert AlreadyStarted(task, party);
        _requireFrom(task, t.status, TaskStatus.Authorized, TaskStatus.Running);
        if (inputCommitment == 0) revert EmptyTerms();

        t.started |= bit;
        bool running = t.started == _all(parties);
        if (running) t.status = TaskStatus.Running;
        _store(task, t);
        _consume(task, terms, parties, index);

        emit TaskStarted(task, party, inputCommitment);
        if (running) emit TaskRunning(task);
    }

    function _refuse(bytes32 task, TaskKey calldata key, uint256 index, uint8 reason) private {
        Task memory t = _act(task, key.parties, index);
        if (t.status != TaskStatus.Created && t.status != TaskStatus.Authorized) {
            revert IllegalTransition(task, t.status, TaskStatus.Refused);
        }
        if (reason == 0) revert ReasonMissing();

        t.status = TaskStatus.Refused;
        _store(task, t);

        emit TaskRefused(task, key.parties[index], reason);
    }

    function _finish(
        bytes32 task,
        Task memory t,
        address[] calldata parties,
        uint256 index,
        bytes32 receipt,
        bytes32 result
    ) private {
        uint16 bit = _bit(index);
        if (t.finished & bit != 0) revert AlreadyFinished(task, parties[index]);
        _requireFrom(task, t.status, TaskStatus.Running, TaskStatus.Completed);
        uint128 mark = _mark(result);
        if (receipt == 0 || mark == 0 || mark == CONFLICT) revert EmptyTerms();

        t.agreed = t.agreed == 0 || t.agreed == mark ? mark : CONFLICT;
        t.finished |= bit;
        bool over = t.finished == _all(parties);
        if (over) t.status = t.agreed == CONFLICT ? TaskStatus.Disputed : TaskStatus.Completed;
        _store(task, t);

        emit TaskFinished(task, parties[index], receipt, result);
        if (t.status == TaskStatus.Disputed) emit TaskDisputed(task);
        if (t.status == TaskStatus.Completed) emit TaskCompleted(task, result);
    }

    /// @dev What every act of a party needs: an open task, and the party active.
    function _act(bytes32 task, address[] calldata parties, uint256 index) private view returns (Task memory t) {
        t = _onRecord(task);
        _requireActing(t, parties[index]);
    }

    function _requireActing(Task memory t, address party) private view {
        if (!_isFresh(t.seen)) nodes.requireActive(party, 0);
    }

    /// @dev A task that is not over, and all of its parties active.
    function _startable(bytes32 task, address[] calldata parties) private view returns (Task memory t) {
        t = _onRecord(task);
        if (_isFresh(t.seen)) return t;
        if (!nodes.areActive(parties)) revert PartyNotActive(task);
        t.seen = lapses;
    }

    /// @dev Whether nothing has lapsed since it was looked at. Zero: it never was, or nobody tells this ledger.
    function _isFresh(uint32 seen) private view returns (bool) {
        return seen != 0 && seen == lapses;
    }

    /// @dev By hand, because the compiler reads and writes a slot once for each field.
    function _load(bytes32 task) private view returns (Task memory t) {
        uint256 word = _tasks[task];
        t.agreed = uint128(word);
        t.seen = uint32(word >> 128);
        t.deadline = uint32(word >> 160);
        t.status = TaskStatus(uint8(word >> 192));
        t.acknowledged = uint8(word >> 200) != 0;
        t.approved = uint16(word >> 208);
        t.started = uint16(word >> 224);
        t.finished = uint16(word >> 240);
    }

    function _store(bytes32 task, Task memory t) private {
        _tasks[task] = uint256(t.agreed) | uint256(t.seen) << 128 | uint256(t.deadline) << 160
            | uint256(t.status) << 192 | uint256(t.acknowledged ? 1 : 0) << 200 | uint256(t.approved) << 208
            | uint256(t.started) << 224 | uint256(t.finished) << 240;
    }

    function _onRecord(bytes32 task) private view returns (Task memory t) {
        t = _load(task);
        if (t.status == TaskStatus.None) revert UnknownTask(task);
        if (_isOpen(t.status) && block.timestamp >= t.deadline) revert TaskExpired(task, t.deadline);
    }

    function _open(bytes32 task, TaskStatus to) private view returns (Task memory t) {
        t = _onRecord(task);
        if (!_isOpen(t.status)) revert IllegalTransition(task, t.status, to);
    }

    function _requireFrom(bytes32 task, TaskStatus status, TaskStatus from, TaskStatus to) private pure {
        if (status != from) revert IllegalTransition(task, status, to);
    }

    function _requireShape(TaskTerms calldata terms, address[] calldata parties, Use[] calldata uses) private view {
        uint256 n = parties.length;
        if (terms.spec == 0 || terms.purpose == 0 || terms.protections == 0) revert EmptyTerms();
        if (terms.deadline <= block.timestamp) revert DeadlinePassed(terms.deadline);
        if (n == 0 || n > MAX_PARTIES) revert WrongNumberOfParties(n);
        address previous; // so that the first party is not zero either
        for (uint256 i; i < n; ++i) {
            if (parties[i] <= previous) revert PartiesNotAscending(i);
            previous = parties[i];
        }
        uint256 m = uses.length;
        if (m == 0 || m > MAX_USES) revert WrongNumberOfUses(m);
        for (uint256 i; i < m; ++i) {
            Use calldata u = uses[i];
            if (u.party >= n) revert NoSuchParty(i, u.party);
            for (uint256 j; j < i; ++j) {
                if (uses[j].grant == u.grant) revert GrantNamedTwice(i, u.grant);
            }
        }
    }

    function _requireBlame(bytes32 task, address[] calldata parties, Blame blame, address blamed) private view {
        if (blame == Blame.Party) {
            _indexOf(task, parties, blamed);
            if (blamed == msg.sender) revert BlameMismatch(blame, blamed);
        } else if (blamed != address(0)) {
            revert BlameMismatch(blame, blamed);
        }
    }

    /// @dev The parties none of whose grants asks for approval; a party with no data stands by itself.
    function _standingParties(address[] calldata parties, Use[] calldata uses) private view returns (uint16 approved) {
        bytes32[] memory named = new bytes32[](uses.length);
        for (uint256 i; i < uses.length; ++i) named[i] = uses[i].grant;
        uint256 standing = grants.standing(named);
        approved = _all(parties);
        if (standing == (1 << uses.length) - 1) return approved;
        for (uint256 i; i < uses.length; ++i) {
            if (standing >> i & 1 == 0) approved &= ~_bit(uses[i].party);
        }
    }

    function _consume(bytes32 task, TaskTerms calldata terms, address[] calldata parties, uint256 index) private {
        Use[] calldata uses = terms.uses;
        address party = parties[index];
        for (uint256 i; i < uses.length; ++i) {
            Use calldata u = uses[i];
            if (u.party != index) continue;
            Request memory request = Request(
                party, u.dataset, u.algorithm, terms.requester, terms.purpose, terms.protections, u.epsilon
            );
            grants.consume(u.grant, request, parties, task, lapses);
        }
    }

    function _emitCreated(
        bytes32 task,
        TaskTerms calldata terms,
        address[] calldata parties,
        Use[] calldata uses,
        uint16 approved
    ) private {
        emit TaskCreated(
            task,
            msg.sender,
            terms.spec,
            terms.purpose,
            terms.protections,
            terms.deadline,
            uint8(parties.length),
            uint8(uses.length),
            approved
        );
        uint256 named;
        for (uint256 i; i < uses.length; ++i) {
            Use calldata u = uses[i];
            named |= _bit(u.party);
            emit TaskUseNamed(task, parties[u.party], u.epsilon, u.dataset, u.algorithm, u.grant);
        }
        if (named == _all(parties)) return;
        for (uint256 i; i < parties.length; ++i) {
            if (named & _bit(i) == 0) emit TaskPartyNamed(task, parties[i]);
        }
    }

    function _indexOf(bytes32 task, address[] calldata parties, address who) private pure returns (uint256) {
        for (uint256 i; i < parties.length; ++i) {
            if (parties[i] == who) return i;
        }
        revert NotAParty(task, who);
    }

    function _partyAt(bytes32 task, address[] calldata parties, uint8 index) private pure returns (address) {
        if (index >= parties.length) revert NotAParty(task, address(0));
        return parties[index];
    }

    function _idOf(TaskTerms calldata t, address[] calldata parties) private view returns (bytes32) {
        bytes32 uses = _hash(t.uses);
        return _id(t.requester, keccak256(abi.encode(t.spec, t.purpose, t.protections, t.deadline, uses)), parties);
    }

    function _idOf(TaskKey calldata key) private view returns (bytes32) {
        return _id(key.requester, key.terms, key.parties);
    }

    function _id(address requester, bytes32 terms, address[] calldata parties) private view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), requester, terms, _hash(parties)));
    }

    /// @dev `keccak256(abi.encodePacked(parties))`, taken from the call's own bytes: what is not clean in
    /// them cannot be read as an address later, and gives no id that a clean call could give.
    function _hash(address[] calldata parties) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            let size := shl(5, parties.length)
            calldatacopy(free, parties.offset, size)
            hash := keccak256(free, size)
        }
    }

    /// @dev The same over the words of the uses, five for each.
    function _hash(Use[] calldata uses) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            let size := mul(160, uses.length)
            calldatacopy(free, uses.offset, size)
            hash := keccak256(free, size)
        }
    }

    function _isOpen(TaskStatus status) private pure returns (bool) {
        return
            status == TaskStatus.Created || status == TaskStatus.Authorized || status == TaskStatus.Running;
    }

    function _mark(bytes32 result) private pure returns (uint128) {
        return uint128(bytes16(result));
    }

    function _bit(uint256 index) private pure returns (uint16) {
        return uint16(1) << uint16(index);
    }

    function _all(address[] calldata parties) private pure returns (uint16) {
        return uint16((uint256(1) << parties.length) - 1);
    }
}
