// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IDatasetRegistry} from "./interfaces/IDatasetRegistry.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {DataClass, DatasetStatus} from "./Types.sol";

/// @title The implementation of `IDatasetRegistry`, which is its manual
contract DatasetRegistry is IDatasetRegistry {
    uint8 private constant DATA_OWNER = 1;

    INodeRegistry public immutable nodes;
    mapping(bytes32 => Dataset) private _datasets;

    constructor(INodeRegistry nodes_) {
        nodes = nodes_;
    }

    /// @inheritdoc IDatasetRegistry
    function register(bytes32 commitment, bytes32 schemaHash, DataClass class) external returns (bytes32) {
        return _register(commitment, schemaHash, class, 0);
    }

    /// @inheritdoc IDatasetRegistry
    function supersede(bytes32 previous, bytes32 commitment, bytes32 schemaHash, DataClass class)
        external
        returns (bytes32 dataset)
    {
        Dataset storage d = _owned(previous);
        if (d.status != DatasetStatus.Active) revert DatasetNotActive(previous, d.status);

        uint32 version = d.version + 1;
        d.status = DatasetStatus.Superseded;
        dataset = _register(commitment, schemaHash, class, version);

        emit DatasetSuperseded(previous, dataset, version);
    }

    /// @inheritdoc IDatasetRegistry
    function withdraw(bytes32 dataset) external {
        Dataset storage d = _owned(dataset);
        if (d.status == DatasetStatus.Withdrawn) revert DatasetAlreadyWithdrawn(dataset);

        d.status = DatasetStatus.Withdrawn;

        emit DatasetWithdrawn(dataset, msg.sender);
        nodes.lapse();
    }

    /// @inheritdoc IDatasetRegistry
    function datasetOf(bytes32 dataset) external view returns (Dataset memory) {
        return _datasets[dataset];
    }

    /// @inheritdoc IDatasetRegistry
    function standingOf(bytes32 dataset) external view returns (address owner, DatasetStatus status) {
        return (_datasets[dataset].owner, _datasets[dataset].status);
    }

    function _register(bytes32 commitment, bytes32 schemaHash, DataClass class, uint32 version)
        private
        returns (bytes32 dataset)
    {
        nodes.requireActive(msg.sender, DATA_OWNER);
        if (commitment == 0 || schemaHash == 0) revert EmptyCommitment();
        dataset = keccak256(abi.encode(msg.sender, commitment));
        if (_datasets[dataset].status != DatasetStatus.None) revert DatasetAlreadyKnown(dataset);

        _datasets[dataset] =
            Dataset(msg.sender, DatasetStatus.Active, class, uint40(block.timestamp), version, commitment, schemaHash);

        emit DatasetRegistered(dataset, msg.sender, commitment, schemaHash, class);
    }

    function _owned(bytes32 dataset) private view returns (Dataset storage d) {
        d = _datasets[dataset];
        if (d.status == DatasetStatus.None) revert UnknownDataset(dataset);
        if (msg.sender != d.owner) revert NotDatasetOwner(dataset, msg.sender, d.owner);
    }
}
