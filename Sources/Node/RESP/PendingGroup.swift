// A group of commands between its evaluation and its replies: what each would be answered, and what
// must come true first. Owned by the evaluator's drain.
import Engine
import Replication

/// How something that an answer waits for ended.
enum Resolution: Sendable {
    case applied(LogIndex)
    /// Certainly not applied; the error reply.
    case refused(String)
    case unknown(Term, LogIndex)

    init(_ outcome: ProposalOutcome) {
        switch outcome {
        case .applied(let position): self = .applied(position.index)
        case .notApplied(let reason): self = .refused(ReplyText.notApplied(reason))
        case .unknown(let term, let index): self = .unknown(term, index)
        }
    }

    var isApplied: Bool {
        if case .applied = self { return true }
        return false
    }

    /// The error reply to a command that waited for this. Without effects nothing can have
    /// happened, so retry is safe however it ended.
    func text(hasEffects: Bool) -> String {
        switch self {
        case .refused(let text): return text
        case .unknown(let term, let index) where hasEffects:
            return ReplyText.uncertain(term: term, index: index)
        case .unknown, .applied: return ReplyText.leadershipLost
        }
    }
}

final class PendingGroup {
    /// A run of the group's commands that wait for the same things.
    private struct Segment {
        var commands: Range<Int>
        /// Numbers of a proposal or confirmation, and of a proposal that was read from.
        var awaits: [UInt64] = []
    }

    let request: EvaluationRequest
    /// Things that are still waited for; the evaluation itself is the first.
    var open = 1
    var resolutions: [(number: UInt64, resolution: Resolution)] = []
    private var replies = ReplyBundle()
    private var hasEffects: [Bool] = []
    private var segments: [Segment] = []
    /// Of the next command.
    private var place = (batch: 0, command: 0)

    init(_ request: EvaluationRequest) {
        self.request = request
        skipEmptyBatches()
    }

    /// The next command to evaluate; nil behind the last.
    var next: (command: RoutedCommand, version: RESPVersion)? {
        guard place.batch < request.batches.count else { return nil }
        let batch = request.batches[place.batch]
        return (batch.commands[place.command], batch.version)
    }

    /// Some of its commands are evaluated.
    var isBegun: Bool { !hasEffects.isEmpty }

    func advance() {
        place.command += 1
        skipEmptyBatches()
    }

    private func skipEmptyBatches() {
        while place.batch < request.batches.count,
            place.command == request.batches[place.batch].commands.count
        {
            place = (place.batch + 1, 0)
        }
    }

    var replyBytes: Int { replies.bytes.count }

    func append(_ reply: ArraySlice<UInt8>, hasEffects: Bool) {
        replies.append(reply)
        self.hasEffects.append(hasEffects)
    }

    /// Answers a command at once: it waits for nothing.
    func append(refusedWith text: String) {
        append(PendingGroup.encoded(text), hasEffects: false)
    }

    func openSegment() {
        segments.append(Segment(commands: hasEffects.count..<hasEffects.count))
        open += 1
    }

    func closeSegment(awaiting number: UInt64) {
        let last = segments.count - 1
        segments[last].commands = segments[last].commands.lowerBound..<hasEffects.count
        segments[last].awaits = [number]
    }

    func awaitToo(_ number: UInt64) {
        segments[segments.count - 1].awaits.append(number)
        open += 1
    }

    /// The replies, now that everything has ended.
    func bundle() -> ReplyBundle {
        var result = resolutions.allSatisfy(\.resolution.isApplied) ? replies : withFailures()
        for segment in segments where segment.commands.contains(where: { hasEffects[$0] }) {
            for number in segment.awaits {
                if case .applied(let index) = resolution(of: number) {
                    result.writeIndex = max(result.writeIndex, index)
                }
            }
        }
        return result
    }

    private func withFailures() -> ReplyBundle {
        var result = ReplyBundle()
        var next = 0
        func keep(upTo end: Int) {
            while next < end {
                result.append(replies.slice(next..<(next + 1)))
                next += 1
            }
        }
        for segment in segments {
            keep(upTo: segment.commands.lowerBound)
            let failure = segment.awaits.lazy.map { self.resolution(of: $0) }
                .first { !$0.isApplied }
            if let failure {
                for index in segment.commands {
                    result.append(
                        PendingGroup.encoded(failure.text(hasEffects: hasEffects[index])))
                }
                next = segment.commands.upperBound
            }
        }
        keep(upTo: hasEffects.count)
        return result
    }

    private func resolution(of number: UInt64) -> Resolution {
        resolutions.first { $0.number == number }?.resolution
            ?? .refused(ReplyText.leadershipLost)
    }

    private static func encoded(_ text: String) -> ArraySlice<UInt8> {
        var writer = RESPWriter(version: .two)
        writer.error(text)
        return writer.bytes[...]
    }
}
