// Scripts of outcomes, members and time, and what the leader makes of them.
import Engine
import Testing

private let one = MemberID(1)
private let two = MemberID(2)
private let three = MemberID(3)
private let segment = SegmentBounds(first: LogIndex(1), last: LogIndex(4))
private let nextSegment = SegmentBounds(first: LogIndex(5), last: LogIndex(8))
private let segmentID = JobID(index: LogIndex(4), kind: .flush)
private let nextSegmentID = JobID(index: LogIndex(8), kind: .flush)
private let jobID = JobID(index: LogIndex(20), kind: .compaction)

/// Output of the job; `content` stands for its bytes.
private func output(_ content: UInt64) -> TableRecord {
    var record = Sample.table(.compaction, 20, level: 1, "a", "m", sequences: 1...4)
    record.digest = Digest128(low: content, high: 0)
    return record
}

private func flushed(_ content: UInt64, _ segment: SegmentBounds = segment) -> TableRecord {
    var record = Sample.flush(segment.first.rawValue...segment.last.rawValue, "a", "m")
    record.digest = Digest128(low: content, high: 0)
    return record
}

private struct Script {
    var coordinator = JobCoordinator(own: one)
    var now: UInt64 = 1000

    /// A leader among `able`, with this work.
    init(able: Set<MemberID> = [one, two, three], _ inputs: JobInput...) {
        for input in inputs { _ = step(input) }
        _ = step(.leadership(true))
        _ = step(.members(able: able))
    }

    static var job: JobInput {
        let input = Sample.flush(1...4, "a", "m")
        return .jobStarted(
            PendingJob(
                index: LogIndex(20), spec: Sample.spec([input], to: 1),
                hull: KeySpan(smallest: Sample.key("a"), largest: Sample.key("m"))))
    }

    mutating func step(_ input: JobInput) -> [JobAction] {
        var out: [JobAction] = []
        coordinator.step(input, now: now, into: &out)
        return out
    }

    mutating func report(
        _ member: MemberID, _ id: JobID, _ tables: [TableRecord], attempt: UInt32 = 1,
        balanced: Bool = true
    ) -> [JobAction] {
        let result = JobOutcome.Result.tables(tables, balanced: balanced)
        return step(.outcome(from: member, JobOutcome(job: id, attempt: attempt, result: result)))
    }

    mutating func fail(_ member: MemberID, _ id: JobID, attempt: UInt32 = 1) -> [JobAction] {
        let result = JobOutcome.Result.failed("no")
        return step(.outcome(from: member, JobOutcome(job: id, attempt: attempt, result: result)))
    }

    mutating func wait(_ milliseconds: UInt64) -> [JobAction] {
        now += milliseconds
        return step(.tick)
    }
}

@Suite struct JobCoordinatorTests {
    // MARK: - Proof

