// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Governed} from "./Governed.sol";
import {AlgorithmRegistry} from "./AlgorithmRegistry.sol";
import {DatasetRegistry} from "./DatasetRegistry.sol";
import {EvidenceAnchor} from "./EvidenceAnchor.sol";
import {GrantRegistry} from "./GrantRegistry.sol";
import {NodeRegistry} from "./NodeRegistry.sol";
import {TaskLedger} from "./TaskLedger.sol";

/// @title The one address a node is configured with
/// @notice Names the contracts of every generation, and refuses a set whose members do not know each other.
/// The consortium announces a new generation by vote; the former ones stay named and readable, and a replay
/// reads them all. The consortium itself is the same for ever.
contract Directory is Governed {
    struct Generation {
        NodeRegistry nodes;
        DatasetRegistry datasets;
        AlgorithmRegistry algorithms;
        GrantRegistry grants;
        TaskLedger ledger;
        EvidenceAnchor evidence;
        uint64 since;
    }

    Generation[] private _generations;

    event GenerationAnnounced(
        uint256 indexed generation,
        address nodes,
        address datasets,
        address algorithms,
        address grants,
        address ledger,
        address evidence
    );

    error NotOneSet();
    error UnknownGeneration(uint256 generation);

    constructor(TaskLedger ledger_, EvidenceAnchor evidence_) Governed(ledger_.consortium()) {
        _announce(ledger_, evidence_);
    }

    /// @notice Names the contracts to use from now on. Only the consortium, by vote.
    /// @dev Warning: closes no former ledger; a proposal that should do so says it in the same breath.
    function announce(TaskLedger ledger_, EvidenceAnchor evidence_) external onlyConsortium {
        _announce(ledger_, evidence_);
    }

    /// @notice How many generations there are; the last one is in use.
    function generations() external view returns (uint256) {
        return _generations.length;
    }

    /// @notice The contracts of a generation, counted from zero, and the block it was announced in.
    function generationOf(uint256 generation) external view returns (Generation memory) {
        if (generation >= _generations.length) revert UnknownGeneration(generation);
        return _generations[generation];
    }

    function _announce(TaskLedger ledger_, EvidenceAnchor evidence_) private {
        GrantRegistry grants_ = GrantRegistry(address(ledger_.grants()));
        NodeRegistry nodes_ = NodeRegistry(address(ledger_.nodes()));
        AlgorithmRegistry algorithms_ = AlgorithmRegistry(address(grants_.algorithms()));
        DatasetRegistry datasets_ = DatasetRegistry(address(grants_.datasets()));
        address n = address(nodes_);
        address c = address(consortium);
        if (
            address(grants_.ledger()) != address(ledger_) || address(grants_.nodes()) != n || address(algorithms_.nodes()) != n
                || address(datasets_.nodes()) != n || address(evidence_.nodes()) != n
                || nodes_.datasets() != address(datasets_) || nodes_.algorithms() != address(algorithms_)
                || address(algorithms_.consortium()) != c || address(nodes_.consortium()) != c
                || address(ledger_.consortium()) != c
        ) revert NotOneSet();

        _generations.push(
            Generation(nodes_, datasets_, algorithms_, grants_, ledger_, evidence_, uint64(block.number))
        );

        emit GenerationAnnounced(
            _generations.length - 1, n, address(datasets_), address(algorithms_), address(grants_), address(ledger_),
            address(evidence_)
        );
    }
}
