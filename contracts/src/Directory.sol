// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {AlgorithmRegistry} from "./AlgorithmRegistry.sol";
import {Consortium} from "./Consortium.sol";
import {DatasetRegistry} from "./DatasetRegistry.sol";
import {EvidenceAnchor} from "./EvidenceAnchor.sol";
import {GrantRegistry} from "./GrantRegistry.sol";
import {NodeRegistry} from "./NodeRegistry.sol";
import {TaskLedger} from "./TaskLedger.sol";

/// @title The one address a node is configured with
/// @notice Names the seven contracts, and refuses a set whose members do not know each other.
contract Directory {
    Consortium public immutable consortium;
    NodeRegistry public immutable nodes;
    DatasetRegistry public immutable datasets;
    AlgorithmRegistry public immutable algorithms;
    GrantRegistry public immutable grants;
    TaskLedger public immutable ledger;
    EvidenceAnchor public immutable evidence;
    uint256 public immutable deployedAt;

    error NotOneSet();

    constructor(TaskLedger ledger_, EvidenceAnchor evidence_) {
        GrantRegistry grants_ = GrantRegistry(address(ledger_.grants()));
        NodeRegistry nodes_ = NodeRegistry(address(ledger_.nodes()));
        AlgorithmRegistry algorithms_ = AlgorithmRegistry(address(grants_.algorithms()));
        DatasetRegistry datasets_ = DatasetRegistry(address(grants_.datasets()));
        address n = address(nodes_);
        if (
            grants_.ledger() != address(ledger_) || address(grants_.nodes()) != n || address(algorithms_.nodes()) != n
                || address(datasets_.nodes()) != n || address(evidence_.nodes()) != n
                || address(algorithms_.consortium()) != address(nodes_.consortium())
        ) revert NotOneSet();

        consortium = Consortium(address(nodes_.consortium()));
        nodes = nodes_;
        datasets = datasets_;
        algorithms = algorithms_;
        grants = grants_;
        ledger = ledger_;
        evidence = evidence_;
        deployedAt = block.number;
    }
}
