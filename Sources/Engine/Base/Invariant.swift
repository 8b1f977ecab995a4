// The one place that traps: a broken invariant means that memory or logic is broken, and going on
// would turn that into wrong data. In release builds `precondition` loses its message, so this
// prints it first. What the world can do (disks, networks, clients) throws typed errors instead.

/// Stops the process if `condition` is false. O(1) conditions only; always on.
@inline(__always)
package func invariant(
    _ condition: @autoclosure () -> Bool, _ message: @autoclosure () -> String,
    file: StaticString = #fileID, line: UInt = #line
) {
    if !condition() { brokenInvariant(message(), file: file, line: line) }
}

@inline(never)
package func brokenInvariant(
    _ message: String, file: StaticString = #fileID, line: UInt = #line
) -> Never {
    fatalError("invariant broken: \(message)", file: file, line: line)
}
