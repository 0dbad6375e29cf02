// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {NodeStatus} from "../Types.sol";
import {ITaskLedger} from "./ITaskLedger.sol";

/// @title The organisations of the network, one key each
/// @notice A node's address signs its transactions and its statements off chain; its TLS certificate
/// (SHA-256 of the DER bytes) and its X25519 encryption key stand under that address.
interface INodeRegistry {
    /// @dev `held` while a suspension stands that a registrar may not lift. `version` counts the keys.
    struct Node {
        NodeStatus status;
        uint8 roles;
        uint40 admittedAt;
        bool held;
        uint32 version;
        bytes32 tlsFingerprint;
        bytes32 encryptionKey;
    }

    /// @dev Keys that a node had before, and when they were replaced (Unix seconds).
    struct FormerKeys {
        uint40 until;
        bytes32 tlsFingerprint;
        bytes32 encryptionKey;
    }

    event NodeAdmitted(address indexed node, uint8 roles, bytes32 tlsFingerprint, bytes32 encryptionKey);
    event NodeSuspended(address indexed node, address by, bool held, bytes32 reason);
    event NodeReinstated(address indexed node, address by);
    event NodeRetired(address indexed node, address by);
    event NodeKeysRotated(address indexed node, bytes32 tlsFingerprint, bytes32 encryptionKey, uint32 version);
    event LedgerServed(address indexed ledger);

    error UnknownNode(address node);
    error NodeAlreadyKnown(address node, NodeStatus status);
    error NodeNotActive(address node, NodeStatus status);
    error NodeNotSuspended(address node, NodeStatus status);
    error NodeAlreadyRetired(address node);
    error NodeHeld(address node);
    error MissingRole(address node, uint8 role);
    error EmptyKey(address node);
    error InvalidRoles(uint8 roles);
    error ReasonMissing(address node);
    error OnlyRegistry(address caller);

    /// @notice Admits an organisation, once and for ever. The consortium by vote, or the registrar while
    /// there is a single member.
    /// @param tlsFingerprint zero for those who open no port to peers (neither data owner nor compute)
    /// @param roles bit mask: 1 data owner, 2 compute, 4 requester, 8 algorithm provider, 16 scheduler
    function admit(address node, uint8 roles, bytes32 tlsFingerprint, bytes32 encryptionKey) external;

    /// @notice Takes a node out of all use until it is reinstated. Registrar, regulator, or by vote.
    /// @param reason SHA-256 of the reason in words
    function suspend(address node, bytes32 reason) external;

    /// @notice Ends a suspension. What the regulator or a vote suspended the registrar cannot reinstate.
    function reinstate(address node) external;

    /// @notice Ends a node's membership for good. By vote, or the registrar while there is a single member.
    function retire(address node) external;

    /// @notice Replaces the caller's TLS fingerprint and encryption key; those it had stay readable.
    /// @dev Warning: tasks running under the old certificate lose their connections.
    function rotateKeys(bytes32 tlsFingerprint, bytes32 encryptionKey) external;

    /// @notice Tells every ledger served that something lapsed: a node, a dataset or an algorithm that was
    /// active is so no more. Only the registries of datasets and of algorithms; this one does so by itself.
    function lapse() external;

    /// @notice Tells `ledger` too of every lapse from now on. Only the consortium, by vote.
    function serve(ITaskLedger ledger) external;

    /// @notice Whether `ledger` is told of every lapse.
    function tells(address ledger) external view returns (bool);

    /// @notice The record of `node`; status `None` when it was never admitted.
    function nodeOf(address node) external view returns (Node memory);

    /// @notice The keys `node` had under `version`, counted from zero; the present ones are in `nodeOf`.
    function formerKeysOf(address node, uint32 version) external view returns (FormerKeys memory);

    /// @notice Whether `node` is active and holds every role in `roles`.
    function isActive(address node, uint8 roles) external view returns (bool);

    /// @notice Whether all of `nodes` are active.
    function areActive(address[] calldata nodes) external view returns (bool);

    /// @notice Reverts unless `node` is active and holds `role`.
    function requireActive(address node, uint8 role) external view;
}
