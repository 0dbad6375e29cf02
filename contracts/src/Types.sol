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

enum DatasetStatus {
    None,
    Active,
    Withdrawn
}

/// @dev The grades of GB/T 43697-2024: general, important, core.
enum DataClass {
    General,
    Important,
    Core
}

enum AlgorithmStatus {
    None,
    Active,
    Suspended,
    Revoked
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

/// @dev Why the chain does not let a task start; the first that applies, in this order.
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
    PartyNotActive
}

/// @dev How far the blame for a failure reaches, as far as the node that reports it can tell.
enum Blame {
    Nobody,
    Reporter,
    Party,
    SomeParty
}

/// @notice What a grant allows. Times are Unix seconds, `epsilon` is in millionths (0: no budget set).
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
}

/// @notice What one `start` asks of one grant.
struct Request {
    address owner;
    bytes32 dataset;
    bytes32 algorithm;
    address requester;
    bytes32 purpose;
    uint16 protections;
}

/// @notice One dataset put under one algorithm, by the party at index `party`, under one grant.
struct Use {
    uint8 party;
    bytes32 dataset;
    bytes32 algorithm;
    bytes32 grant;
}

/// @notice What a task is. The ledger keeps its hash; callers hand it back with every call.
/// `spec` is the SHA-256 of the canonical task specification, `purpose` that of the purpose in words.
/// `parties` are in strictly ascending order; a party's index is its rank in the computation.
struct TaskTerms {
    bytes32 spec;
    bytes32 purpose;
    uint16 protections;
    uint32 deadline;
    address[] parties;
    Use[] uses;
}
