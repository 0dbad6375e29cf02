// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IConsortium} from "./interfaces/IConsortium.sol";

/// @title A registry that asks the consortium who holds an office
abstract contract Governed {
    IConsortium public immutable consortium;

    constructor(IConsortium consortium_) {
        consortium = consortium_;
    }

    function _onlyRegistrar() internal view {
        if (!consortium.isRegistrar(msg.sender)) revert IConsortium.OnlyRegistrar(msg.sender);
    }

    /// @return regulator whether the caller acts as the regulator (who prevails over a registrar)
    function _registrarOrRegulator() internal view returns (bool regulator) {
        regulator = consortium.isRegulator(msg.sender);
        if (!regulator && !consortium.isRegistrar(msg.sender)) {
            revert IConsortium.OnlyRegistrarOrRegulator(msg.sender);
        }
    }
}
