// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IConsortium} from "./interfaces/IConsortium.sol";

/// @title A contract that asks the consortium who may do what
abstract contract Governed {
    IConsortium public immutable consortium;

    constructor(IConsortium consortium_) {
        consortium = consortium_;
    }

    /// @dev Only what the members voted for.
    modifier onlyConsortium() {
        if (msg.sender != address(consortium)) revert IConsortium.OnlyConsortium(msg.sender);
        _;
    }
}
