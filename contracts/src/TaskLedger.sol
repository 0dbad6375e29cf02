// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IGrantRegistry} from "./interfaces/IGrantRegistry.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {ITaskLedger} from "./interfaces/ITaskLedger.sol";
import {Blame, Request, TaskStatus, TaskTerms, Use} from "./Types.sol";

/// @title The implementation of `ITaskLedger`, which is its manual
contract TaskLedger is ITaskLedger {
    uint8 private constant REQUESTER = 4;
    uint256 private constant MAX_PARTIES = 16;
    uint256 private constant MAX_USES = 64;
    bytes32 private constant CONFLICT = bytes32(type(uint256).max);

    INodeRegistry public immutable nodes;
    IGrantRegistry public immutable grants;

    mapping(bytes32 => Task) private _tasks;
    mapping(bytes32 => bytes32) private _terms;
    mapping(bytes32 => bytes32) private _results;

    constructor(INodeRegistry nodes_, IGrantRegistry grants_) {
        nodes = nodes_;
        grants = grants_;
    }

    /// @inheritdoc ITaskLedger
    function create(TaskTerms calldata terms) external returns (bytes32 task) {
        nodes.requireActive(msg.sender, REQUESTER);
        _requireShape(terms);
        task = idOf(msg.sender, terms.spec);
        if (_tasks[task].status != TaskStatus.None) revert TaskAlreadyKnown(task, statusOf(task));

        uint8 n = uint8(terms.parties.length);
        uint16 approved = _standingParties(terms);
        bool authorized = approved == _all(n);
        TaskStatus status = authorized ? TaskStatus.Authorized : TaskStatus.Created;
        _tasks[task] = Task(msg.sender, terms.deadline, status, n, approved, 0, 0);
        _terms[task] = _hash(terms);

        _emitCreated(task, terms, approved);
        if (authorized) emit TaskAuthorized(task);
    }

    /// @inheritdoc ITaskLedger
    function approve(bytes32 task, TaskTerms calldata terms) external {
        (Task memory t, uint16 bit) = _act(task, terms);
        if (t.approved & bit != 0) revert AlreadyApproved(task, msg.sender);
        _requireFrom(task, t.status, TaskStatus.Created, TaskStatus.Authorized);

        t.approved |= bit;
        bool authorized = t.approved == _all(t.parties);
        if (authorized) t.status = TaskStatus.Authorized;
        _tasks[task] = t;

        emit TaskApproved(task, msg.sender);
        if (authorized) emit TaskAuthorized(task);
    }

    /// @inheritdoc ITaskLedger
    function start(bytes32 task, TaskTerms calldata terms, bytes32 inputCommitment) external {
        (Task memory t, uint16 bit) = _act(task, terms);
        if (t.started & bit != 0) revert AlreadyStarted(task, msg.sender);
        _requireFrom(task, t.status, TaskStatus.Authorized, TaskStatus.Running);
        if (inputCommitment == 0) revert EmptyTerms();
        if (!nodes.areActive(terms.parties)) revert PartyNotActive(task);

        t.started |= bit;
        bool running = t.started == _all(t.parties);
        if (running) t.status = TaskStatus.Running;
        _tasks[task] = t;
        _consume(task, t.requester, terms);

        emit TaskStarted(task, msg.sender, inputCommitment);
        if (running) emit TaskRunning(task);
    }

    /// @inheritdoc ITaskLedger
    function refuse(bytes32 task, TaskTerms calldata terms, uint8 reason) external {
        (Task memory t,) = _act(task, terms);
        if (t.status != TaskStatus.Created && t.status != TaskStatus.Authorized) {
            revert IllegalTransition(task, t.status, TaskStatus.Refused);
        }
        if (reason == 0) revert ReasonMissing();

        _tasks[task].status = TaskStatus.Refused;

        emit TaskRefused(task, msg.sender, reason);
    }

    /// @inheritdoc ITaskLedger
    function finish(bytes32 task, TaskTerms calldata terms, bytes32 receipt, bytes32 result) external {
        (Task memory t, uint16 bit) = _act(task, terms);
        if (t.finished & bit != 0) revert AlreadyFinished(task, msg.sender);
        _requireFrom(task, t.status, TaskStatus.Running, TaskStatus.Completed);
        if (receipt == 0 || result == 0 || result == CONFLICT) revert EmptyTerms();

        bytes32 agreed = _agree(task, result);
        t.finished |= bit;
        bool over = t.finished == _all(t.parties);
        if (over) t.status = agreed == CONFLICT ? TaskStatus.Disputed : TaskStatus.Completed;
        _tasks[task] = t;

        emit TaskFinished(task, msg.sender, receipt, result);
        if (over && agreed == CONFLICT) emit TaskDisputed(task);
        else if (over) emit TaskCompleted(task, result);
    }

    /// @inheritdoc ITaskLedger
    function fail(bytes32 task, TaskTerms calldata terms, uint8 reason, Blame blame, address blamed) external {
        (Task memory t, uint16 bit) = _act(task, terms);
        _requireFrom(task, t.status, TaskStatus.Running, TaskStatus.Failed);
        if (t.finished & bit != 0) revert AlreadyFinished(task, msg.sender);
        if (reason == 0) revert ReasonMissing();
        _requireBlame(task, terms, blame, blamed);

        _tasks[task].status = TaskStatus.Failed;

        emit TaskFailed(task, msg.sender, reason, blame, blamed);
    }

    /// @inheritdoc ITaskLedger
    function cancel(bytes32 task) external {
        Task memory t = _open(task, TaskStatus.Cancelled);
        if (msg.sender != t.requester) revert NotTheRequester(task, msg.sender, t.requester);

        _tasks[task].status = TaskStatus.Cancelled;

        emit TaskCancelled(task, msg.sender);
    }

    /// @inheritdoc ITaskLedger
    function stop(bytes32 task, TaskTerms calldata terms) external {
        // No `_act`: an owner whose node was suspended must still be able to stop a run on its data.
        Task memory t = _open(task, TaskStatus.Cancelled);
        _requireTerms(task, terms);
        _bitOf(task, terms.parties);
        _requireFrom(task, t.status, TaskStatus.Running, TaskStatus.Cancelled);

        _tasks[task].status = TaskStatus.Cancelled;

        emit TaskCancelled(task, msg.sender);
    }

    /// @inheritdoc ITaskLedger
    function statusOf(bytes32 task) public view returns (TaskStatus) {
        Task storage t = _tasks[task];
        bool open = t.status == TaskStatus.Created || t.status == TaskStatus.Authorized
            || t.status == TaskStatus.Running;
        return open && block.timestamp >= t.deadline ? TaskStatus.Expired : t.status;
    }

    /// @inheritdoc ITaskLedger
    function taskOf(bytes32 task) external view returns (Task memory) {
        return _tasks[task];
    }

    /// @inheritdoc ITaskLedger
    function termsOf(bytes32 task) external view returns (bytes32) {
        return _terms[task];
    }

    /// @inheritdoc ITaskLedger
    function resultOf(bytes32 task) external view returns (bytes32) {
        return _results[task];
    }

    /// @inheritdoc ITaskLedger
    function idOf(address requester, bytes32 spec) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), requester, spec));
    }

    /// @dev What every act of a party needs: an open task, the terms on record, an active party of it.
    function _act(bytes32 task, TaskTerms calldata terms) private view returns (Task memory t, uint16 bit) {
        t = _tasks[task];
        if (t.status == TaskStatus.None) revert UnknownTask(task);
        if (statusOf(task) == TaskStatus.Expired) revert TaskExpired(task, t.deadline);
        _requireTerms(task, terms);
        bit = _bitOf(task, terms.parties);
        nodes.requireActive(msg.sender, 0);
    }

    function _open(bytes32 task, TaskStatus to) private view returns (Task memory t) {
        t = _tasks[task];
        if (t.status == TaskStatus.None) revert UnknownTask(task);
        if (t.status > TaskStatus.Running) revert IllegalTransition(task, t.status, to);
        if (block.timestamp >= t.deadline) revert TaskExpired(task, t.deadline);
    }

    function _requireFrom(bytes32 task, TaskStatus status, TaskStatus from, TaskStatus to) private pure {
        if (status != from) revert IllegalTransition(task, status, to);
    }

    function _requireTerms(bytes32 task, TaskTerms calldata terms) private view {
        bytes32 given = _hash(terms);
        if (given != _terms[task]) revert TermsDiffer(task, given, _terms[task]);
    }

    function _requireShape(TaskTerms calldata terms) private view {
        uint256 n = terms.parties.length;
        if (terms.spec == 0 || terms.purpose == 0 || terms.protections == 0) revert EmptyTerms();
        if (terms.deadline <= block.timestamp) revert DeadlinePassed(terms.deadline);
        if (n == 0 || n > MAX_PARTIES) revert WrongNumberOfParties(n);
        address previous; // so that the first party is not zero either
        for (uint256 i; i < n; ++i) {
            if (terms.parties[i] <= previous) revert PartiesNotAscending(i);
            previous = terms.parties[i];
        }
        if (terms.uses.length == 0 || terms.uses.length > MAX_USES) revert WrongNumberOfUses(terms.uses.length);
        for (uint256 i; i < terms.uses.length; ++i) {
            Use calldata u = terms.uses[i];
            if (u.party >= n) revert NoSuchParty(i, u.party);
            for (uint256 j; j < i; ++j) {
                if (terms.uses[j].grant == u.grant) revert GrantNamedTwice(i, u.grant);
            }
        }
    }

    function _requireBlame(bytes32 task, TaskTerms calldata terms, Blame blame, address blamed) private view {
        if (blame == Blame.Party) {
            _indexOf(task, terms.parties, blamed);
            if (blamed == msg.sender) revert BlameMismatch(blame, blamed);
        } else if (blamed != address(0)) {
            revert BlameMismatch(blame, blamed);
        }
    }

    /// @dev The parties all of whose grants stand without approval; a party with no data stands by itself.
    function _standingParties(TaskTerms calldata terms) private view returns (uint16 approved) {
        approved = _all(uint8(terms.parties.length));
        for (uint256 i; i < terms.uses.length; ++i) {
            Use calldata u = terms.uses[i];
            if (!grants.isStanding(u.grant, terms.parties[u.party], msg.sender)) approved &= ~(uint16(1) << u.party);
        }
    }

    function _consume(bytes32 task, address requester, TaskTerms calldata terms) private {
        for (uint256 i; i < terms.uses.length; ++i) {
            Use calldata u = terms.uses[i];
            if (terms.parties[u.party] != msg.sender) continue;
            Request memory request =
                Request(msg.sender, u.dataset, u.algorithm, requester, terms.purpose, terms.protections);
            grants.consume(u.grant, request, task);
        }
    }

    /// @dev Keeps the digest all agree on; once two differ, `CONFLICT` stays.
    function _agree(bytes32 task, bytes32 result) private returns (bytes32 agreed) {
        agreed = _results[task];
        if (agreed == result) return agreed;
        agreed = agreed == 0 ? result : CONFLICT;
        _results[task] = agreed;
    }

    function _emitCreated(bytes32 task, TaskTerms calldata terms, uint16 approved) private {
        emit TaskCreated(
            task,
            msg.sender,
            terms.spec,
            terms.purpose,
            terms.protections,
            terms.deadline,
            uint8(terms.parties.length),
            uint8(terms.uses.length),
            approved
        );
        for (uint8 i; i < terms.parties.length; ++i) emit TaskPartyNamed(task, terms.parties[i], i);
        for (uint8 i; i < terms.uses.length; ++i) {
            Use calldata u = terms.uses[i];
            emit TaskUseNamed(task, i, u.party, u.dataset, u.algorithm, u.grant);
        }
    }

    function _bitOf(bytes32 task, address[] calldata parties) private view returns (uint16) {
        return uint16(1) << uint16(_indexOf(task, parties, msg.sender));
    }

    function _indexOf(bytes32 task, address[] calldata parties, address who) private pure returns (uint256) {
        for (uint256 i; i < parties.length; ++i) {
            if (parties[i] == who) return i;
        }
        revert NotAParty(task, who);
    }

    function _all(uint8 n) private pure returns (uint16) {
        return uint16((uint256(1) << n) - 1);
    }

    function _hash(TaskTerms calldata terms) private pure returns (bytes32) {
        return keccak256(abi.encode(terms));
    }
}
