// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {AlgorithmStatus} from "../Types.sol";

/// @title Algorithms by the digest of their bundle
interface IAlgorithmRegistry {
    struct Algorithm {
        address provider;
        AlgorithmStatus status;
        bool heldByRegulator;
        uint40 registeredAt;
    }

    event AlgorithmRegistered(bytes32 indexed algorithm, address indexed provider);
    event AlgorithmSuspended(bytes32 indexed algorithm, address by, bool regulator, bytes32 reason);
    event AlgorithmReinstated(bytes32 indexed algorithm, address by);
    event AlgorithmRevoked(bytes32 indexed algorithm, address by);

    error UnknownAlgorithm(bytes32 algorithm);
    error AlgorithmAlreadyKnown(bytes32 algorithm);
    error AlgorithmNotActive(bytes32 algorithm, AlgorithmStatus status);
    error AlgorithmNotSuspended(bytes32 algorithm, AlgorithmStatus status);
    error AlgorithmAlreadyRevoked(bytes32 algorithm);
    error AlgorithmHeldByRegulator(bytes32 algorithm);
    error NotAlgorithmProvider(bytes32 algorithm, address caller, address provider);
    error EmptyDigest();

    /// @notice Registers a bundle by its digest (the SHA-256 of its OCI manifest).
    function register(bytes32 algorithm) external;

    /// @notice Takes an algorithm out of use for a time. A registrar or the regulator.
    function suspend(bytes32 algorithm, bytes32 reason) external;

    /// @notice Ends a suspension. What the regulator suspended only the regulator reinstates.
    function reinstate(bytes32 algorithm) external;

    /// @notice Takes an algorithm out of use for good. Only its provider.
    function revoke(bytes32 algorithm) external;

    /// @notice The record of `algorithm`; status `None` when it was never registered.
    function algorithmOf(bytes32 algorithm) external view returns (Algorithm memory);

    /// @notice Whether `algorithm` may be used.
    function isActive(bytes32 algorithm) external view returns (bool);
}
