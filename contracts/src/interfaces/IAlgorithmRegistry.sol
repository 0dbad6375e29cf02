// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {AlgorithmStatus, ReviewStatus} from "../Types.sol";

/// @title Algorithms by the digest of their bundle
/// @notice Proposed -> Active | Rejected;  Active <-> Suspended;  all but Rejected -> Revoked.
/// Where the consortium's rules ask for reviews, an algorithm becomes active when every reviewer its
/// provider named has agreed; one who declines rejects it for good.
interface IAlgorithmRegistry {
    /// @dev `held` while a suspension stands that a registrar may not lift.
    struct Algorithm {
        address provider;
        AlgorithmStatus status;
        bool held;
        bool superseded;
        uint40 registeredAt;
        uint8 asked;
        uint8 agreed;
    }

    event AlgorithmRegistered(bytes32 indexed algorithm, address indexed provider);
    event AlgorithmProposed(bytes32 indexed algorithm, address indexed provider, uint8 reviewers);
    event ReviewAsked(bytes32 indexed algorithm, address indexed reviewer);
    event AlgorithmReviewed(bytes32 indexed algorithm, address indexed reviewer, bool agreed, bytes32 report);
    event AlgorithmRejected(bytes32 indexed algorithm);
    event AlgorithmSuperseded(bytes32 indexed algorithm, bytes32 indexed by);
    event AlgorithmSuspended(bytes32 indexed algorithm, address by, bool held, bytes32 reason);
    event AlgorithmReinstated(bytes32 indexed algorithm, address by);
    event AlgorithmRevoked(bytes32 indexed algorithm, address by);

    error UnknownAlgorithm(bytes32 algorithm);
    error AlgorithmAlreadyKnown(bytes32 algorithm);
    error AlgorithmNotActive(bytes32 algorithm, AlgorithmStatus status);
    error AlgorithmNotProposed(bytes32 algorithm, AlgorithmStatus status);
    error AlgorithmNotSuspended(bytes32 algorithm, AlgorithmStatus status);
    error AlgorithmAlreadyRevoked(bytes32 algorithm);
    error AlgorithmAlreadySuperseded(bytes32 algorithm);
    error AlgorithmIsRejected(bytes32 algorithm);
    error AlgorithmHeld(bytes32 algorithm);
    error NotAlgorithmProvider(bytes32 algorithm, address caller, address provider);
    error WrongNumberOfReviewers(uint256 named, uint256 needed);
    error ReviewersNotAscending(uint256 index);
    error NotIndependent(address reviewer);
    error NotAskedToReview(bytes32 algorithm, address caller, ReviewStatus status);
    error EmptyDigest();
    error ReasonMissing(bytes32 algorithm);

    /// @notice Registers a bundle by its digest (the SHA-256 of its OCI manifest), where the consortium's
    /// rules ask for no review.
    function register(bytes32 algorithm) external;

    /// @notice Proposes a bundle to `reviewers`, active nodes other than the caller in strictly ascending
    /// order, at least as many as the rules ask for and at most eight.
    function propose(bytes32 algorithm, address[] calldata reviewers) external;

    /// @notice Says, as a named reviewer, whether a proposed algorithm may be used. Once, and not undone.
    /// @param report SHA-256 of the review in words
    function review(bytes32 algorithm, bool agreed, bytes32 report) external;

    /// @notice Says that `algorithm` takes the place of `previous`, both active and the caller's. Grants over
    /// the previous one still run; none is issued any more.
    function supersede(bytes32 previous, bytes32 algorithm) external;

    /// @notice Takes an algorithm out of use for a time. Registrar, regulator, or by vote.
    /// @param reason SHA-256 of the reason in words
    function suspend(bytes32 algorithm, bytes32 reason) external;

    /// @notice Ends a suspension. What the regulator or a vote suspended the registrar cannot reinstate.
    function reinstate(bytes32 algorithm) external;

    /// @notice Takes an algorithm out of use for good. Only its provider.
    function revoke(bytes32 algorithm) external;

    /// @notice The record of `algorithm`; status `None` when it was never registered.
    function algorithmOf(bytes32 algorithm) external view returns (Algorithm memory);

    /// @notice What `reviewer` said of `algorithm`.
    function reviewOf(bytes32 algorithm, address reviewer) external view returns (ReviewStatus);

    /// @notice Whether tasks may use `algorithm`.
    function isActive(bytes32 algorithm) external view returns (bool);

    /// @notice Whether grants over `algorithm` may be issued: it is active and nothing takes its place.
    function isGrantable(bytes32 algorithm) external view returns (bool);
}
