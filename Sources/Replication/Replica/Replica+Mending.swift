// Lost entries of the log. Peers are asked for one after the other; what one gives is judged like
// what a leader sends before the log takes it.
import Engine

/// A lost entry while peers are asked for it, each once.
struct LostEntry {
    let index: LogIndex
    /// Nil if no entry behind it is left that names it.
    let checksum: Digest128?
    /// Who was asked last.
    private(set) var donor = MemberID.none
    private var donors: ArraySlice<MemberID>
    private var given: Set<Digest128> = []

    init(index: LogIndex, checksum: Digest128?, donors: [MemberID]) {
        self.index = index
        self.checksum = checksum
        self.donors = donors[...]
    }

    mutating func nextDonor() -> MemberID? {
        guard let next = donors.popFirst() else { return nil }
        donor = next
        return next
    }

    /// What the donor gave; throws if it is not a sound entry of this place.
    func decode(_ bytes: [UInt8], group: UInt32) throws(DecodingError) -> Entry {
        let entry = try Entry(decoding: bytes)
        guard entry.index == index, entry.header.group == group,
            checksum.map({ $0 == entry.header.checksum }) ?? true
        else { throw DecodingError("it is another one") }
        try EntryValidation.validate(entry)
        return entry
    }

    /// One that no entry names is believed of the leader, whose appends are, too, or of two.
    mutating func believes(_ entry: Entry, leader: MemberID) -> Bool {
        checksum != nil || donor == leader || !given.insert(entry.header.checksum).inserted
    }
}

/// Lost entries of the log that peers gave back, until it has no hole any more.
struct MendedEntries {
    /// Wall clock, milliseconds.
    let since: UInt64
    private(set) var first = LogIndex(.max)
    private(set) var last = LogIndex.zero
    private(set) var count = 0
    private(set) var bytes: UInt64 = 0

    init(since: UInt64) { self.since = since }

    mutating func add(_ entry: Entry) {
        first = min(first, entry.index)
        last = max(last, entry.index)
        count += 1
        bytes += UInt64(EntryHeader.size) + UInt64(entry.header.length)
    }
}

extension Replica {
    /// An entry turned out to be unreadable: nothing past it is applied until a peer supplied it.
    func noteHole() { refreshHoles() }

    private func refreshHoles() {
        holes = log.holes
        updateFitness()
    }

    /// Asks for the newest missing entry that its successor names by content; it names the one
    /// before it in turn. The end of the log has no successor: what is lost there is asked for from
    /// the front.
    func mendHoles() {
        guard !holes.isEmpty, lostEntry == nil, !connected.isEmpty, !hasFailed,
            environment.monotonicMilliseconds >= nextMend
        else { return }
        // A truncation may have removed it, an entry behind it may name it by now.
        refreshHoles()
        // History that no peer keeps must not stand in the way of what is needed.
        let flushed = store.flushedPosition.index
        let needed = holes.filter { $0.upper > flushed }
        let wanted = needed.isEmpty ? holes : needed
        let known = wanted.last { $0.checksum != nil }
        guard let hole = known ?? wanted.last else { return }
        // Without a successor that names it: as its members have it committed, in its place in the
        // hash chain.
        let index = hole.checksum == nil ? hole.lower : hole.upper
        let peers = connected.sorted()
        let leader = core.leader
        lostEntry = LostEntry(
            index: index, checksum: hole.checksum,
            donors: peers.filter { $0 == leader } + peers.filter { $0 != leader })
        askNextDonor()
    }

    private func askNextDonor() {
        guard let donor = lostEntry?.nextDonor(), let lost = lostEntry else {
            return retryMending()
        }
        // Without a checksum: as the peer has it committed.
        let request = FetchRequest.entry(index: lost.index, checksum: lost.checksum ?? .zero)
        environment.fetch(request, of: donor) { [weak self] reply in
            self?.post(.entryFetched(reply))
        }
    }

    /// What the donor answered; nil if it did not.
    func entryFetched(_ reply: FetchReply?) {
        guard let lost = lostEntry, case .bytes(let bytes) = reply else { return askNextDonor() }
        let entry: Entry
        do throws(DecodingError) {
            entry = try lost.decode(bytes, group: options.group)
        } catch {
            return refuse(error.what)
        }
        guard lostEntry?.believes(entry, leader: core.leader) == true else {
            return askNextDonor()
        }
        logWriter.mend(entry)
    }

    private func refuse(_ reason: String) {
        guard let lost = lostEntry else { return }
        environment.note(
            .warning("entry \(lost.index) of node \(lost.donor) is refused: \(reason)"))
        askNextDonor()
    }

    /// The log took the entry, or did not.
    func mended(_ entry: Entry, _ refusal: EngineError?) {
        if let refusal { return refuse("\(refusal)") }
        lostEntry = nil
        if openTruncations.allSatisfy({ $0 >= entry.index }) {
            step(
                .mended(
                    index: entry.index, term: entry.term, previous: entry.header.previous,
                    commit: entry.header.commit))
            if tail.position.index == entry.index { tail = LogPoint(after: entry) }
        }
        var mended = mendedEntries ?? MendedEntries(since: environment.wallMilliseconds)
        mended.add(entry)
        mendedEntries = mended
        refreshHoles()
        // What was missing may have kept a segment from being ended.
        splitThrough = .zero
        trimmedThrough = .zero
        if holes.isEmpty { concludeMending(mended) }
    }

    /// The log is whole again: one row of the ledger tells of all that was fetched.
    private func concludeMending(_ mended: MendedEntries) {
        mendedEntries = nil
        let detail = "entries \(mended.first) to \(mended.last), \(mended.count) fetched from peers"
        environment.note(.warning("the log is whole again: \(detail)"))
        store.healer.note(
            FileHeal(
                file: "log", source: .replica(.none, bytes: mended.bytes), detail: detail,
                startedAt: mended.since))
    }

    private func retryMending() {
        lostEntry = nil
        nextMend = environment.monotonicMilliseconds + Replica.mendRetryMilliseconds
    }

    private static let mendRetryMilliseconds: UInt64 = 500
}
