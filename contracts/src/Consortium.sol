// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {IConsortium} from "./interfaces/IConsortium.sol";
import {Action, ProposalStatus, Rules} from "./Types.sol";

/// @title The implementation of `IConsortium`, which is its manual
/// @dev Offices are OpenZeppelin roles whose admin role nobody holds: they move by vote and by hand-over.
contract Consortium is IConsortium, AccessControl {
    using EnumerableSet for EnumerableSet.AddressSet;

    bytes32 public constant REGISTRAR = keccak256("REGISTRAR");
    bytes32 public constant REGULATOR = keccak256("REGULATOR");
    uint256 private constant MAX_MEMBERS = 256;

    uint32 public electorate;
    Rules private _rules;
    EnumerableSet.AddressSet private _members;
    mapping(bytes32 => Proposal) private _proposals;
    mapping(bytes32 => mapping(address => bool)) private _voted;
    mapping(bytes32 => mapping(address => address)) private _offers;

    constructor(address[] memory founders, address registrar, address regulator, Rules memory rules_) {
        if (founders.length == 0) revert NotAMember(address(0));

        for (uint256 i; i < founders.length; ++i) _add(founders[i]);
        _setRules(rules_);
        _grantRole(REGISTRAR, registrar);
        _grantRole(REGULATOR, regulator);
    }

    modifier onlyConsortium() {
        if (msg.sender != address(this)) revert OnlyConsortium(msg.sender);
        _;
    }

    modifier onlyMember() {
        if (!_members.contains(msg.sender)) revert OnlyMember(msg.sender);
        _;
    }

    /// @inheritdoc IConsortium
    function propose(Action[] calldata actions, bytes32 description) external onlyMember returns (bytes32 proposal) {
        if (actions.length == 0) revert NoActions();
        proposal = _idOf(actions, description);
        if (_proposals[proposal].createdAt != 0) revert AlreadyProposed(proposal, statusOf(proposal));

        _proposals[proposal] = Proposal(msg.sender, uint40(block.timestamp), 1, 0, false, electorate);
        _voted[proposal][msg.sender] = true;

        emit Proposed(proposal, msg.sender, keccak256(abi.encode(actions)), description);
        emit Voted(proposal, msg.sender, true);
    }

    /// @inheritdoc IConsortium
    function vote(bytes32 proposal, bool yes) external onlyMember {
        ProposalStatus status = statusOf(proposal);
        if (status == ProposalStatus.None) revert UnknownProposal(proposal);
        if (status != ProposalStatus.Open) revert ProposalNotOpen(proposal, status);
        if (_voted[proposal][msg.sender]) revert AlreadyVoted(proposal, msg.sender);

        _voted[proposal][msg.sender] = true;
        if (yes) ++_proposals[proposal].yes;
        else ++_proposals[proposal].no;

        emit Voted(proposal, msg.sender, yes);
    }

    /// @inheritdoc IConsortium
    function execute(Action[] calldata actions, bytes32 description) external {
        bytes32 proposal = _idOf(actions, description);
        ProposalStatus status = statusOf(proposal);
        if (status == ProposalStatus.None) revert UnknownProposal(proposal);
        if (status != ProposalStatus.Passed) revert ProposalNotPassed(proposal, status);

        _proposals[proposal].executed = true;

        emit Executed(proposal, msg.sender);
        for (uint256 i; i < actions.length; ++i) Address.functionCall(actions[i].target, actions[i].data);
    }

    /// @inheritdoc IConsortium
    function addMember(address account) external onlyConsortium {
        _add(account);
    }

    /// @inheritdoc IConsortium
    function removeMember(address account) external onlyConsortium {
        if (!_members.contains(account)) revert NotAMember(account);
        if (_members.length() == 1) revert LastMember(account);

        _members.remove(account);

        emit MemberRemoved(account, ++electorate);
    }

    /// @inheritdoc IConsortium
    function setRules(Rules calldata rules_) external onlyConsortium {
        _setRules(rules_);
    }

    /// @inheritdoc IConsortium
    function appoint(bytes32 office, address account) external onlyConsortium {
        _requireOffice(office);
        if (account == address(0)) revert NotTheHolder(office, account);

        _grantRole(office, account);
    }

    /// @inheritdoc IConsortium
    function dismiss(bytes32 office, address account) external onlyConsortium {
        if (!hasRole(office, account)) revert NotTheHolder(office, account);

        _revokeRole(office, account);
    }

    /// @inheritdoc IConsortium
    function offerOffice(bytes32 office, address to) external {
        if (!hasRole(office, msg.sender)) revert NotTheHolder(office, msg.sender);

        _offers[office][msg.sender] = to;

        emit OfficeOffered(office, msg.sender, to);
    }

    /// @inheritdoc IConsortium
    function acceptOffice(bytes32 office, address holder) external {
        if (!hasRole(office, holder)) revert NotTheHolder(office, holder);
        if (_offers[office][holder] != msg.sender) revert NotOffered(office, holder, msg.sender);

        _revokeRole(office, holder);
        _grantRole(office, msg.sender);
    }

    /// @inheritdoc IConsortium
    function statusOf(bytes32 proposal) public view returns (ProposalStatus) {
        Proposal memory p = _proposals[proposal];
        if (p.createdAt == 0) return ProposalStatus.None;
        if (p.executed) return ProposalStatus.Executed;
        if (p.electorate != electorate) return ProposalStatus.Stale;
        uint256 needed = votesNeeded();
        uint256 closes = uint256(p.createdAt) + _rules.votingPeriod;
        if (p.yes >= needed) {
            return block.timestamp < closes + _rules.executionPeriod ? ProposalStatus.Passed : ProposalStatus.Expired;
        }
        if (_members.length() - p.no < needed) return ProposalStatus.Rejected;
        return block.timestamp < closes ? ProposalStatus.Open : ProposalStatus.Expired;
    }

    /// @inheritdoc IConsortium
    function proposalOf(bytes32 proposal) external view returns (Proposal memory) {
        return _proposals[proposal];
    }

    /// @inheritdoc IConsortium
    function rules() external view returns (Rules memory) {
        return _rules;
    }

    /// @inheritdoc IConsortium
    function members() external view returns (address[] memory) {
        return _members.values();
    }

    /// @inheritdoc IConsortium
    function votesNeeded() public view returns (uint256) {
        return _members.length() * _rules.quorum / 100 + 1;
    }

    /// @inheritdoc IConsortium
    function isRegistrar(address account) public view returns (bool) {
        return hasRole(REGISTRAR, account);
    }

    /// @inheritdoc IConsortium
    function isRegulator(address account) public view returns (bool) {
        return hasRole(REGULATOR, account);
    }

    /// @inheritdoc IConsortium
    function requireAdmission(address caller) external view {
        if (caller == address(this)) return;
        if (!isRegistrar(caller)) revert OnlyRegistrar(caller);
        if (_members.length() > 1) revert VoteDue(caller, _members.length());
    }

    /// @inheritdoc IConsortium
    function requireSupervision(address caller) external view returns (bool prevails) {
        prevails = caller == address(this) || isRegulator(caller);
        if (!prevails && !isRegistrar(caller)) revert OnlyRegistrarOrRegulator(caller);
    }

    /// @dev An office that is left takes what its holder offered with it.
    function _revokeRole(bytes32 office, address account) internal override returns (bool) {
        delete _offers[office][account];
        return super._revokeRole(office, account);
    }

    function _add(address account) private {
        if (account == address(0)) revert NotAMember(account);
        if (_members.length() == MAX_MEMBERS) revert TooManyMembers(MAX_MEMBERS);
        if (!_members.add(account)) revert AlreadyMember(account);

        emit MemberAdded(account, ++electorate);
    }

    /// @dev A quorum below half would let two opposite proposals pass; at 100 none could.
    function _setRules(Rules memory r) private {
        if (r.quorum < 50 || r.quorum > 99 || r.votingPeriod == 0 || r.executionPeriod == 0) revert InvalidRules();

        _rules = r;

        emit RulesChanged(r.quorum, r.votingPeriod, r.executionPeriod, r.reviews, ++electorate);
    }

    function _requireOffice(bytes32 office) private pure {
        if (office != REGISTRAR && office != REGULATOR) revert UnknownOffice(office);
    }

    function _idOf(Action[] calldata actions, bytes32 description) private view returns (bytes32) {
        return keccak256(abi.encode(actions, description, electorate));
    }
}
