// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IEvidenceAnchor} from "./interfaces/IEvidenceAnchor.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {NodeStatus} from "./Types.sol";

/// @title The implementation of `IEvidenceAnchor`, which is its manual
contract EvidenceAnchor is IEvidenceAnchor {
    INodeRegistry public immutable nodes;
    mapping(address => Checkpoint) private _checkpoints;

    constructor(INodeRegistry nodes_) {
        nodes = nodes_;
    }

    /// @inheritdoc IEvidenceAnchor
    function anchor(uint64 size, bytes32 root) external {
        if (nodes.nodeOf(msg.sender).status == NodeStatus.None) revert UnknownNode(msg.sender);
        uint64 previous = _checkpoints[msg.sender].size;
        if (size <= previous) revert LogDidNotGrow(msg.sender, size, previous);
        if (root == 0) revert EmptyRoot();

        _checkpoints[msg.sender] = Checkpoint(size, uint40(block.timestamp), root);

        emit CheckpointAnchored(msg.sender, size, root, previous);
    }

    /// @inheritdoc IEvidenceAnchor
    function checkpointOf(address node) external view returns (Checkpoint memory) {
        return _checkpoints[node];
    }
}
