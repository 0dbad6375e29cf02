// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IAlgorithmRegistry} from "./interfaces/IAlgorithmRegistry.sol";
import {IDatasetRegistry} from "./interfaces/IDatasetRegistry.sol";
import {IGrantRegistry} from "./interfaces/IGrantRegistry.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {Denial, GrantStatus, GrantTerms, Request} from "./Types.sol";

/// @title The implementation of `IGrantRegistry`, which is its manual
contract GrantRegistry is IGrantRegistry {
    uint8 private constant REQUESTER = 4;

    INodeRegistry public immutable nodes;
    IDatasetRegistry public immutable datasets;
    IAlgorithmRegistry public immutable algorithms;
    address public immutable ledger;

    mapping(bytes32 => Grant) private _grants;
    mapping(address => uint256) private _serials;

    constructor(INodeRegistry nodes_, IDatasetRegistry datasets_, IAlgorithmRegistry algorithms_, address ledger_) {
        nodes = nodes_;
        datasets = datasets_;
        algorithms = algorithms_;
        ledger = ledger_;
    }

    /// @inheritdoc IGrantRegistry
    function issue(GrantTerms calldata terms) external returns (bytes32 grant) {
        nodes.requireActive(msg.sender, 0);
        _requireUsable(terms);
        if (terms.expiresAt <= terms.notBefore || terms.expiresAt <= block.timestamp) {
            revert InvalidWindow(terms.notBefore, terms.expiresAt);
        }
        if (terms.uses == 0) revert NoUses();
        if (terms.protections == 0) revert NoProtection();
        if (terms.purpose == 0) revert EmptyPurpose();

        grant = nextGrant(msg.sender);
        ++_serials[msg.sender];
        _grants[grant] = _grantFrom(terms);

        _emitIssued(grant, terms);
    }

    /// @inheritdoc IGrantRegistry
    function revoke(bytes32 grant) external {
        Grant storage g = _grants[grant];
        if (g.owner == address(0)) revert UnknownGrant(grant);
        if (msg.sender != g.owner) revert NotGrantOwner(grant, msg.sender, g.owner);
        if (g.revoked) revert GrantAlreadyRevoked(grant);

        g.revoked = true;

        emit GrantRevoked(grant, msg.sender);
    }

    /// @inheritdoc IGrantRegistry
    function consume(bytes32 grant, Request calldata request, bytes32 task) external {
        if (msg.sender != ledger) revert OnlyTaskLedger(msg.sender);
        Denial denial = denialOf(grant, request);
        if (denial != Denial.None) revert Denied(grant, denial);

        uint32 usesLeft = --_grants[grant].usesLeft;

        emit GrantConsumed(grant, task, usesLeft);
    }

    /// @inheritdoc IGrantRegistry
    function denialOf(bytes32 grant, Request calldata request) public view returns (Denial) {
        Grant storage g = _grants[grant];
        if (g.owner == address(0)) return Denial.UnknownGrant;
        if (g.owner != request.owner) return Denial.WrongOwner;
        if (g.dataset != request.dataset) return Denial.WrongDataset;
        if (g.algorithm != request.algorithm) return Denial.WrongAlgorithm;
        if (g.requester != request.requester) return Denial.WrongRequester;
        if (g.purpose != request.purpose) return Denial.WrongPurpose;
        if (g.revoked) return Denial.GrantRevoked;
        if (block.timestamp < g.notBefore) return Denial.GrantNotYetValid;
        if (block.timestamp >= g.expiresAt) return Denial.GrantExpired;
        if (g.usesLeft == 0) return Denial.GrantExhausted;
        if (request.protections == 0 || request.protections & ~g.protections != 0) {
            return Denial.ProtectionNotAllowed;
        }
        return _standingDenial(request);
    }

    /// @inheritdoc IGrantRegistry
    function isStanding(bytes32 grant, address owner, address requester) external view returns (bool) {
        Grant storage g = _grants[grant];
        return g.owner == owner && g.requester == requester && g.usesLeft != 0 && !g.approvalRequired && !g.revoked;
    }

    /// @inheritdoc IGrantRegistry
    function statusOf(bytes32 grant) external view returns (GrantStatus) {
        Grant storage g = _grants[grant];
        if (g.owner == address(0)) return GrantStatus.None;
        if (g.revoked) return GrantStatus.Revoked;
        if (g.usesLeft == 0) return GrantStatus.Exhausted;
        if (block.timestamp >= g.expiresAt) return GrantStatus.Expired;
        if (block.timestamp < g.notBefore) return GrantStatus.Pending;
        return GrantStatus.Active;
    }

    /// @inheritdoc IGrantRegistry
    function grantOf(bytes32 grant) external view returns (Grant memory) {
        return _grants[grant];
    }

    /// @inheritdoc IGrantRegistry
    function nextGrant(address owner) public view returns (bytes32) {
        return keccak256(abi.encode(owner, _serials[owner]));
    }

    /// @dev What the registries say about those the request names, after what the grant itself says.
    function _standingDenial(Request calldata request) private view returns (Denial) {
        if (!nodes.isActive(request.requester, REQUESTER)) return Denial.RequesterNotActive;
        (, bool usable) = datasets.standingOf(request.dataset);
        if (!usable) return Denial.DatasetNotActive;
        if (!algorithms.isActive(request.algorithm)) return Denial.AlgorithmNotActive;
        return Denial.None;
    }

    function _requireUsable(GrantTerms calldata terms) private view {
        (address owner, bool usable) = datasets.standingOf(terms.dataset);
        if (owner != msg.sender) revert NotOwnDataset(terms.dataset, msg.sender, owner);
        if (!usable) revert DatasetUnusable(terms.dataset);
        if (!algorithms.isActive(terms.algorithm)) revert AlgorithmUnusable(terms.algorithm);
        if (!nodes.isActive(terms.requester, REQUESTER)) revert RequesterUnusable(terms.requester);
    }

    function _grantFrom(GrantTerms calldata terms) private view returns (Grant memory) {
        return Grant({
            owner: msg.sender,
            notBefore: terms.notBefore,
            expiresAt: terms.expiresAt,
            protections: terms.protections,
            requester: terms.requester,
            usesLeft: terms.uses,
            approvalRequired: terms.approvalRequired,
            revoked: false,
            epsilon: terms.epsilon,
            dataset: terms.dataset,
            algorithm: terms.algorithm,
            purpose: terms.purpose
        });
    }

    function _emitIssued(bytes32 grant, GrantTerms calldata terms) private {
        emit GrantIssued(
            grant,
            msg.sender,
            terms.requester,
            terms.dataset,
            terms.algorithm,
            terms.purpose,
            terms.uses,
            terms.notBefore,
            terms.expiresAt,
            terms.protections,
            terms.approvalRequired,
            terms.epsilon
        );
    }
}
