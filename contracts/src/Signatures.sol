// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Signed} from "./Types.sol";

/// @title Acts that one party signs and another submits, as EIP-712 typed data
/// @dev The domain binds a signature to this chain and this contract. What keeps it from being used twice
/// is said with each act: a serial, or a state that the act leaves.
abstract contract Signatures is EIP712 {
    error SignatureLapsed(uint40 validUntil);
    error WrongSigner(address signer, address expected);

    constructor(string memory name) EIP712(name, "1") {}

    function _requireSigned(address expected, bytes32 structHash, Signed calldata signed) internal view {
        if (block.timestamp > signed.validUntil) revert SignatureLapsed(signed.validUntil);
        (address signer,,) = ECDSA.tryRecover(_hashTypedDataV4(structHash), signed.r, signed.vs);
        if (signer != expected || signer == address(0)) revert WrongSigner(signer, expected);
    }
}
