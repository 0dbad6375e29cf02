// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title Checkpoints of the nodes' evidence logs
/// @notice A checkpoint is the size and the RFC 9162 root of a node's log. A log only grows: whoever
/// rewrites it cannot prove that what is anchored here is still part of it.
interface IEvidenceAnchor {
    struct Checkpoint {
        uint64 size;
        uint40 anchoredAt;
        bytes32 root;
    }

    event CheckpointAnchored(address indexed node, uint64 size, bytes32 root, uint64 previousSize);

    error UnknownNode(address node);
    error LogDidNotGrow(address node, uint64 size, uint64 anchored);
    error EmptyRoot();

    /// @notice Anchors the caller's log at `size` records with `root`. A suspended node still anchors.
    function anchor(uint64 size, bytes32 root) external;

    /// @notice The last checkpoint of `node`; size zero when it has none.
    function checkpointOf(address node) external view returns (Checkpoint memory);
}
