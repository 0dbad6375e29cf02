// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title Who holds which office in the consortium
interface IConsortium {
    error OnlyRegistrar(address caller);
    error OnlyRegistrarOrRegulator(address caller);

    /// @notice Whether `account` admits, suspends and retires nodes.
    function isRegistrar(address account) external view returns (bool);

    /// @notice Whether `account` may suspend a node or an algorithm on the consortium's behalf.
    function isRegulator(address account) external view returns (bool);
}
