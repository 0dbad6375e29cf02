// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Blame, Signed, SignedReceipt, SignedStart, TaskKey, TaskStatus, TaskTerms} from "../Types.sol";

/// @title The life of every task, from its creation to its end
/// @notice
///     Created -> Authorized -> Running -> Completed | Failed | Disputed
///     Created | Authorized -> Refused | Cancelled | (Expired);  Running -> Cancelled | (Expired)
/// A task is Authorized when no grant it names asks for approval, or the owners have approved; it is Running
/// when every party has started it. What reverts does not run.
/// A task's id commits to all it is, so the ledger keeps one word of it, and callers hand the rest back:
/// other terms are another task. A party acts directly, or signs (EIP-712, domain "Sealtrace TaskLedger",
/// version "1") what anybody may then submit, with the same effect. No signature works twice: each act
/// leaves the state it needs. `multicall` takes many acts in one transaction.
interface ITaskLedger {
    /// @dev One slot. The masks carry one bit for each party, by its index. `agreed` is the first 128 bits
    /// of the result digest that the parties agree on so far: zero before the first, all ones once two differ.
    /// `seen` is what `lapses` was when all parties were last looked at and found active; zero: never.
    struct Task {
        uint128 agreed;
        uint32 seen;
        uint32 deadline;
        TaskStatus status;
        bool acknowledged;
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
    event TaskUseNamed(
        bytes32 indexed task,
        address indexed party,
        uint48 epsilon,
        bytes32 dataset,
        bytes32 algorithm,
        bytes32 grant
    );
    event TaskPartyNamed(bytes32 indexed task, address indexed party);
    event TaskApproved(bytes32 indexed task, address indexed party);
    event TaskAuthorized(bytes32 indexed task);
    event TaskStarted(bytes32 indexed task, address indexed party, bytes32 inputCommitment);
    event TaskRunning(bytes32 indexed task);
    event TaskProgress(bytes32 indexed task, address indexed party, uint8 step, uint16 permille);
    event TaskRefused(bytes32 indexed task, address indexed party, uint8 reason);
    event TaskFinished(bytes32 indexed task, address indexed party, bytes32 receipt, bytes32 result);
    event TaskCompleted(bytes32 indexed task, bytes32 result);
    event TaskDisputed(bytes32 indexed task);
    event TaskFailed(bytes32 indexed task, address indexed party, uint8 reason, Blame blame, address blamed);
    event TaskCancelled(bytes32 indexed task, address indexed by);
    event TaskAcknowledged(bytes32 indexed task, address indexed requester, bytes32 result);
    event LedgerClosed(address by);

    error TaskAlreadyKnown(bytes32 task, TaskStatus status);
    error UnknownTask(bytes32 task);
    error IllegalTransition(bytes32 task, TaskStatus from, TaskStatus to);
    error TaskExpired(bytes32 task, uint32 deadline);
    error NotAParty(bytes32 task, address caller);
    error NotTheRequester(bytes32 task, address caller, address requester);
    error AlreadyApproved(bytes32 task, address party);
    error AlreadyStarted(bytes32 task, address party);
    error AlreadyFinished(bytes32 task, address party);
    error AlreadyAcknowledged(bytes32 task);
    error ResultDiffers(bytes32 task, bytes32 result);
    error PartyNotActive(bytes32 task);
    error WrongNumberOfParties(uint256 parties);
    error PartiesNotAscending(uint256 index);
    error WrongNumberOfUses(uint256 uses);
    error NoSuchParty(uint256 use, uint8 party);
    error GrantNamedTwice(uint256 use, bytes32 grant);
    error DeadlinePassed(uint32 deadline);
    error EmptyTerms();
    error NothingSigned();
    error ReasonMissing();
    error InvalidProgress(uint16 permille);
    error BlameMismatch(Blame blame, address blamed);
    error ClosedForNewTasks();
    error OnlyNodeRegistry(address caller);

