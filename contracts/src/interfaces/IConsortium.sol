// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Action, ProposalStatus, Rules} from "../Types.sol";

/// @title Who belongs to the consortium, who holds its offices, and how it decides
/// @notice Members decide by vote, one voice each; what they decide, this contract does in its own name.
/// There are two offices. The *registrar* admits and retires nodes alone only while there is a single
/// member; with several, a vote is due. The *regulator* suspends and reinstates, and nothing else.
/// Nobody else has any power, and no key can change what is recorded.
interface IConsortium {
    /// @dev Kept for a proposal. `electorate` is the state of membership and rules it was made under: whoever
    /// joins or leaves, and new rules, end all open proposals, so that nobody is bound by other terms
    /// than those he voted under.
    struct Proposal {
        address proposer;
        uint40 createdAt;
        uint16 yes;
        uint16 no;
        bool executed;
        uint32 electorate;
    }

    event MemberAdded(address indexed member, uint32 electorate);
    event MemberRemoved(address indexed member, uint32 electorate);
    event RulesChanged(
        uint8 quorum, uint32 votingPeriod, uint32 executionPeriod, uint8 reviews, uint32 electorate
    );
    event Proposed(bytes32 indexed proposal, address indexed proposer, bytes32 actions, bytes32 description);
    event Voted(bytes32 indexed proposal, address indexed member, bool yes);
    event Executed(bytes32 indexed proposal, address indexed by);
    event OfficeOffered(bytes32 indexed office, address indexed holder, address indexed to);

    error OnlyMember(address caller);
    error OnlyConsortium(address caller);
    error OnlyRegistrar(address caller);
    error OnlyRegistrarOrRegulator(address caller);
    error VoteDue(address caller, uint256 members);
    error AlreadyMember(address account);
    error NotAMember(address account);
    error LastMember(address account);
    error TooManyMembers(uint256 members);
    error InvalidRules();
    error UnknownOffice(bytes32 office);
    error NotTheHolder(bytes32 office, address account);
    error NotOffered(bytes32 office, address holder, address caller);
    error NoActions();
    error AlreadyProposed(bytes32 proposal, ProposalStatus status);
    error UnknownProposal(bytes32 proposal);
    error ProposalNotOpen(bytes32 proposal, ProposalStatus status);
    error ProposalNotPassed(bytes32 proposal, ProposalStatus status);
    error AlreadyVoted(bytes32 proposal, address member);

    /// @notice Proposes that the consortium take `actions`, and votes for it. Only a member.
    /// @param description SHA-256 of the reasons in words; the same actions with the same reasons are
    /// proposed once under one membership
    /// @return proposal its id, `keccak256(abi.encode(actions, description, electorate))`
    function propose(Action[] calldata actions, bytes32 description) external returns (bytes32 proposal);

    /// @notice Votes on an open proposal, once. Only a member.
    function vote(bytes32 proposal, bool yes) external;

    /// @notice Does what a passed proposal says; all of it or nothing. Anybody.
    /// @dev Warning: an action that reverts keeps the proposal passed, to be tried again until it expires.
    function execute(Action[] calldata actions, bytes32 description) external;

    /// @notice Adds a member. Only the consortium, by vote. Ends all open proposals.
    function addMember(address account) external;

    /// @notice Removes a member. Only the consortium, by vote. Ends all open proposals.
    function removeMember(address account) external;

    /// @notice Changes how the consortium decides. Only the consortium, by vote. Ends all open proposals.
    function setRules(Rules calldata rules) external;

    /// @notice Gives an office to `account`. Only the consortium, by vote.
    function appoint(bytes32 office, address account) external;

    /// @notice Takes an office from `account`. Only the consortium, by vote.
    function dismiss(bytes32 office, address account) external;

    /// @notice Offers the caller's office to `to`; the zero address takes an offer back.
    function offerOffice(bytes32 office, address to) external;

    /// @notice Takes over an office that `holder` offered to the caller; the holder then has it no more.
    function acceptOffice(bytes32 office, address holder) external;

    /// @notice Where `proposal` stands at this block's time.
    function statusOf(bytes32 proposal) external view returns (ProposalStatus);

    /// @notice The record of `proposal`; proposer zero when there is none.
    function proposalOf(bytes32 proposal) external view returns (Proposal memory);

    /// @notice How the consortium decides.
    function rules() external view returns (Rules memory);

    /// @notice All members, in no particular order.
    function members() external view returns (address[] memory);

    /// @notice How many votes a proposal needs.
    function votesNeeded() external view returns (uint256);

    /// @notice Whether `account` holds the office of registrar.
    function isRegistrar(address account) external view returns (bool);

    /// @notice Whether `account` holds the office of regulator.
    function isRegulator(address account) external view returns (bool);

    /// @notice Reverts unless `caller` may admit and retire: the consortium itself, or the registrar
    /// while there is a single member.
    function requireAdmission(address caller) external view;

    /// @notice Reverts unless `caller` is the consortium itself, the registrar or the regulator.
    /// @return prevails whether what it suspends the registrar cannot reinstate (regulator, consortium)
    function requireSupervision(address caller) external view returns (bool prevails);
}
