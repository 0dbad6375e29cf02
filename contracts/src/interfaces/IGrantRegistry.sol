// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Denial, GrantStatus, GrantTerms, Request, Signed} from "../Types.sol";

/// @title Who may use which dataset, with which algorithm, for what, with whom, how often and until when
/// @notice An owner acts directly, or signs (EIP-712, domain "Sealtrace GrantRegistry", version "1") what
/// anybody may then submit, with the same effect. A signed grant carries the owner's running serial, so it
/// is good for one grant; a signed revocation names the one grant it ends.
interface IGrantRegistry {
    struct Grant {
        address owner;
        uint40 notBefore;
        uint40 expiresAt;
        uint16 protections;
        address requester;
        uint32 uses;
        uint32 usesLeft;
        bool approvalRequired;
        bool revoked;
        uint48 epsilon;
        uint48 epsilonLeft;
        bytes32 dataset;
        bytes32 algorithm;
        bytes32 purpose;
        address[] participants;
    }

    event GrantIssued(
        bytes32 indexed grant,
        address indexed owner,
        address indexed requester,
        bytes32 dataset,
        bytes32 algorithm,
        bytes32 purpose,
        uint32 uses,
        uint40 notBefore,
        uint40 expiresAt,
        uint16 protections,
        bool approvalRequired,
        uint48 epsilon,
        uint8 participants
    );
    event GrantParticipant(bytes32 indexed grant, address indexed participant);
    event GrantReplaced(bytes32 indexed grant, bytes32 indexed by);
    event GrantRevoked(bytes32 indexed grant, address indexed owner);
    event GrantConsumed(bytes32 indexed grant, bytes32 indexed task, uint32 usesLeft, uint48 epsilonLeft);
    event SerialPassed(address indexed owner, uint32 serial);

    error UnknownGrant(bytes32 grant);
    error NotGrantOwner(bytes32 grant, address caller, address owner);
    error GrantAlreadyRevoked(bytes32 grant);
    error NotOwnDataset(bytes32 dataset, address caller, address owner);
    error DatasetUnusable(bytes32 dataset);
    error AlgorithmUnusable(bytes32 algorithm);
    error RequesterUnusable(address requester);
    error InvalidWindow(uint40 notBefore, uint40 expiresAt);
    error NoUses();
    error NoProtection();
    error EmptyPurpose();
    error TooManyParticipants(uint256 participants);
    error ParticipantsNotAscending(uint256 index);
    error OnlyTaskLedger(address caller);
    error Denied(bytes32 grant, Denial reason);

    /// @notice Issues a grant over one of the caller's datasets.
    /// @return grant its id, see `idOf`
    function issue(GrantTerms calldata terms) external returns (bytes32 grant);

    /// @notice The same on behalf of `owner`, who signed
    /// `Grant(bytes32 dataset,bytes32 algorithm,address requester,bytes32 purpose,uint32 uses,uint40 notBefore,uint40 expiresAt,uint16 protections,bool approvalRequired,uint48 epsilon,address[] participants,uint32 serial,uint40 validUntil)`.
    function issueSigned(address owner, GrantTerms calldata terms, Signed calldata signed)
        external
        returns (bytes32 grant);

    /// @notice Ends a grant and issues another in one step. Only its owner.
    /// @return replacement the new grant's id
    function replace(bytes32 grant, GrantTerms calldata terms) external returns (bytes32 replacement);

    /// @notice Ends a grant at once. Only its owner; a running task is not stopped by it.
    function revoke(bytes32 grant) external;

    /// @notice The same on behalf of the owner, who signed `Revocation(bytes32 grant,uint40 validUntil)`.
    function revokeSigned(bytes32 grant, Signed calldata signed) external;

    /// @notice Makes the grant that the caller signed under its present serial, and nobody submitted, void.
    function passSerial() external;

    /// @notice Spends one use of `grant` and the epsilon asked for, or reverts with `Denied` and the first
    /// reason. Only the ledger.
    /// @dev Warning: a spent use is not given back, even if the task later fails off chain.
    /// @param lapses how often the ledger has heard of a lapse; where it has heard of none since the grant was
    /// issued or last spent, the requester, the dataset and the algorithm stand as they stood then
    function consume(
        bytes32 grant,
        Request calldata request,
        address[] calldata parties,
        bytes32 task,
        uint32 lapses
    ) external;

    /// @notice The first reason why `request`, with these parties, may not run under `grant` now, or `None`.
    function denialOf(bytes32 grant, Request calldata request, address[] calldata parties)
        external
        view
        returns (Denial);

    /// @notice Which of `grants` (256 at most; one bit each, the first lowest) ask for no approval of each
    /// task, and have a use left.
    /// @dev A light look at creation, whoever's grants they are; the whole check is `consume`, at the start.
    function standing(bytes32[] calldata grants) external view returns (uint256 mask);

    /// @notice The state of `grant` at this block's time.
    function statusOf(bytes32 grant) external view returns (GrantStatus);

    /// @notice The record of `grant`; owner zero when it was never issued. What was used of it, for a bill,
    /// is `uses - usesLeft` and `epsilon - epsilonLeft`.
    function grantOf(bytes32 grant) external view returns (Grant memory);

    /// @notice The serial that the next grant of `owner` will carry.
    function serialOf(address owner) external view returns (uint32);

    /// @notice The id of the grant that `owner` issues on these terms under `serial`:
    /// `keccak256(abi.encode(chainid, registry, owner, serial, dataset, algorithm, requester, purpose))`.
    /// It commits to what is allowed to whom, so that a start is compared with it by hashing.
    function idOf(address owner, uint32 serial, bytes32 dataset, bytes32 algorithm, address requester, bytes32 purpose)
        external
        view
        returns (bytes32);
}
