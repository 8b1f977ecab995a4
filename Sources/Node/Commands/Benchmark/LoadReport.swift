// What a load measured, as an object of JSON or as a line. Only requests that succeeded have a
// latency; all others are counted by what became of them.

package struct LoadReport: Sendable {
    package var seconds = 0.0
    package var sets = LatencyRecorder()
    package var gets = LatencyRecorder()
    package var missing: UInt64 = 0
    package var errors: [String: UInt64] = [:]
    /// Connections that were opened anew.
    package var reconnects: UInt64 = 0

    package init() {}

    package mutating func countError(_ kind: String, _ count: UInt64 = 1) {
        errors[kind, default: 0] += count
    }

    package mutating func merge(_ other: LoadReport) {
        sets.merge(other.sets)
        gets.merge(other.gets)
        missing += other.missing
        errors.merge(other.errors, uniquingKeysWith: +)
        reconnects += other.reconnects
    }

    package var operations: UInt64 { sets.operations + gets.operations }
    package var errorCount: UInt64 { errors.values.reduce(0, +) }
    package var operationsPerSecond: Double { seconds > 0 ? Double(operations) / seconds : 0 }

    private var kinds: [(name: String, recorder: LatencyRecorder)] {
        [("set", sets), ("get", gets)].filter { $0.1.operations > 0 }
    }

    package var json: String {
        var json = JSONText()
        json.object { json in
            json.field("ops", operations)
            json.field("seconds", seconds)
            json.field("ops_per_sec", operationsPerSecond)
            for (name, recorder) in kinds {
                json.name(name)
                json.object { json in
                    json.field("ops", recorder.operations)
                    json.field("p50_us", recorder.microseconds(50))
                    json.field("p99_us", recorder.microseconds(99))
                    json.field("p999_us", recorder.microseconds(99.9))
                    json.field("max_us", recorder.maximumMicroseconds)
                }
            }
            json.field("missing", missing)
            json.field("reconnects", reconnects)
            json.name("errors")
            json.object { json in
                for kind in errors.keys.sorted() { json.field(kind, errors[kind, default: 0]) }
            }
        }
        return json.text
    }

    package var line: String {
        let number = JSONText.number
        var line = "\(number(operationsPerSecond.rounded())) ops/s  \(number(seconds)) s"
        for (name, recorder) in kinds {
            line +=
                "  \(name) p50 \(number(recorder.microseconds(50))) µs"
                + "  p99 \(number(recorder.microseconds(99))) µs"
                + "  p99.9 \(number(recorder.microseconds(99.9))) µs"
                + "  max \(number(recorder.maximumMicroseconds)) µs"
        }
        if missing > 0 { line += "  missing \(missing)" }
        for kind in errors.keys.sorted() { line += "  \(kind) \(errors[kind, default: 0])" }
        return line
    }
}
