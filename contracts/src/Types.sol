// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @dev One word each, the same in the contracts, in Python, in the API and in the documents.
/// Zero is always "there is no such thing", so that an empty slot never reads as a permission.

enum NodeStatus {
    None,
    Active,
    Suspended,
    Retired
}

/// @dev Superseded: the owner registered a later version. Grants in being still run, none is issued.
enum DatasetStatus {
    None,
    Active,
    Withdrawn,
    Superseded
}

/// @dev The grades of GB/T 43697-2024: general, important, core.
enum DataClass {
    General,
    Important,
    Core
}

/// @dev Proposed: the reviewers its provider named have not all agreed yet.
enum AlgorithmStatus {
    None,
    Active,
    Suspended,
    Revoked,
    Proposed,
    Rejected
}

enum ReviewStatus {
    None,
    Asked,
    Agreed,
    Declined
}

/// @dev Open, Passed, Rejected, Expired and Stale are derived by `Consortium.statusOf`; none is stored.
enum ProposalStatus {
    None,
    Open,
    Passed,
    Rejected,
    Executed,
    Expired,
    Stale
}

enum GrantStatus {
    None,
    Pending,
    Active,
    Expired,
    Exhausted,
    Revoked
}

/// @dev `Expired` is derived from time by `TaskLedger.statusOf` and never stored.
enum TaskStatus {
    None,
    Created,
    Authorized,
    Running,
    Completed,
    Failed,
    Disputed,
    Refused,
    Cancelled,
    Expired
}

/// @dev Why the chain does not let a task start; `GrantRegistry.denialOf` gives the first that applies.
/// Codes from 32 on are reasons only a node can see (its own disk, its own operator): they are
/// recorded by `refuse` and named in `protocol/denial.py`.
enum Denial {
    None,
    UnknownGrant,
    WrongOwner,
    WrongDataset,
    WrongAlgorithm,
    WrongRequester,
    WrongPurpose,
    GrantRevoked,
    GrantNotYetValid,
    GrantExpired,
    GrantExhausted,
    ProtectionNotAllowed,
    RequesterNotActive,
    DatasetNotActive,
    AlgorithmNotActive,
    PartyNotActive,
    EpsilonNotCovered,
    ParticipantNotAllowed
}

/// @dev How far the blame for a failure reaches, as far as the node that reports it can tell.
enum Blame {
    Nobody,
    Reporter,
    Party,
    SomeParty
}

/// @notice What a grant allows. Times are Unix seconds, `epsilon` is in millionths (0: no budget is set).
/// `participants` are those who may be parties of a task beside the owner, in strictly ascending order;
/// none named: anybody.
struct GrantTerms {
    bytes32 dataset;
    bytes32 algorithm;
    address requester;
    bytes32 purpose;
    uint32 uses;
    uint40 notBefore;
    uint40 expiresAt;
    uint16 protections;
    bool approvalRequired;
    uint48 epsilon;
    address[] participants;
}

/// @notice What one `start` asks of one grant.
struct Request {
    address owner;
    bytes32 dataset;
    bytes32 algorithm;
    address requester;
    bytes32 purpose;
    uint16 protections;
    uint48 epsilon;
}

/// @notice One dataset put under one algorithm, by the party at index `party`, under one grant, for
/// `epsilon` millionths of its privacy budget (0 only where the grant sets none).
struct Use {
    uint8 party;
    uint48 epsilon;
    bytes32 dataset;
    bytes32 algorithm;
    bytes32 grant;
}

/// @notice What a task is. The ledger keeps none of it: the task's id commits to it, and callers hand it
/// back. `spec` is the SHA-256 of the canonical task specification, `purpose` that of the purpose in words.
/// `parties` are in strictly ascending order; a party's index is its rank in the computation.
struct TaskTerms {
    address requester;
    bytes32 spec;
    bytes32 purpose;
    uint16 protections;
    uint32 deadline;
    address[] parties;
    Use[] uses;
}

/// @notice What the ledger needs to know a task and its parties by where the uses do not matter:
/// `terms` is `keccak256(abi.encode(spec, purpose, protections, deadline, hash of the uses' words))`.
struct TaskKey {
    address requester;
    bytes32 terms;
    address[] parties;
}

/// @notice A signature that anybody may submit until `validUntil` (Unix seconds), in the short form of
/// ERC-2098: `vs` is `s` with the parity of `v` in its highest bit.
struct Signed {
    uint40 validUntil;
    bytes32 r;
    bytes32 vs;
}

/// @notice The start of the party at index `party`, as it signed it.
struct SignedStart {
    uint8 party;
    bytes32 inputCommitment;
    Signed signed;
}

/// @notice The receipt of the party at index `party`, as it signed it.
struct SignedReceipt {
    uint8 party;
    bytes32 receipt;
    bytes32 result;
    Signed signed;
}

/// @notice One step of the consortium's will: a call that its contract makes once the members agree.
struct Action {
    address target;
    bytes data;
}

/// @notice How the consortium decides. `quorum` is a percentage of the members that must be exceeded.
struct Rules {
    uint8 quorum;
    uint32 votingPeriod;
    uint32 executionPeriod;
    uint8 reviews;
}
