// What the log continues with behind an entry.

extension LogPoint {
    /// Behind `entry`, whose payload was validated.
    package init(after entry: Entry) {
        self.init(
            position: entry.position,
            nextSequence: entry.header.firstSequence + UInt64(entry.effectCount),
            clock: entry.header.clock)
    }
}
