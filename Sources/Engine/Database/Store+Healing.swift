// The owner's part of healing: starting the worker, and answering peers that need this node's
// clean bytes.

extension Store {
    /// Starts the worker if a hint may be due. One table at a time: healing is patient.
    func startHealing() {
        guard !isHealing, !isClosing, healer.hasDueHint(now: now) else { return }
        isHealing = true
        let healer = self.healer
        let now = self.now
        jobs.submit(.heal) { [weak self] in
            let result = healer.healNext(now: now)
            self?.post(.healEnded(result))
        }
    }

    func healEnded(_ result: HealResult?) {
        isHealing = false
        if let result { healed(result) }
    }

    /// A block of the table with this digest, as a donor sends it: canonical, verified. Nil if this
    /// node has no such table, or holds the block damaged, too. Any thread that may block.
    package func donateBlock(_ table: TableID, digest: Digest128, ordinal: BlockOrdinal)
        -> [UInt8]?
    {
        guard let handle = tables.handle(table), handle.record.digest == digest else { return nil }
        do throws(EngineError) {
            return try handle.reader(io: .blocking, mending: false).canonicalBlock(
                ordinal, fromMedium: false)
        } catch {
            return nil
        }
    }
}
