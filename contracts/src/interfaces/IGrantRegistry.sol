// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Denial, GrantStatus, GrantTerms, Request} from "../Types.sol";

/// @title Who may use which dataset, with which algorithm, for what, how often and until when
interface IGrantRegistry {
    struct Grant {
        address owner;
        uint40 notBefore;
        uint40 expiresAt;
        uint16 protections;
        address requester;
        uint32 usesLeft;
        bool approvalRequired;
        bool revoked;
        uint48 epsilon;
        bytes32 dataset;
        bytes32 algorithm;
        bytes32 purpose;
    }

    event GrantIssued(
        bytes32 indexed grant,
        address indexed owner,
        address indexed requester,
        bytes32 dataset,
        bytes32 algorithm,
        bytes32 purpose,
        uint32 uses,
        uint40 notBefore,
        uint40 expiresAt,
        uint16 protections,
        bool approvalRequired,
        uint48 epsilon
    );
    event GrantRevoked(bytes32 indexed grant, address indexed owner);
    event GrantConsumed(bytes32 indexed grant, bytes32 indexed task, uint32 usesLeft);

    error UnknownGrant(bytes32 grant);
    error NotGrantOwner(bytes32 grant, address caller, address owner);
    error GrantAlreadyRevoked(bytes32 grant);
    error NotOwnDataset(bytes32 dataset, address caller, address owner);
    error DatasetUnusable(bytes32 dataset);
    error AlgorithmUnusable(bytes32 algorithm);
    error RequesterUnusable(address requester);
    error InvalidWindow(uint40 notBefore, uint40 expiresAt);
    error NoUses();
    error NoProtection();
    error EmptyPurpose();
    error OnlyTaskLedger(address caller);
    error Denied(bytes32 grant, Denial reason);

    /// @notice Issues a grant over one of the caller's datasets.
    /// @return grant its id, `keccak256(abi.encode(owner, serial))` with the owner's running serial
    function issue(GrantTerms calldata terms) external returns (bytes32 grant);

    /// @notice Ends a grant at once. Only its owner; a running task is not stopped by it.
    function revoke(bytes32 grant) external;

    /// @notice Spends one use of `grant` for `task`, or reverts with `Denied` and the first reason.
    /// @dev Warning: a spent use is not given back, even if the task later fails off chain.
    function consume(bytes32 grant, Request calldata request, bytes32 task) external;

    /// @notice The first reason why `request` may not run under `grant` now, or `None`.
    function denialOf(bytes32 grant, Request calldata request) external view returns (Denial);

    /// @notice Whether `grant` of `owner` stands for `requester` with a use left and asks for no approval.
    /// @dev A light look at creation; the whole check is `consume`, at the start.
    function isStanding(bytes32 grant, address owner, address requester) external view returns (bool);

    /// @notice The state of `grant` at this block's time.
    function statusOf(bytes32 grant) external view returns (GrantStatus);

    /// @notice The record of `grant`; owner zero when it was never issued.
    function grantOf(bytes32 grant) external view returns (Grant memory);

    /// @notice The id the next grant of `owner` will get.
    function nextGrant(address owner) external view returns (bytes32);
}
