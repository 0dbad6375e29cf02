// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {DataClass, DatasetStatus} from "../Types.sol";

/// @title Fingerprints of datasets, never data
/// @notice The commitment is `SHA-256(salt ‖ root)`: the salt stays with the owner, who may open one
/// dataset to a regulator without opening the others.
interface IDatasetRegistry {
    struct Dataset {
        address owner;
        DatasetStatus status;
        DataClass class;
        uint40 registeredAt;
        uint32 version;
        bytes32 commitment;
        bytes32 schemaHash;
    }

    event DatasetRegistered(
        bytes32 indexed dataset, address indexed owner, bytes32 commitment, bytes32 schemaHash, DataClass class
    );
    event DatasetSuperseded(bytes32 indexed dataset, bytes32 indexed by, uint32 version);
    event DatasetWithdrawn(bytes32 indexed dataset, address indexed owner);

    error UnknownDataset(bytes32 dataset);
    error DatasetAlreadyKnown(bytes32 dataset);
    error DatasetAlreadyWithdrawn(bytes32 dataset);
    error NotDatasetOwner(bytes32 dataset, address caller, address owner);
    error DatasetNotActive(bytes32 dataset, DatasetStatus status);
    error EmptyCommitment();

    /// @notice Registers a dataset of the calling data owner.
    /// @return dataset its id, `keccak256(abi.encode(owner, commitment))`
    function register(bytes32 commitment, bytes32 schemaHash, DataClass class) external returns (bytes32 dataset);

    /// @notice Registers the next version of a dataset. Only its owner, and only of the latest version.
    /// Grants over the previous version still run where its bytes are still there; none is issued any more.
    /// @return dataset the new version's id
    function supersede(bytes32 previous, bytes32 commitment, bytes32 schemaHash, DataClass class)
        external
        returns (bytes32 dataset);

    /// @notice Takes a dataset out of all future use. Only its owner; not undone.
    function withdraw(bytes32 dataset) external;

    /// @notice The record of `dataset`; status `None` when it was never registered.
    function datasetOf(bytes32 dataset) external view returns (Dataset memory);

    /// @notice The owner of `dataset`, and where it stands.
    function standingOf(bytes32 dataset) external view returns (address owner, DatasetStatus status);
}
