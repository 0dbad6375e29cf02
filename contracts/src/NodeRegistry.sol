// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Governed} from "./Governed.sol";
import {IConsortium} from "./interfaces/IConsortium.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {ITaskLedger} from "./interfaces/ITaskLedger.sol";
import {NodeStatus} from "./Types.sol";

/// @title The implementation of `INodeRegistry`, which is its manual
contract NodeRegistry is INodeRegistry, Governed {
    uint8 private constant DATA_OWNER = 1;
    uint8 private constant COMPUTE = 2;
    uint8 private constant ALL_ROLES = 31;

    address public immutable datasets;
    address public immutable algorithms;
    ITaskLedger[] private _ledgers;
    mapping(address => Node) private _nodes;
    mapping(address => mapping(uint32 => FormerKeys)) private _former;

    /// @param ledger the first one served; it need not be there yet
    constructor(IConsortium consortium_, address datasets_, address algorithms_, ITaskLedger ledger)
        Governed(consortium_)
    {
        datasets = datasets_;
        algorithms = algorithms_;
        _ledgers.push(ledger);
    }

    /// @inheritdoc INodeRegistry
    function admit(address node, uint8 roles, bytes32 tlsFingerprint, bytes32 encryptionKey) external {
        consortium.requireAdmission(msg.sender);
        if (_nodes[node].status != NodeStatus.None) revert NodeAlreadyKnown(node, _nodes[node].status);
        if (roles == 0 || roles > ALL_ROLES) revert InvalidRoles(roles);
        _requireKeys(node, roles, tlsFingerprint, encryptionKey);

        _nodes[node] = Node(NodeStatus.Active, roles, uint40(block.timestamp), false, 0, tlsFingerprint, encryptionKey);

        emit NodeAdmitted(node, roles, tlsFingerprint, encryptionKey);
    }

    /// @inheritdoc INodeRegistry
    function suspend(address node, bytes32 reason) external {
        bool prevails = consortium.requireSupervision(msg.sender);
        Node storage n = _nodes[node];
        bool takesOver = prevails && n.status == NodeStatus.Suspended && !n.held;
        if (n.status != NodeStatus.Active && !takesOver) revert NodeNotActive(node, n.status);
        if (reason == 0) revert ReasonMissing(node);

        n.status = NodeStatus.Suspended;
        n.held = prevails;

        emit NodeSuspended(node, msg.sender, prevails, reason);
        _tellLapse();
    }

    /// @inheritdoc INodeRegistry
    function reinstate(address node) external {
        bool prevails = consortium.requireSupervision(msg.sender);
        Node storage n = _nodes[node];
        if (n.status != NodeStatus.Suspended) revert NodeNotSuspended(node, n.status);
        if (n.held && !prevails) revert NodeHeld(node);

        n.status = NodeStatus.Active;
        n.held = false;

        emit NodeReinstated(node, msg.sender);
    }

    /// @inheritdoc INodeRegistry
    function retire(address node) external {
        consortium.requireAdmission(msg.sender);
        NodeStatus status = _nodes[node].status;
        if (status == NodeStatus.None) revert UnknownNode(node);
        if (status == NodeStatus.Retired) revert NodeAlreadyRetired(node);

        _nodes[node].status = NodeStatus.Retired;

        emit NodeRetired(node, msg.sender);
        _tellLapse();
    }

    /// @inheritdoc INodeRegistry
    function rotateKeys(bytes32 tlsFingerprint, bytes32 encryptionKey) external {
        requireActive(msg.sender, 0);
        Node storage n = _nodes[msg.sender];
        _requireKeys(msg.sender, n.roles, tlsFingerprint, encryptionKey);

        _former[msg.sender][n.version] = FormerKeys(uint40(block.timestamp), n.tlsFingerprint, n.encryptionKey);
        n.tlsFingerprint = tlsFingerprint;
        n.encryptionKey = encryptionKey;
        uint32 version = ++n.version;

        emit NodeKeysRotated(msg.sender, tlsFingerprint, encryptionKey, version);
    }

    /// @inheritdoc INodeRegistry
    function lapse() external {
        if (msg.sender != datasets && msg.sender != algorithms) revert OnlyRegistry(msg.sender);

        _tellLapse();
    }

    /// @inheritdoc INodeRegistry
    function serve(ITaskLedger ledger) external onlyConsortium {
        _ledgers.push(ledger);

        emit LedgerServed(address(ledger));
        ledger.lapse(); // what it looked at before, it looks at again
    }

    /// @inheritdoc INodeRegistry
    function tells(address ledger) external view returns (bool) {
        uint256 n = _ledgers.length;
        for (uint256 i; i < n; ++i) {
            if (address(_ledgers[i]) == ledger) return true;
        }
        return false;
    }

    /// @inheritdoc INodeRegistry
    function nodeOf(address node) external view returns (Node memory) {
        return _nodes[node];
    }

    /// @inheritdoc INodeRegistry
    function formerKeysOf(address node, uint32 version) external view returns (FormerKeys memory) {
        return _former[node][version];
    }

    /// @inheritdoc INodeRegistry
    function isActive(address node, uint8 roles) public view returns (bool) {
        return _nodes[node].status == NodeStatus.Active && _nodes[node].roles & roles == roles;
    }

    /// @inheritdoc INodeRegistry
    function areActive(address[] calldata nodes) external view returns (bool) {
        for (uint256 i; i < nodes.length; ++i) {
            if (_nodes[nodes[i]].status != NodeStatus.Active) return false;
        }
        return true;
    }

    /// @inheritdoc INodeRegistry
    function requireActive(address node, uint8 role) public view {
        NodeStatus status = _nodes[node].status;
        if (status == NodeStatus.None) revert UnknownNode(node);
        if (status != NodeStatus.Active) revert NodeNotActive(node, status);
        if (_nodes[node].roles & role != role) revert MissingRole(node, role);
    }

    function _tellLapse() private {
        for (uint256 i; i < _ledgers.length; ++i) _ledgers[i].lapse();
    }

    /// @dev Who opens no port to peers, a requester or an algorithm provider, needs no certificate.
    function _requireKeys(address node, uint8 roles, bytes32 tlsFingerprint, bytes32 encryptionKey) private pure {
        bool listens = roles & (DATA_OWNER | COMPUTE) != 0;
        if (encryptionKey == 0 || (listens && tlsFingerprint == 0)) revert EmptyKey(node);
    }
}
