// The store's part of low space: it looks at the disk about once a second, when a segment ends and
// when the log found no space, keeps a reserve file while there is plenty of room, and gives it up
// when there is not. Who takes writes asks `spaceRefusal`.
//
// The reserve is a file whose blocks are allocated and never written: when somebody else has filled
// the disk meanwhile, its blocks are what flushes, edits and deletes go on with.

extension Store {
    private static let spaceCheckMilliseconds: UInt64 = 1_000

    /// What becomes of `<group>/reserve`.
    enum Reserve {
        case absent
        case making
        case held
    }

    /// A look at the disk is due. Time alone makes it so: an idle database has no entries to count
    /// by, and somebody else may fill the disk meanwhile.
    package func isSpaceDue(now: UInt64) -> Bool { space.isEnabled && now >= nextSpaceCheck }

    /// Why a write is refused for lack of space; nil if it is welcome. As of the last look.
    package func spaceRefusal(grows: Bool) -> EngineError? {
        space.refusal(grows: grows).map {
            .lowSpace(path: files.directory, free: space.free, bound: $0)
        }
    }

    /// Looks at the disk if it is time to, or a segment has ended.
    func turnSpace() {
        guard isSpaceDue(now: now) else { return }
        measureSpace(now: now)
    }

    /// The log found no space. True if the reserve was given up for it: the same write may find
    /// some now.
    func gaveReserve(now: UInt64) -> Bool {
        let isHeld = reserve == .held
        measureSpace(now: now)
        return isHeld && reserve == .absent
    }

    /// Looks at the disk, and takes or gives up the reserve.
    package func measureSpace(now: UInt64) {
        guard space.isEnabled else { return }
        nextSpaceCheck = now &+ Store.spaceCheckMilliseconds
        let change = space.note(
            free: freeBytes, owed: owedBytes, holdsReserve: reserve == .held)
        switch change {
        case .becameLow:
            healer.noteTrouble(
                "space is low: \(space.free) bytes are free at \(files.directory), below "
                    + "\(space.bound); writes are refused, compaction goes on")
            releaseReserve()
            // What that gave back is for those who ask now.
            _ = space.note(free: freeBytes, owed: owedBytes, holdsReserve: reserve == .held)
        case .recovered:
            healer.noteTrouble(
                "there is space again: \(space.free) bytes are free at \(files.directory)")
        case .none: break
        }
        // A store that never filled a segment needs no reserve.
        if reserve == .absent, space.hasRoomForReserve, flushedPosition.index > .zero, !isClosing {
            makeReserve()
        }
    }

    /// What memtables and the jobs under way are going to write, roughly.
    private var owedBytes: UInt64 {
        var bytes = UInt64(active.memtable.byteCount)
        for segment in frozen where segment.state != .flushed {
            bytes += UInt64(segment.memtable.byteCount)
        }
        for state in jobStates.values where state.isUndecided {
            let collected = Set(state.spec.collected)
            for input in state.spec.inputs {
                guard let record = tables.handle(input.id)?.record else { continue }
                bytes &+= record.canonicalBytes
                for use in record.blobs where collected.contains(use.file) { bytes &+= use.bytes }
            }
        }
        return bytes
    }

    // MARK: the reserve

    private func makeReserve() {
        reserve = .making
        let files = self.files
        let bytes = Int(clamping: space.reserveBytes)
        jobs.submit(.heal) { [weak self] in
            let draft = files.reserve + ".new"
            var isMade = false
            do throws(FileError) {
                let file = try files.fileSystem.open(draft, .createOrWrite)
                // Allocates the blocks, and writes none.
                _ = try file.map(size: bytes)
                try file.sync()
                try files.fileSystem.rename(draft, to: files.reserve)
                try files.fileSystem.syncDirectory(files.directory)
                isMade = true
            } catch {
                try? files.fileSystem.unlink(draft)
            }
            self?.post(.reserved(isMade))
        }
    }

    func reserved(_ isMade: Bool) {
        reserve = isMade ? .held : .absent
        if isMade, space.isLow { releaseReserve() }
    }

    private func releaseReserve() {
        guard reserve == .held else { return }
        do throws(FileError) {
            try files.fileSystem.unlink(files.reserve)
            reserve = .absent
        } catch {
            healer.noteTrouble("the reserve file cannot be removed: \(error)")
        }
    }

    /// At open: what an earlier run left.
    static func findReserve(_ files: StoreFiles, isWanted: Bool) throws(EngineError) -> Reserve {
        try engineError { () throws(FileError) in
            let draft = files.reserve + ".new"
            if files.fileSystem.exists(draft) { try files.fileSystem.unlink(draft) }
            guard files.fileSystem.exists(files.reserve) else { return .absent }
            if isWanted { return .held }
            try files.fileSystem.unlink(files.reserve)
            return .absent
        }
    }
}
