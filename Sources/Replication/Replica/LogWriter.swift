// The one writer of a replica's log. The replica queues appends and truncations; a turn performs
// all that is queued, in order, with one sync per run of appends, and reports how far the log is
// durable. A node gives it a thread of its own, so that a slow disk never delays a heartbeat; the
// simulated cluster calls `turn` itself.
import Engine
import Synchronization

package final class LogWriter: Sendable {
    private enum Operation {
        case append([Entry])
        case truncate(after: LogIndex)
        case split(after: Position)
        case trim(through: LogIndex)
        case mend(Entry)
    }

    private struct State {
        var queue: [Operation] = []
        var failure: EngineError?
    }

    private let log: Log
    private let state = Mutex(State())
    private let report: @Sendable (LogWriterReport) -> Void
    private let wake: @Sendable () -> Void

    /// `wake` is called after something was queued; `report` after each turn, on its thread.
    package init(
        log: Log, wake: @escaping @Sendable () -> Void,
        report: @escaping @Sendable (LogWriterReport) -> Void
    ) {
        self.log = log
        self.wake = wake
        self.report = report
    }

    package func append(_ entries: [Entry]) { add(.append(entries)) }

    package func truncate(after index: LogIndex) { add(.truncate(after: index)) }

    /// Ends a segment there that cannot tell its end itself; see `Log.split`.
    package func split(after position: Position) { add(.split(after: position)) }

    /// Removes whole segments at or below `index`.
    package func trim(through index: LogIndex) { add(.trim(through: index)) }

    /// Fills a hole with an entry that a peer supplied.
    package func mend(_ entry: Entry) { add(.mend(entry)) }

    private func add(_ operation: Operation) {
        state.withLock { $0.queue.append(operation) }
        wake()
    }

    package var hasWork: Bool { state.withLock { !$0.queue.isEmpty } }

    /// Performs everything queued. What there was no space or no descriptor for stays queued, in
    /// order, for a later turn. After any other failure nothing is written any more: the state of
    /// the disk is unknown, and only a new open may find out.
    package func turn() {
        let (work, failure) = state.withLock { state -> ([Operation], EngineError?) in
            defer { state.queue.removeAll(keepingCapacity: true) }
            return (state.queue, state.failure)
        }
        guard failure == nil, !work.isEmpty else { return }
        var done = 0
        do throws(EngineError) {
            try perform(work, done: &done)
        } catch {
            if error.isShortage {
                state.withLock { $0.queue.insert(contentsOf: work[done...], at: 0) }
                report(.shortage(error))
            } else {
                state.withLock { $0.failure = error }
                report(.failed(error))
            }
        }
    }

    /// `done` counts the operations whose effect is on disk.
    private func perform(_ work: [Operation], done: inout Int) throws(EngineError) {
        var run: [Entry] = []
        for (place, operation) in work.enumerated() {
            if case .append(let entries) = operation {
                run.append(contentsOf: entries)
                continue
            }
            try write(&run)
            done = place
            switch operation {
            case .append: break
            case .truncate(let index):
                try log.truncate(after: index)
                report(.truncated(after: index))
            case .split(let position): try log.split(after: position)
            case .trim(let index): removeSegments(through: index)
            case .mend(let entry): report(.mended(entry, try fill(entry)))
            }
            done = place + 1
        }
        try write(&run)
        done = work.count
    }

    /// What cannot be removed stays until the next time: it only costs space.
    private func removeSegments(through index: LogIndex) {
        do throws(EngineError) {
            try log.trim(through: index)
            report(.trimmed(nil))
        } catch {
            report(.trimmed(error))
        }
    }

    /// Why the entry was not taken, if it does not fit; throws if the log cannot go on.
    private func fill(_ entry: Entry) throws(EngineError) -> EngineError? {
        do throws(EngineError) {
            try log.mend(entry)
            return nil
        } catch {
            guard case .invalid = error else { throw error }
            return error
        }
    }

    private func write(_ run: inout [Entry]) throws(EngineError) {
        guard let last = run.last else { return }
        try log.append(run, sync: true)
        run.removeAll(keepingCapacity: true)
        report(.durable(last.position))
    }
}

package enum LogWriterReport: Sendable {
    /// The log is durable through this entry.
    case durable(Position)
    case truncated(after: LogIndex)
    /// Old segments were removed, or why they could not be.
    case trimmed(EngineError?)
    /// A missing entry is in its place, or why it was not taken.
    case mended(Entry, EngineError?)
    /// There was no space, or no descriptor: what was queued stays so. The replica lets it be tried
    /// again.
    case shortage(EngineError)
    /// A write or sync failed: the replica must stop.
    case failed(EngineError)

    /// What was first in the queue is done.
    var isProgress: Bool {
        switch self {
        case .durable, .truncated, .trimmed, .mended: true
        case .shortage, .failed: false
        }
    }
}
