// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Blame, Denial, TaskStatus, TaskTerms} from "../Types.sol";

/// @title The life of every task, from its creation to its end
/// @notice
///     Created -> Authorized -> Running -> Completed | Failed | Disputed
///     Created | Authorized -> Refused | Cancelled | (Expired);  Running -> Cancelled | (Expired)
/// A task is Authorized when every owner's grant stands, or the owner has approved the task; it is Running
/// when every party has started it. What reverts does not run.
interface ITaskLedger {
    /// @dev One slot. The masks carry one bit for each party, by its index.
    struct Task {
        address requester;
        uint32 deadline;
        TaskStatus status;
        uint8 parties;
        uint16 approved;
        uint16 started;
        uint16 finished;
    }

    event TaskCreated(
        bytes32 indexed task,
        address indexed requester,
        bytes32 spec,
        bytes32 purpose,
        uint16 protections,
        uint32 deadline,
        uint8 parties,
        uint8 uses,
        uint16 approved
    );
    event TaskPartyNamed(bytes32 indexed task, address indexed party, uint8 index);
    event TaskUseNamed(
        bytes32 indexed task, uint8 index, uint8 party, bytes32 dataset, bytes32 algorithm, bytes32 grant
    );
    event TaskApproved(bytes32 indexed task, address indexed party);
    event TaskAuthorized(bytes32 indexed task);
    event TaskStarted(bytes32 indexed task, address indexed party, bytes32 inputCommitment);
    event TaskRunning(bytes32 indexed task);
    event TaskRefused(bytes32 indexed task, address indexed party, uint8 reason);
    event TaskFinished(bytes32 indexed task, address indexed party, bytes32 receipt, bytes32 result);
    event TaskCompleted(bytes32 indexed task, bytes32 result);
    event TaskDisputed(bytes32 indexed task);
    event TaskFailed(bytes32 indexed task, address indexed party, uint8 reason, Blame blame, address blamed);
    event TaskCancelled(bytes32 indexed task, address indexed by);

    error TaskAlreadyKnown(bytes32 task, TaskStatus status);
    error UnknownTask(bytes32 task);
    error TermsDiffer(bytes32 task, bytes32 given, bytes32 recorded);
    error IllegalTransition(bytes32 task, TaskStatus from, TaskStatus to);
    error TaskExpired(bytes32 task, uint32 deadline);
    error NotAParty(bytes32 task, address caller);
    error NotTheRequester(bytes32 task, address caller, address requester);
    error AlreadyApproved(bytes32 task, address party);
    error AlreadyStarted(bytes32 task, address party);
    error AlreadyFinished(bytes32 task, address party);
    error PartyNotActive(bytes32 task);
    error WrongNumberOfParties(uint256 parties);
    error PartiesNotAscending(uint256 index);
    error WrongNumberOfUses(uint256 uses);
    error NoSuchParty(uint256 use, uint8 party);
    error GrantNamedTwice(uint256 use, bytes32 grant);
    error DeadlinePassed(uint32 deadline);
    error EmptyTerms();
    error ReasonMissing();
    error BlameMismatch(Blame blame, address blamed);

    /// @notice Puts a task on record. The caller is its requester; the same spec is taken once, and a
    /// task names a grant once: it spends one use of it, however many steps share that use.
    /// @return task its id, `keccak256(abi.encode(chainid, ledger, requester, spec))`
    function create(TaskTerms calldata terms) external returns (bytes32 task);

    /// @notice A party agrees to the task where its grant asks for approval of each one.
    function approve(bytes32 task, TaskTerms calldata terms) external;

    /// @notice A party starts its part: every grant of its own that the task names is checked at this
    /// block and spends one use. The last start sets the task running.
    /// @dev Warning: a use spent here stays spent when another party refuses afterwards.
    /// @param inputCommitment SHA-256 over what the party will put in, see `protocol/receipt.py`
    function start(bytes32 task, TaskTerms calldata terms, bytes32 inputCommitment) external;

    /// @notice A party declines, with a reason code from `Denial` or from the node's own list.
    function refuse(bytes32 task, TaskTerms calldata terms, uint8 reason) external;

    /// @notice A party reports its part done. The last one completes the task, or disputes it where the
    /// parties' result digests differ.
    function finish(bytes32 task, TaskTerms calldata terms, bytes32 receipt, bytes32 result) external;

    /// @notice A party reports that the run failed, with a reason and as much blame as it can prove.
    /// A party that has finished cannot say so any more: what it reported stands.
    function fail(bytes32 task, TaskTerms calldata terms, uint8 reason, Blame blame, address blamed) external;

    /// @notice The requester gives the task up before its end.
    function cancel(bytes32 task) external;

    /// @notice A party stops a running task: a data owner may do so at any time.
    function stop(bytes32 task, TaskTerms calldata terms) external;

    /// @notice The state of `task` at this block's time. `Expired` is derived here and nowhere else.
    function statusOf(bytes32 task) external view returns (TaskStatus);

    /// @notice The stored record of `task`; status `None` when it was never created.
    function taskOf(bytes32 task) external view returns (Task memory);

    /// @notice The hash of the terms of `task`, `keccak256(abi.encode(terms))`.
    function termsOf(bytes32 task) external view returns (bytes32);

    /// @notice The result digest the parties agree on so far; all ones once two of them differ.
    function resultOf(bytes32 task) external view returns (bytes32);

    /// @notice The id that `requester` gets for `spec` on this chain and ledger.
    function idOf(address requester, bytes32 spec) external view returns (bytes32);
}
