// What one workload measured, as a line of JSON or as a line of a table.
import Engine
import Histogram

package struct BenchmarkReport: Sendable, Equatable {
    package struct Latency: Sendable, Equatable {
        package var medianMicroseconds: Double
        package var p99Microseconds: Double
        package var p999Microseconds: Double
        package var maxMicroseconds: Double
        /// Operations that took more than 50 ms.
        package var stalls: UInt64

        init(_ recorder: LatencyRecorder) {
            medianMicroseconds = recorder.microseconds(50)
            p99Microseconds = recorder.microseconds(99)
            p999Microseconds = recorder.microseconds(99.9)
            maxMicroseconds = recorder.maxMicroseconds
            stalls = recorder.stalls
        }
    }

    package var workload: BenchmarkWorkload
    package var operations: UInt64
    package var seconds: Double
    /// Nil if operations were not timed.
    package var latency: Latency?
    /// Of the run so far: what flushes and compactions wrote, what tables take at the end.
    package var storage: StorageUse
    package var bytesWritten: UInt64
    package var bytesRead: UInt64
    /// Reads that found their key.
    package var found: UInt64

    package var operationsPerSecond: Double {
        seconds > 0 ? Double(operations) / seconds : 0
    }

    package var json: String {
        var json = JSONText()
        json.object { json in
            json.field("workload", workload.rawValue)
            json.field("ops", operations)
            json.field("seconds", seconds)
            json.field("ops_per_sec", operationsPerSecond)
            if let latency {
                json.field("p50_us", latency.medianMicroseconds)
                json.field("p99_us", latency.p99Microseconds)
                json.field("p999_us", latency.p999Microseconds)
                json.field("max_us", latency.maxMicroseconds)
                json.field("stalls_above_50ms", latency.stalls)
            }
            json.field("flushed_bytes", storage.flushedBytes)
            json.field("compacted_bytes", storage.compactedBytes)
            json.field("live_bytes", storage.liveBytes)
            json.field("bytes_written", bytesWritten)
            json.field("bytes_read", bytesRead)
            json.field("found", found)
        }
        return json.text
    }

    package var line: String {
        let number = JSONText.number
        let name = workload.rawValue.padding(to: 17)
        let times = latency.map { latency in
            "p50 \(number(latency.medianMicroseconds)) µs  "
                + "p99 \(number(latency.p99Microseconds)) µs  "
                + "p99.9 \(number(latency.p999Microseconds)) µs  "
                + "max \(number(latency.maxMicroseconds)) µs  "
        }
        return "\(name) \(number(operationsPerSecond.rounded()).padding(left: 10)) ops/s  "
            + "\(number(seconds)) s  " + (times ?? "")
            + "written \(bytesWritten)  read \(bytesRead)"
            + (found > 0 ? "  found \(found)" : "")
    }
}

extension String {
    fileprivate func padding(to width: Int) -> String {
        self + String(repeating: " ", count: max(0, width - count))
    }

    fileprivate func padding(left width: Int) -> String {
        String(repeating: " ", count: max(0, width - count)) + self
    }
}

/// Latencies of one thread, nanoseconds, three significant digits, up to an hour; or nothing but
/// counts.
package struct LatencyRecorder: Sendable {
    package private(set) var histogram = Histogram<UInt64>(
        highestTrackableValue: 3_600_000_000_000, numberOfSignificantValueDigits: .three)
    package var found: UInt64 = 0
    package private(set) var operations: UInt64 = 0
    package private(set) var stalls: UInt64 = 0

    /// Longer than this is a stall.
    package static let stallNanoseconds: UInt64 = 50_000_000

    /// Whether `lap` reads the clock.
    package let timesOperations: Bool

    package init(timesOperations: Bool = true) { self.timesOperations = timesOperations }

    /// So many operations that were made as one, and took so long together.
    @inline(__always)
    package mutating func record(_ nanoseconds: UInt64, operations count: Int = 1) {
        histogram.record(nanoseconds)
        if nanoseconds > LatencyRecorder.stallNanoseconds { stalls += 1 }
        operations += UInt64(count)
    }

    /// So many operations, of which nobody knows how long they took.
    @inline(__always)
    package mutating func count(_ count: Int) { operations += UInt64(count) }

    package mutating func merge(_ other: LatencyRecorder) {
        histogram.add(other.histogram)
        operations += other.operations
        found += other.found
        stalls += other.stalls
    }

    package var maxMicroseconds: Double { Double(histogram.max) / 1000 }

    package func microseconds(_ percentile: Double) -> Double {
        Double(histogram.valueAtPercentile(percentile)) / 1000
    }

    package var maximumMicroseconds: Double {
        operations > 0 ? Double(histogram.maxRecorded) / 1000 : 0
    }
}
