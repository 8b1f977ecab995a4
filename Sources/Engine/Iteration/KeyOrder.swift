// Comparisons of keys held in arrays with borrowed ones, and binary search over sorted tables.

extension [UInt8] {
    /// Below, equal to or above zero, as `self` sorts before, with or after `key`.
    @inline(__always)
    package func compare(with key: UnsafeRawBufferPointer) -> Int {
        withUnsafeBytes { compareKeys($0, key) }
    }
}

extension KeySpan {
    /// Whether the span ends at or before `key`.
    @inline(__always)
    package func isBelow(_ key: UnsafeRawBufferPointer) -> Bool {
        guard let end else { return false }
        return end.compare(with: key) <= 0
    }

    @inline(__always)
    package func contains(_ key: UnsafeRawBufferPointer) -> Bool {
        start.compare(with: key) <= 0 && !isBelow(key)
    }
}

extension RandomAccessCollection where Index == Int {
    /// Index of the first element that does not satisfy `predicate`, which holds for a prefix.
    @inline(__always)
    package func partitionPoint(_ predicate: (Element) -> Bool) -> Int {
        var low = startIndex
        var high = endIndex
        while low < high {
            let middle = (low + high) / 2
            if predicate(self[middle]) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// `body` with the bytes of `key`, keeping its typed error.
package func withKey<Value>(
    _ key: [UInt8], _ body: (UnsafeRawBufferPointer) throws(EngineError) -> Value
) throws(EngineError) -> Value {
    let outcome = key.withUnsafeBytes { bytes -> Result<Value, EngineError> in
        do throws(EngineError) {
            return .success(try body(bytes))
        } catch {
            return .failure(error)
        }
    }
    return try outcome.get()
}
