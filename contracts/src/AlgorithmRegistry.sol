// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Governed} from "./Governed.sol";
import {IAlgorithmRegistry} from "./interfaces/IAlgorithmRegistry.sol";
import {IConsortium} from "./interfaces/IConsortium.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {AlgorithmStatus} from "./Types.sol";

/// @title The implementation of `IAlgorithmRegistry`, which is its manual
contract AlgorithmRegistry is IAlgorithmRegistry, Governed {
    uint8 private constant ALGORITHM_PROVIDER = 8;

    INodeRegistry public immutable nodes;
    mapping(bytes32 => Algorithm) private _algorithms;

    constructor(IConsortium consortium_, INodeRegistry nodes_) Governed(consortium_) {
        nodes = nodes_;
    }

    /// @inheritdoc IAlgorithmRegistry
    function register(bytes32 algorithm) external {
        nodes.requireActive(msg.sender, ALGORITHM_PROVIDER);
        if (algorithm == 0) revert EmptyDigest();
        if (_algorithms[algorithm].status != AlgorithmStatus.None) revert AlgorithmAlreadyKnown(algorithm);

        _algorithms[algorithm] = Algorithm(msg.sender, AlgorithmStatus.Active, false, uint40(block.timestamp));

        emit AlgorithmRegistered(algorithm, msg.sender);
    }

    /// @inheritdoc IAlgorithmRegistry
    function suspend(bytes32 algorithm, bytes32 reason) external {
        bool regulator = _registrarOrRegulator();
        Algorithm storage a = _algorithms[algorithm];
        bool takesOver = regulator && a.status == AlgorithmStatus.Suspended && !a.heldByRegulator;
        if (a.status != AlgorithmStatus.Active && !takesOver) revert AlgorithmNotActive(algorithm, a.status);

        a.status = AlgorithmStatus.Suspended;
        a.heldByRegulator = regulator;

        emit AlgorithmSuspended(algorithm, msg.sender, regulator, reason);
    }

    /// @inheritdoc IAlgorithmRegistry
    function reinstate(bytes32 algorithm) external {
        bool regulator = _registrarOrRegulator();
        Algorithm storage a = _algorithms[algorithm];
        if (a.status != AlgorithmStatus.Suspended) revert AlgorithmNotSuspended(algorithm, a.status);
        if (a.heldByRegulator && !regulator) revert AlgorithmHeldByRegulator(algorithm);

        a.status = AlgorithmStatus.Active;
        a.heldByRegulator = false;

        emit AlgorithmReinstated(algorithm, msg.sender);
    }

    /// @inheritdoc IAlgorithmRegistry
    function revoke(bytes32 algorithm) external {
        Algorithm storage a = _algorithms[algorithm];
        if (a.status == AlgorithmStatus.None) revert UnknownAlgorithm(algorithm);
        if (msg.sender != a.provider) revert NotAlgorithmProvider(algorithm, msg.sender, a.provider);
        if (a.status == AlgorithmStatus.Revoked) revert AlgorithmAlreadyRevoked(algorithm);

        a.status = AlgorithmStatus.Revoked;

        emit AlgorithmRevoked(algorithm, msg.sender);
    }

    /// @inheritdoc IAlgorithmRegistry
    function algorithmOf(bytes32 algorithm) external view returns (Algorithm memory) {
        return _algorithms[algorithm];
    }

    /// @inheritdoc IAlgorithmRegistry
    function isActive(bytes32 algorithm) external view returns (bool) {
        return _algorithms[algorithm].status == AlgorithmStatus.Active;
    }
}