    /// @notice Puts a task on record. Only its requester; the same terms are taken once, and a
    /// task names a grant once: it spends one use of it, however many steps share that use.
    /// @return task its id, see `idOf`
    function create(TaskTerms calldata terms) external returns (bytes32 task);

    /// @notice A party agrees to the task where its grant asks for approval of each one.
    function approve(TaskKey calldata key) external;

    /// @notice The same for the party at index `party`, which signed `Approval(bytes32 task,uint40 validUntil)`.
    function approveSigned(TaskKey calldata key, uint8 party, Signed calldata signed) external;

    /// @notice A party starts its part: every grant of its own that the task names is checked at this
    /// block and spends one use. The last start sets the task running.
    /// @dev Warning: a use spent here stays spent when another party refuses afterwards.
    /// @param inputCommitment SHA-256 over what the party will put in, see `protocol/receipt.py`
    function start(TaskTerms calldata terms, bytes32 inputCommitment) external;

    /// @notice The same for parties that signed
    /// `Start(bytes32 task,bytes32 inputCommitment,uint40 validUntil)`; all of them or none.
    function startSigned(TaskTerms calldata terms, SignedStart[] calldata starts) external;

    /// @notice A party declines, with a reason code from `Denial` or from the node's own list.
    function refuse(TaskKey calldata key, uint8 reason) external;

    /// @notice The same for the party at index `party`, which signed
    /// `Refusal(bytes32 task,uint8 reason,uint40 validUntil)`.
    function refuseSigned(TaskKey calldata key, uint8 party, uint8 reason, Signed calldata signed) external;

    /// @notice A party says that it is alive and how far it is: step of the specification, thousandths of it.
    /// @dev Warning: a word, not a proof. Nothing depends on it.
    function progress(TaskKey calldata key, uint8 step, uint16 permille) external;

    /// @notice A party reports its part done. The last one completes the task, or disputes it where the
    /// parties' result digests differ.
    function finish(TaskKey calldata key, bytes32 receipt, bytes32 result) external;

    /// @notice The same for parties that signed
    /// `Receipt(bytes32 task,bytes32 receipt,bytes32 result,uint40 validUntil)`; all of them or none.
    function finishSigned(TaskKey calldata key, SignedReceipt[] calldata receipts) external;

    /// @notice A party reports that the run failed, with a reason and as much blame as it can prove.
    /// A party that has finished cannot say so any more: what it reported stands.
    function fail(TaskKey calldata key, uint8 reason, Blame blame, address blamed) external;

    /// @notice The requester gives the task up before its end.
    function cancel(TaskKey calldata key) external;

    /// @notice A party stops a running task: a data owner may do so at any time.
    function stop(TaskKey calldata key) external;

    /// @notice The requester says, once, that it opened the result it asked for.
    function acknowledge(TaskKey calldata key, bytes32 result) external;

    /// @notice Takes no new task from now on; those on record go on to their end. By vote of the consortium.
    function close() external;

    /// @notice Counts one lapse: something that was allowed is so no more. Only the node registry tells it.
    function lapse() external;

    /// @notice How many lapses this ledger has heard of, counted from one. What was looked at and found active
    /// is not looked at again before the next. Zero: nobody tells this ledger, and it looks at everything.
    function lapses() external view returns (uint32);

    /// @notice The state of `task` at this block's time. `Expired` is derived here and nowhere else.
    function statusOf(bytes32 task) external view returns (TaskStatus);

    /// @notice The stored record of `task`; status `None` when it was never created.
    function taskOf(bytes32 task) external view returns (Task memory);

    /// @notice The id of the task with these terms on this chain and ledger:
    /// `keccak256(abi.encode(chainid, ledger, requester, terms, keccak256(abi.encodePacked(parties))))`,
    /// with `terms` as in `TaskKey`.
    function idOf(TaskTerms calldata terms) external view returns (bytes32);
}
