// What the numbers of flags may be, and what is said of others.
import ArgumentParser

/// Bounds of flags.
enum FlagRange {
    static func checked<Value: Comparable>(
        _ flag: String, _ value: Value, _ range: ClosedRange<Value>
    ) throws -> Value {
        guard range.contains(value) else {
            throw ValidationError(
                "\(flag): \(value) is out of range; allowed is \(range.lowerBound) to"
                    + " \(range.upperBound)")
        }
        return value
    }
}