    @Test func twoEqualOutcomesProve() {
        var script = Script(Script.job)
        #expect(script.report(two, jobID, [output(1)]) == [])
        #expect(script.report(two, jobID, [output(1)]) == [], "repeated, not a second member")
        #expect(
            script.report(three, jobID, [output(1)])
                == [.proposeCompacted(LogIndex(20), [output(1)])])
        #expect(script.report(one, jobID, [output(1)]) == [], "proposed once")
        #expect(script.step(.concluded(jobID)) == [])
        #expect(script.coordinator.waiting == [])
    }

    @Test func aJobWithoutOutputsIsProvedToo() {
        var script = Script(Script.job)
        _ = script.report(one, jobID, [])
        #expect(script.report(two, jobID, []) == [.proposeCompacted(LogIndex(20), [])])
    }

    @Test func nobodyDecidesWithoutLeadingOrKnowingTheMembers() {
        var script = Script(Script.job)
        _ = script.step(.leadership(false))
        #expect(script.report(one, jobID, [output(1)]) == [])
        #expect(script.report(two, jobID, [output(1)]) == [])
        #expect(script.step(.leadership(true)) == [])
        #expect(script.report(one, jobID, [output(1)]) == [])
        #expect(script.wait(100_000) == [], "members are not known yet")
        #expect(
            script.step(.members(able: [one]))
                == [.proposeCompacted(LogIndex(20), [output(1)])])
    }

    // MARK: - One outcome

    @Test func theOnlyAbleMemberSuffices() {
        var script = Script(able: [one], Script.job)
        #expect(
            script.report(one, jobID, [output(1)])
                == [.proposeCompacted(LogIndex(20), [output(1)])])
        var unbalanced = Script(able: [one], Script.job)
        let refused = unbalanced.report(one, jobID, [output(1)], balanced: false)
        #expect(
            refused == [
                .proposeCancelled(
                    LogIndex(20), .failed, "member 1: its entry sums do not balance")
            ])
    }

    @Test func theLeadersOwnSufficesAfterAWhile() {
        var script = Script(Script.job)
        #expect(script.report(one, jobID, [output(1)]) == [])
        #expect(script.wait(59_999) == [])
        #expect(script.wait(1) == [.proposeCompacted(LogIndex(20), [output(1)])])
        var other = Script(Script.job)
        #expect(other.report(two, jobID, [output(1)]) == [])
        #expect(other.wait(600_000) == [], "a follower's alone does not")
        #expect(
            other.step(.members(able: [two])) == [.proposeCompacted(LogIndex(20), [output(1)])],
            "unless nobody else can")
    }

    @Test func pressureNeedsNoWaiting() {
        var script = Script(Script.job)
        #expect(script.report(one, jobID, [output(1)]) == [])
        #expect(script.step(.pressure(true)) == [.proposeCompacted(LogIndex(20), [output(1)])])
    }

    @Test func membersThatBecomeUnableAreNotWaitedFor() {
        var script = Script(Script.job)
        _ = script.report(one, jobID, [output(1)])
        #expect(script.step(.members(able: [one, two])) == [])
        #expect(
            script.step(.members(able: [one])) == [.proposeCompacted(LogIndex(20), [output(1)])])
    }

    // MARK: - Disagreement

    @Test func whoDisagreesWithItselfIsWrong() {
        var script = Script(able: [one, two], Script.job)
        _ = script.report(one, jobID, [output(1)])
        #expect(
            script.report(two, jobID, [output(2)])
                == [.recompute(jobID, attempt: 2, members: [one, two])])
        #expect(script.report(two, jobID, [output(2)], attempt: 2) == [])
        #expect(
            script.report(one, jobID, [output(3)], attempt: 2) == [
                .divergence(jobID, wrong: [one]), .proposeCompacted(LogIndex(20), [output(2)]),
            ], "the leader is not assumed right")
    }

    @Test func aThirdDecides() {
        var script = Script(Script.job)
        _ = script.report(one, jobID, [output(1)])
        #expect(
            script.report(two, jobID, [output(2)])
                == [.recompute(jobID, attempt: 2, members: [one, two])])
        #expect(script.report(one, jobID, [output(1)], attempt: 2) == [])
        #expect(script.report(two, jobID, [output(2)], attempt: 2) == [])
        #expect(script.wait(600_000) == [], "while a third can still decide")
        #expect(
            script.report(three, jobID, [output(2)]) == [
                .divergence(jobID, wrong: [one]), .proposeCompacted(LogIndex(20), [output(2)]),
            ])
    }

    @Test func aThirdMayBeFasterThanTheSecondLook() {
        var script = Script(Script.job)
        _ = script.report(one, jobID, [output(1)])
        _ = script.report(two, jobID, [output(2)])
        #expect(
            script.report(three, jobID, [output(1)]) == [
                .divergence(jobID, wrong: [two]), .proposeCompacted(LogIndex(20), [output(1)]),
            ])
    }

    @Test func withoutAThirdTheJobIsCancelled() {
        var script = Script(Script.job)
        _ = script.report(one, jobID, [output(1)])
        _ = script.report(two, jobID, [output(2)])
        _ = script.report(one, jobID, [output(1)], attempt: 2)
        _ = script.report(two, jobID, [output(2)], attempt: 2)
        let cancelled: [JobAction] = [
            .divergence(jobID, wrong: []),
            .proposeCancelled(LogIndex(20), .divergence, "members computed different tables"),
        ]
        var other = script
        #expect(script.step(.members(able: [one, two])) == cancelled)
        #expect(other.report(three, jobID, [output(3)]) == cancelled, "nor with a third opinion")
    }

    @Test func requestsThatGetLostAreRepeated() {
        var script = Script(able: [one, two], Script.job)
        _ = script.report(one, jobID, [output(1)])
        _ = script.report(two, jobID, [output(2)])
        _ = script.report(one, jobID, [output(1)], attempt: 2)
        #expect(script.wait(9_999) == [])
        #expect(script.wait(1) == [.recompute(jobID, attempt: 2, members: [two])])
        #expect(script.wait(1) == [])
        _ = script.report(two, jobID, [output(2)])
        #expect(
            script.report(two, jobID, [output(1)], attempt: 2) == [
                .divergence(jobID, wrong: [two]), .proposeCompacted(LogIndex(20), [output(1)]),
            ])
    }

    @Test func twoThatDifferFromALoneProofRaiseAnAlarm() {
        var script = Script(Script.job)
        _ = script.report(one, jobID, [output(1)])
        _ = script.wait(60_000)
        #expect(script.report(two, jobID, [output(2)]) == [])
        _ = script.step(.concluded(jobID))
        #expect(script.report(two, jobID, [output(2)]) == [])
        #expect(script.report(three, jobID, [output(2)]) == [.divergence(jobID, wrong: [])])
        #expect(script.report(three, jobID, [output(2)]) == [])
    }

    // MARK: - Failure

    @Test func allAbleMembersFail() {
        var script = Script(Script.job)
        #expect(script.fail(one, jobID) == [])
        #expect(script.fail(two, jobID) == [])
        #expect(
            script.fail(three, jobID) == [
                .proposeCancelled(
                    LogIndex(20), .failed, "member 1: no; member 2: no; member 3: no")
            ])
    }

    @Test func oneThatSucceedsIsEnoughWhenTheOthersFail() {
        var script = Script(Script.job)
        _ = script.fail(one, jobID)
        _ = script.report(two, jobID, [output(1)])
        #expect(
            script.fail(three, jobID) == [.proposeCompacted(LogIndex(20), [output(1)])])
    }

    @Test func outputsThatCouldNotBeLoggedAreFailures() {
        var outside = output(1)
        outside.level = 2
        var script = Script(able: [one, two], Script.job)
        _ = script.report(one, jobID, [outside])
        let actions = script.report(two, jobID, [outside])
        guard case .proposeCancelled(LogIndex(20), .failed, _)? = actions.first else {
            Issue.record("\(actions)")
            return
        }
    }

    @Test func aFlushIsNeverCancelled() {
        var script = Script(able: [one, two], .segmentEnded(segment))
        _ = script.fail(one, segmentID)
        let failed = script.fail(two, segmentID)
        #expect(failed == [.flushFailed(segment, "member 1: no; member 2: no")])
        #expect(script.wait(59_999) == [])
        #expect(script.wait(1) == [.recompute(segmentID, attempt: 2, members: [one, two])])
        #expect(script.fail(one, segmentID) == [], "an answer of the round before")
        #expect(script.report(one, segmentID, [flushed(1)], attempt: 2) == [])
        #expect(
            script.report(two, segmentID, [flushed(1)], attempt: 2)
                == [.proposeSeal(segment, [flushed(1)])])
    }

    @Test func aFlushThatMembersDisagreeAboutIsTriedAgain() {
        var script = Script(able: [one, two], .segmentEnded(segment))
        _ = script.report(one, segmentID, [flushed(1)])
        _ = script.report(two, segmentID, [flushed(2)])
        _ = script.report(one, segmentID, [flushed(1)], attempt: 2)
        #expect(
            script.report(two, segmentID, [flushed(2)], attempt: 2)
                == [.divergence(segmentID, wrong: [])])
        #expect(
            script.wait(60_000) == [.recompute(segmentID, attempt: 3, members: [one, two])])
        _ = script.report(two, segmentID, [flushed(1)], attempt: 3)
        #expect(
            script.report(one, segmentID, [flushed(1)], attempt: 3)
                == [.proposeSeal(segment, [flushed(1)])])
    }

    @Test func membersThatComeBackDuringARetryAreAsked() {
        var script = Script(able: [one], .segmentEnded(segment))
        #expect(script.fail(one, segmentID).count == 1)
        _ = script.step(.members(able: []))
        #expect(script.wait(60_000) == [])
        #expect(
            script.step(.members(able: [two]))
                == [.recompute(segmentID, attempt: 2, members: [two])])
        #expect(
            script.report(two, segmentID, [flushed(1)], attempt: 2)
                == [.proposeSeal(segment, [flushed(1)])])
    }

    @Test func aFlushWithoutTablesIsAFailure() {
        var script = Script(able: [one], .segmentEnded(segment))
        #expect(
            script.report(one, segmentID, [])
                == [.flushFailed(segment, "member 1: a flush without tables")])
    }

    // MARK: - Order of seals

    @Test func sealsAreProposedInTheOrderOfSegments() {
        var script = Script(.segmentEnded(segment), .segmentEnded(nextSegment))
        let later = flushed(2, nextSegment)
        _ = script.report(one, nextSegmentID, [later])
        #expect(script.report(two, nextSegmentID, [later]) == [], "not before the older one")
        _ = script.report(one, segmentID, [flushed(1)])
        #expect(
            script.report(two, segmentID, [flushed(1)]) == [
                .proposeSeal(segment, [flushed(1)]), .proposeSeal(nextSegment, [later]),
            ])
    }

    @Test func aLostSealTakesThoseBehindItAlong() {
        var script = Script(.segmentEnded(segment), .segmentEnded(nextSegment))
        let later = flushed(2, nextSegment)
        for member in [one, two] {
            _ = script.report(member, segmentID, [flushed(1)])
            _ = script.report(member, nextSegmentID, [later])
        }
        #expect(
            script.step(.proposalLost(segmentID)) == [
                .proposeSeal(segment, [flushed(1)]), .proposeSeal(nextSegment, [later]),
            ])
        _ = script.step(.concluded(segmentID))
        #expect(script.step(.proposalLost(nextSegmentID)) == [.proposeSeal(nextSegment, [later])])
    }

    @Test func aLostConclusionIsProposedAgain() {
        var script = Script(able: [one], Script.job)
        let proposal = script.report(one, jobID, [output(1)])
        #expect(script.step(.proposalLost(jobID)) == proposal)
    }

    // MARK: - Change of leadership

    @Test func outcomesComeAgainAfterAChangeOfLeadership() {
        var script = Script(Script.job, .segmentEnded(segment))
        _ = script.report(one, jobID, [output(1)])
        _ = script.report(one, segmentID, [flushed(1)])
        #expect(script.report(two, segmentID, [flushed(1)]).count == 1)
        _ = script.step(.leadership(false))
        #expect(script.step(.leadership(true)) == [])
        _ = script.step(.members(able: [one, two, three]))
        #expect(script.report(two, jobID, [output(1)]) == [], "the earlier one is forgotten")
        #expect(
            script.report(one, jobID, [output(1)])
                == [.proposeCompacted(LogIndex(20), [output(1)])])
        _ = script.report(one, segmentID, [flushed(1)])
        #expect(
            script.report(three, segmentID, [flushed(1)])
                == [.proposeSeal(segment, [flushed(1)])],
            "proposed anew: the second in the log is void")
        _ = script.step(.concluded(segmentID))
        #expect(script.coordinator.waiting == [jobID])
    }

    @Test func workEndsWhoeverConcludesIt() {
        var script = Script(Script.job, .segmentEnded(segment))
        _ = script.step(.leadership(false))
        _ = script.step(.concluded(jobID))
        _ = script.step(.concluded(segmentID))
        #expect(script.coordinator.waiting == [])
    }
}
