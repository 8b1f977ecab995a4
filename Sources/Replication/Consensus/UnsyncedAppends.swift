// Appends that went to the log and whose durability was not reported yet, in order. An index and a
// term do not tell two appends of the same entry apart: a member may append (5, term 1), rewind it
// for (5, term 2), and get (5, term 1) again from a leader of term 3. A report is therefore matched
// with the oldest append it can belong to, and vouches only for what no rewind took away since.
import Engine

package struct UnsyncedAppends: Sendable {
    private struct Append {
        var last: LogIndex
        var term: Term
        /// What a report for it proves; lowered by rewinds.
        var provesThrough: LogIndex
    }

    private var queue: [Append] = []

    package init() {}

    package var isEmpty: Bool { queue.isEmpty }

    package mutating func add(last: LogIndex, term: Term) {
        queue.append(Append(last: last, term: term, provesThrough: last))
    }

    package mutating func rewind(after index: LogIndex) {
        for place in queue.indices where queue[place].provesThrough > index {
            queue[place].provesThrough = index
        }
    }

    /// The index through which the log is durable after this report; nil if it is unknown here.
    package mutating func reported(index: LogIndex, term: Term) -> LogIndex? {
        guard let place = queue.firstIndex(where: { $0.last == index && $0.term == term }) else {
            return nil
        }
        var through = LogIndex.zero
        for append in queue[...place] { through = max(through, append.provesThrough) }
        queue.removeFirst(place + 1)
        return through
    }
}
