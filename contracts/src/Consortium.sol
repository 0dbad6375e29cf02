// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {IConsortium} from "./interfaces/IConsortium.sol";

/// @title Offices of the consortium, held under OpenZeppelin AccessControl
/// @dev Warning: the admin appoints registrars and regulators alone until membership is by vote.
contract Consortium is IConsortium, AccessControl {
    bytes32 public constant REGISTRAR = keccak256("REGISTRAR");
    bytes32 public constant REGULATOR = keccak256("REGULATOR");

    constructor(address admin, address registrar, address regulator) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(REGISTRAR, registrar);
        _grantRole(REGULATOR, regulator);
    }

    /// @inheritdoc IConsortium
    function isRegistrar(address account) external view returns (bool) {
        return hasRole(REGISTRAR, account);
    }

    /// @inheritdoc IConsortium
    function isRegulator(address account) external view returns (bool) {
        return hasRole(REGULATOR, account);
    }
}
