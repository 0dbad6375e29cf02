// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Governed} from "./Governed.sol";
import {IAlgorithmRegistry} from "./interfaces/IAlgorithmRegistry.sol";
import {IConsortium} from "./interfaces/IConsortium.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {AlgorithmStatus, ReviewStatus} from "./Types.sol";

/// @title The implementation of `IAlgorithmRegistry`, which is its manual
contract AlgorithmRegistry is IAlgorithmRegistry, Governed {
    uint8 private constant ALGORITHM_PROVIDER = 8;
    uint256 private constant MAX_REVIEWERS = 8;

    INodeRegistry public immutable nodes;
    mapping(bytes32 => Algorithm) private _algorithms;
    mapping(bytes32 => mapping(address => ReviewStatus)) private _reviews;

    constructor(IConsortium consortium_, INodeRegistry nodes_) Governed(consortium_) {
        nodes = nodes_;
    }

    /// @inheritdoc IAlgorithmRegistry
    function register(bytes32 algorithm) external {
        uint8 needed = consortium.rules().reviews;
        if (needed != 0) revert WrongNumberOfReviewers(0, needed);
        _requireNew(algorithm);

        _algorithms[algorithm] = _record(AlgorithmStatus.Active, 0);

        emit AlgorithmRegistered(algorithm, msg.sender);
    }

    /// @inheritdoc IAlgorithmRegistry
    function propose(bytes32 algorithm, address[] calldata reviewers) external {
        uint256 needed = consortium.rules().reviews;
        uint256 n = reviewers.length;
        if (n < needed || n == 0 || n > MAX_REVIEWERS) revert WrongNumberOfReviewers(n, needed);
        _requireNew(algorithm);
        _requireReviewers(reviewers);

        _algorithms[algorithm] = _record(AlgorithmStatus.Proposed, uint8(n));
        for (uint256 i; i < n; ++i) _reviews[algorithm][reviewers[i]] = ReviewStatus.Asked;

        emit AlgorithmProposed(algorithm, msg.sender, uint8(n));
        for (uint256 i; i < n; ++i) emit ReviewAsked(algorithm, reviewers[i]);
    }

    /// @inheritdoc IAlgorithmRegistry
    function review(bytes32 algorithm, bool agreed, bytes32 report) external {
        nodes.requireActive(msg.sender, 0);
        Algorithm storage a = _algorithms[algorithm];
        ReviewStatus said = _reviews[algorithm][msg.sender];
        if (said != ReviewStatus.Asked) revert NotAskedToReview(algorithm, msg.sender, said);
        if (a.status != AlgorithmStatus.Proposed) revert AlgorithmNotProposed(algorithm, a.status);
        if (report == 0) revert ReasonMissing(algorithm);

        _reviews[algorithm][msg.sender] = agreed ? ReviewStatus.Agreed : ReviewStatus.Declined;
        bool all = agreed && ++a.agreed == a.asked;
        if (all) a.status = AlgorithmStatus.Active;
        if (!agreed) a.status = AlgorithmStatus.Rejected;

        emit AlgorithmReviewed(algorithm, msg.sender, agreed, report);
        if (all) emit AlgorithmRegistered(algorithm, a.provider);
        if (!agreed) emit AlgorithmRejected(algorithm);
    }

    /// @inheritdoc IAlgorithmRegistry
    function supersede(bytes32 previous, bytes32 algorithm) external {
        _requireOwnActive(previous);
        _requireOwnActive(algorithm);
        if (_algorithms[previous].superseded) revert AlgorithmAlreadySuperseded(previous);
        if (_algorithms[algorithm].superseded || algorithm == previous) revert AlgorithmAlreadySuperseded(algorithm);

        _algorithms[previous].superseded = true;

        emit AlgorithmSuperseded(previous, algorithm);
    }

    /// @inheritdoc IAlgorithmRegistry
    function suspend(bytes32 algorithm, bytes32 reason) external {
        bool prevails = consortium.requireSupervision(msg.sender);
        Algorithm storage a = _algorithms[algorithm];
        bool takesOver = prevails && a.status == AlgorithmStatus.Suspended && !a.held;
        if (a.status != AlgorithmStatus.Active && !takesOver) revert AlgorithmNotActive(algorithm, a.status);
        if (reason == 0) revert ReasonMissing(algorithm);

        a.status = AlgorithmStatus.Suspended;
        a.held = prevails;

        emit AlgorithmSuspended(algorithm, msg.sender, prevails, reason);
        nodes.lapse();
    }

    /// @inheritdoc IAlgorithmRegistry
    function reinstate(bytes32 algorithm) external {
        bool prevails = consortium.requireSupervision(msg.sender);
        Algorithm storage a = _algorithms[algorithm];
        if (a.status != AlgorithmStatus.Suspended) revert AlgorithmNotSuspended(algorithm, a.status);
        if (a.held && !prevails) revert AlgorithmHeld(algorithm);

        a.status = AlgorithmStatus.Active;
        a.held = false;

        emit AlgorithmReinstated(algorithm, msg.sender);
    }

    /// @inheritdoc IAlgorithmRegistry
    function revoke(bytes32 algorithm) external {
        Algorithm storage a = _algorithms[algorithm];
        _requireOwn(algorithm, a);
        if (a.status == AlgorithmStatus.Revoked) revert AlgorithmAlreadyRevoked(algorithm);
        if (a.status == AlgorithmStatus.Rejected) revert AlgorithmIsRejected(algorithm);

        a.status = AlgorithmStatus.Revoked;

        emit AlgorithmRevoked(algorithm, msg.sender);
        nodes.lapse();
    }

    /// @inheritdoc IAlgorithmRegistry
    function algorithmOf(bytes32 algorithm) external view returns (Algorithm memory) {
        return _algorithms[algorithm];
    }

    /// @inheritdoc IAlgorithmRegistry
    function reviewOf(bytes32 algorithm, address reviewer) external view returns (ReviewStatus) {
        return _reviews[algorithm][reviewer];
    }

    /// @inheritdoc IAlgorithmRegistry
    function isActive(bytes32 algorithm) external view returns (bool) {
        return _algorithms[algorithm].status == AlgorithmStatus.Active;
    }

    /// @inheritdoc IAlgorithmRegistry
    function isGrantable(bytes32 algorithm) external view returns (bool) {
        return _algorithms[algorithm].status == AlgorithmStatus.Active && !_algorithms[algorithm].superseded;
    }

    function _record(AlgorithmStatus status, uint8 asked) private view returns (Algorithm memory) {
        return Algorithm(msg.sender, status, false, false, uint40(block.timestamp), asked, 0);
    }

    function _requireNew(bytes32 algorithm) private view {
        nodes.requireActive(msg.sender, ALGORITHM_PROVIDER);
        if (algorithm == 0) revert EmptyDigest();
        if (_algorithms[algorithm].status != AlgorithmStatus.None) revert AlgorithmAlreadyKnown(algorithm);
    }

    function _requireReviewers(address[] calldata reviewers) private view {
        address previous;
        for (uint256 i; i < reviewers.length; ++i) {
            if (reviewers[i] <= previous) revert ReviewersNotAscending(i);
            if (reviewers[i] == msg.sender) revert NotIndependent(msg.sender);
            nodes.requireActive(reviewers[i], 0);
            previous = reviewers[i];
        }
    }

    function _requireOwn(bytes32 algorithm, Algorithm storage a) private view {
        if (a.status == AlgorithmStatus.None) revert UnknownAlgorithm(algorithm);
        if (msg.sender != a.provider) revert NotAlgorithmProvider(algorithm, msg.sender, a.provider);
    }

    function _requireOwnActive(bytes32 algorithm) private view {
        Algorithm storage a = _algorithms[algorithm];
        _requireOwn(algorithm, a);
        if (a.status != AlgorithmStatus.Active) revert AlgorithmNotActive(algorithm, a.status);
    }
}
