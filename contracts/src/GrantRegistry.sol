// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {IAlgorithmRegistry} from "./interfaces/IAlgorithmRegistry.sol";
import {IDatasetRegistry} from "./interfaces/IDatasetRegistry.sol";
import {IGrantRegistry} from "./interfaces/IGrantRegistry.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {ITaskLedger} from "./interfaces/ITaskLedger.sol";
import {Signatures} from "./Signatures.sol";
import {DatasetStatus, Denial, GrantStatus, GrantTerms, Request, Signed} from "./Types.sol";

/// @title The implementation of `IGrantRegistry`, which is its manual
contract GrantRegistry is IGrantRegistry, Signatures, Multicall {
    /// @dev All that a start reads and writes, in one slot.
    struct Meter {
        uint32 serial;
        uint32 usesLeft;
        uint40 notBefore;
        uint40 expiresAt;
        uint16 protections;
        uint48 epsilonLeft;
        uint32 seen;
        uint8 flags;
    }

    /// @dev What a start only hashes, kept for those who read a grant.
    struct Terms {
        address requester;
        uint32 uses;
        uint48 epsilon;
        bytes32 dataset;
        bytes32 algorithm;
        bytes32 purpose;
    }

    uint8 private constant REQUESTER = 4;
    uint8 private constant BUDGETED = 1;
    uint8 private constant RESTRICTED = 2;
    uint8 private constant APPROVAL_REQUIRED = 4;
    uint8 private constant REVOKED = 8;
    uint256 private constant MAX_PARTICIPANTS = 16;
    bytes32 private constant GRANT_TYPE = keccak256(
        "Grant(bytes32 dataset,bytes32 algorithm,address requester,bytes32 purpose,uint32 uses,uint40 notBefore,uint40 expiresAt,uint16 protections,bool approvalRequired,uint48 epsilon,address[] participants,uint32 serial,uint40 validUntil)"
    );
    bytes32 private constant REVOCATION_TYPE = keccak256("Revocation(bytes32 grant,uint40 validUntil)");

    INodeRegistry public immutable nodes;
    IDatasetRegistry public immutable datasets;
    IAlgorithmRegistry public immutable algorithms;
    ITaskLedger public immutable ledger;

    mapping(bytes32 => Meter) private _meters;
    mapping(bytes32 => Terms) private _terms;
    mapping(bytes32 => address[]) private _participants;
    mapping(address => uint32) private _serials;

    constructor(INodeRegistry nodes_, IDatasetRegistry datasets_, IAlgorithmRegistry algorithms_, ITaskLedger ledger_)
        Signatures("Sealtrace GrantRegistry")
    {
        nodes = nodes_;
        datasets = datasets_;
        algorithms = algorithms_;
        ledger = ledger_;
    }

    /// @inheritdoc IGrantRegistry
    function issue(GrantTerms calldata terms) external returns (bytes32) {
        return _issue(msg.sender, terms);
    }

    /// @inheritdoc IGrantRegistry
    function issueSigned(address owner, GrantTerms calldata terms, Signed calldata signed) external returns (bytes32) {
        _requireSigned(owner, _hashGrant(terms, _serials[owner], signed.validUntil), signed);

        return _issue(owner, terms);
    }

    /// @inheritdoc IGrantRegistry
    function replace(bytes32 grant, GrantTerms calldata terms) external returns (bytes32 replacement) {
        _revoke(grant, msg.sender);
        replacement = _issue(msg.sender, terms);

        emit GrantReplaced(grant, replacement);
    }

    /// @inheritdoc IGrantRegistry
    function revoke(bytes32 grant) external {
        _revoke(grant, msg.sender);
    }

    /// @inheritdoc IGrantRegistry
    function revokeSigned(bytes32 grant, Signed calldata signed) external {
        address owner = _ownerOf(grant);
        _requireSigned(owner, keccak256(abi.encode(REVOCATION_TYPE, grant, signed.validUntil)), signed);

        _revoke(grant, owner);
    }

    /// @inheritdoc IGrantRegistry
    function passSerial() external {
        uint32 passed = _serials[msg.sender]++;

        emit SerialPassed(msg.sender, passed);
    }

    /// @inheritdoc IGrantRegistry
    function consume(bytes32 grant, Request calldata request, address[] calldata parties, bytes32 task, uint32 lapses)
        external
    {
        if (msg.sender != address(ledger)) revert OnlyTaskLedger(msg.sender);
        Meter memory m = _meters[grant];
        Denial denial = _denial(grant, m, request, parties);
        bool fresh = m.seen != 0 && m.seen == lapses;
        if (denial == Denial.None && !fresh) denial = _standingDenial(request);
        if (denial != Denial.None) revert Denied(grant, denial);

        --m.usesLeft;
        m.seen = lapses;
        if (m.flags & BUDGETED != 0) m.epsilonLeft -= request.epsilon;
        _meters[grant] = m;

        emit GrantConsumed(grant, task, m.usesLeft, m.epsilonLeft);
    }

    /// @inheritdoc IGrantRegistry
    function denialOf(bytes32 grant, Request calldata request, address[] calldata parties)
        external
        view
        returns (Denial)
    {
        Denial denial = _denial(grant, _meters[grant], request, parties);
        return denial == Denial.None ? _standingDenial(request) : denial;
    }

    /// @inheritdoc IGrantRegistry
    function standing(bytes32[] calldata grants) external view returns (uint256 mask) {
        for (uint256 i; i < grants.length; ++i) {
            Meter memory m = _meters[grants[i]];
            if (m.usesLeft != 0 && m.flags & (APPROVAL_REQUIRED | REVOKED) == 0) mask |= 1 << i;
        }
    }

    /// @inheritdoc IGrantRegistry
    function statusOf(bytes32 grant) external view returns (GrantStatus) {
        Meter memory m = _meters[grant];
        if (m.expiresAt == 0) return GrantStatus.None;
        if (m.flags & REVOKED != 0) return GrantStatus.Revoked;
        if (m.usesLeft == 0) return GrantStatus.Exhausted;
        if (block.timestamp >= m.expiresAt) return GrantStatus.Expired;
        if (block.timestamp < m.notBefore) return GrantStatus.Pending;
        return GrantStatus.Active;
    }

    /// @inheritdoc IGrantRegistry
    function grantOf(bytes32 grant) external view returns (Grant memory g) {
        Meter memory m = _meters[grant];
        if (m.expiresAt == 0) return g;
        Terms memory t = _terms[grant];
        (g.owner,) = datasets.standingOf(t.dataset);
        (g.notBefore, g.expiresAt, g.protections) = (m.notBefore, m.expiresAt, m.protections);
        (g.requester, g.uses, g.usesLeft) = (t.requester, t.uses, m.usesLeft);
        (g.approvalRequired, g.revoked) = (m.flags & APPROVAL_REQUIRED != 0, m.flags & REVOKED != 0);
        (g.epsilon, g.epsilonLeft) = (t.epsilon, m.epsilonLeft);
        (g.dataset, g.algorithm, g.purpose) = (t.dataset, t.algorithm, t.purpose);
        g.participants = _participants[grant];
    }

    /// @inheritdoc IGrantRegistry
    function serialOf(address owner) external view returns (uint32) {
        return _serials[owner];
    }

    /// @inheritdoc IGrantRegistry
    function idOf(address owner, uint32 serial, bytes32 dataset, bytes32 algorithm, address requester, bytes32 purpose)
        public
        view
        returns (bytes32)
    {
        return
            keccak256(
                abi.encode(block.chainid, address(this), owner, serial, dataset, algorithm, requester, purpose)
            );
    }

    function _issue(address owner, GrantTerms calldata terms) private returns (bytes32 grant) {
        nodes.requireActive(owner, 0);
        _requireUsable(owner, terms);
        _requireSound(terms);

        uint32 serial = _serials[owner]++;
        grant = idOf(owner, serial, terms.dataset, terms.algorithm, terms.requester, terms.purpose);
        _meters[grant] = _meterFor(terms, serial);
        _terms[grant] =
            Terms(terms.requester, terms.uses, terms.epsilon, terms.dataset, terms.algorithm, terms.purpose);
        if (terms.participants.length != 0) _participants[grant] = terms.participants;

        _emitIssued(grant, owner, terms);
    }

    function _revoke(bytes32 grant, address by) private {
        address owner = _ownerOf(grant);
        if (by != owner) revert NotGrantOwner(grant, by, owner);
        uint8 flags = _meters[grant].flags;
        if (flags & REVOKED != 0) revert GrantAlreadyRevoked(grant);

        _meters[grant].flags = flags | REVOKED;

        emit GrantRevoked(grant, owner);
    }

    /// @dev A grant's id is the hash of what it allows, so one comparison stands for five; where it fails,
    /// the terms on record tell which of the five differs.
    function _denial(bytes32 grant, Meter memory m, Request calldata r, address[] calldata parties)
        private
        view
        returns (Denial)
    {
        if (m.expiresAt == 0) return Denial.UnknownGrant;
        if (grant != idOf(r.owner, m.serial, r.dataset, r.algorithm, r.requester, r.purpose)) {
            return _difference(grant, r);
        }
        if (m.flags & REVOKED != 0) return Denial.GrantRevoked;
        if (block.timestamp < m.notBefore) return Denial.GrantNotYetValid;
        if (block.timestamp >= m.expiresAt) return Denial.GrantExpired;
        if (m.usesLeft == 0) return Denial.GrantExhausted;
        if (r.protections == 0 || r.protections & ~m.protections != 0) return Denial.ProtectionNotAllowed;
        if (m.flags & BUDGETED != 0 && (r.epsilon == 0 || r.epsilon > m.epsilonLeft)) return Denial.EpsilonNotCovered;
        if (m.flags & RESTRICTED != 0 && !_areAllowed(grant, r.owner, parties)) return Denial.ParticipantNotAllowed;
        return Denial.None;
    }

    function _difference(bytes32 grant, Request calldata r) private view returns (Denial) {
        Terms memory t = _terms[grant];
        if (_ownerOf(grant) != r.owner) return Denial.WrongOwner;
        if (t.dataset != r.dataset) return Denial.WrongDataset;
        if (t.algorithm != r.algorithm) return Denial.WrongAlgorithm;
        if (t.requester != r.requester) return Denial.WrongRequester;
        return Denial.WrongPurpose;
    }

    /// @dev Whether every party but the owner is among the participants; both lists ascend.
    function _areAllowed(bytes32 grant, address owner, address[] calldata parties) private view returns (bool) {
        address[] memory allowed = _participants[grant];
        uint256 j;
        for (uint256 i; i < parties.length; ++i) {
            if (parties[i] == owner) continue;
            while (j < allowed.length && allowed[j] < parties[i]) ++j;
            if (j == allowed.length || allowed[j] != parties[i]) return false;
        }
        return true;
    }

    /// @dev What the registries say about those the request names, after what the grant itself says.
    function _standingDenial(Request calldata r) private view returns (Denial) {
        if (!nodes.isActive(r.requester, REQUESTER)) return Denial.RequesterNotActive;
        (, DatasetStatus status) = datasets.standingOf(r.dataset);
        if (status != DatasetStatus.Active && status != DatasetStatus.Superseded) return Denial.DatasetNotActive;
        if (!algorithms.isActive(r.algorithm)) return Denial.AlgorithmNotActive;
        return Denial.None;
    }

    function _requireUsable(address by, GrantTerms calldata terms) private view {
        (address owner, DatasetStatus status) = datasets.standingOf(terms.dataset);
        if (owner != by) revert NotOwnDataset(terms.dataset, by, owner);
        if (status != DatasetStatus.Active) revert DatasetUnusable(terms.dataset);
        if (!algorithms.isGrantable(terms.algorithm)) revert AlgorithmUnusable(terms.algorithm);
        if (!nodes.isActive(terms.requester, REQUESTER)) revert RequesterUnusable(terms.requester);
    }

    function _requireSound(GrantTerms calldata terms) private view {
        if (terms.expiresAt <= terms.notBefore || terms.expiresAt <= block.timestamp) {
            revert InvalidWindow(terms.notBefore, terms.expiresAt);
        }
        if (terms.uses == 0) revert NoUses();
        if (terms.protections == 0) revert NoProtection();
        if (terms.purpose == 0) revert EmptyPurpose();
        uint256 n = terms.participants.length;
        if (n > MAX_PARTICIPANTS) revert TooManyParticipants(n);
        address previous;
        for (uint256 i; i < n; ++i) {
            if (terms.participants[i] <= previous) revert ParticipantsNotAscending(i);
            previous = terms.participants[i];
        }
    }

    /// @dev A grant of which there is a record has a dataset of record, and a dataset has one owner for ever.
    function _ownerOf(bytes32 grant) private view returns (address owner) {
        if (_meters[grant].expiresAt == 0) revert UnknownGrant(grant);
        (owner,) = datasets.standingOf(_terms[grant].dataset);
    }

    function _meterFor(GrantTerms calldata terms, uint32 serial) private view returns (Meter memory) {
        uint8 flags = terms.approvalRequired ? APPROVAL_REQUIRED : 0;
        if (terms.epsilon != 0) flags |= BUDGETED;
        if (terms.participants.length != 0) flags |= RESTRICTED;
        return Meter({
            serial: serial,
            usesLeft: terms.uses,
            notBefore: terms.notBefore,
            expiresAt: terms.expiresAt,
            protections: terms.protections,
            epsilonLeft: terms.epsilon,
            seen: ledger.lapses(),
            flags: flags
        });
    }

    function _hashGrant(GrantTerms calldata terms, uint32 serial, uint40 validUntil) private pure returns (bytes32) {
        return keccak256(
            abi.encode(
                GRANT_TYPE,
                terms.dataset,
                terms.algorithm,
                terms.requester,
                terms.purpose,
                terms.uses,
                terms.notBefore,
                terms.expiresAt,
                terms.protections,
                terms.approvalRequired,
                terms.epsilon,
                keccak256(abi.encodePacked(terms.participants)),
                serial,
                validUntil
            )
        );
    }

    function _emitIssued(bytes32 grant, address owner, GrantTerms calldata terms) private {
        emit GrantIssued(
            grant,
            owner,
            terms.requester,
            terms.dataset,
            terms.algorithm,
            terms.purpose,
            terms.uses,
            terms.notBefore,
            terms.expiresAt,
            terms.protections,
            terms.approvalRequired,
            terms.epsilon,
            uint8(terms.participants.length)
        );
        for (uint256 i; i < terms.participants.length; ++i) emit GrantParticipant(grant, terms.participants[i]);
    }
}
