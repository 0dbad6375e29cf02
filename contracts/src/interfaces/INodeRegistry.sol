// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {NodeStatus} from "../Types.sol";

/// @title The organisations of the network, one key each
/// @notice A node's address signs its transactions and its statements off chain; its TLS certificate
/// (SHA-256 of the DER bytes) and its X25519 encryption key stand under that address.
interface INodeRegistry {
    struct Node {
        NodeStatus status;
        uint8 roles;
        uint40 admittedAt;
        bool heldByRegulator;
        bytes32 tlsFingerprint;
        bytes32 encryptionKey;
    }

    event NodeAdmitted(address indexed node, uint8 roles, bytes32 tlsFingerprint, bytes32 encryptionKey);
    event NodeSuspended(address indexed node, address by, bool regulator, bytes32 reason);
    event NodeReinstated(address indexed node, address by);
    event NodeRetired(address indexed node, address by);
    event NodeKeysRotated(address indexed node, bytes32 tlsFingerprint, bytes32 encryptionKey);

    error UnknownNode(address node);
    error NodeAlreadyKnown(address node, NodeStatus status);
    error NodeNotActive(address node, NodeStatus status);
    error NodeNotSuspended(address node, NodeStatus status);
    error NodeAlreadyRetired(address node);
    error HeldByRegulator(address node);
    error MissingRole(address node, uint8 role);
    error EmptyKey(address node);
    error InvalidRoles(uint8 roles);

    /// @notice Admits an organisation. Only a registrar; an address is admitted once and for ever.
    /// @param tlsFingerprint zero for those who open no port to peers (neither data owner nor compute)
    /// @param roles bit mask: 1 data owner, 2 compute, 4 requester, 8 algorithm provider, 16 scheduler
    function admit(address node, uint8 roles, bytes32 tlsFingerprint, bytes32 encryptionKey) external;

    /// @notice Takes a node out of all use until it is reinstated. A registrar or the regulator.
    /// @param reason SHA-256 of the reason in words
    function suspend(address node, bytes32 reason) external;

    /// @notice Ends a suspension. What the regulator suspended only the regulator reinstates.
    function reinstate(address node) external;

    /// @notice Ends a node's membership for good. Only a registrar.
    function retire(address node) external;

    /// @notice Replaces the caller's TLS fingerprint and encryption key.
    /// @dev Warning: tasks running under the old certificate lose their connections.
    function rotateKeys(bytes32 tlsFingerprint, bytes32 encryptionKey) external;

    /// @notice The record of `node`; status `None` when it was never admitted.
    function nodeOf(address node) external view returns (Node memory);

    /// @notice Whether `node` is active and holds every role in `roles`.
    function isActive(address node, uint8 roles) external view returns (bool);

    /// @notice Whether all of `nodes` are active.
    function areActive(address[] calldata nodes) external view returns (bool);

    /// @notice Reverts unless `node` is active and holds `role`.
    function requireActive(address node, uint8 role) external view;
}
