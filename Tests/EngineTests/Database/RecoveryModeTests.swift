// Every recovery mode against every artefact of a database, each of them torn, damaged or gone.
import Engine
import Testing

/// One thing that happened to the files while the database was closed.
struct Mishap: Sendable, CustomTestStringConvertible {
    enum Outcome: Hashable, Sendable {
        /// Everything is served.
        case whole
        /// The writes before a lost one are served, and no other.
        case prefix
        /// What is lost is a typed error, and everything else is served.
        case degraded
        /// An error that names the file.
        case refusal(String)
    }

    var name: String
    var strict: Outcome
    var normal: Outcome
    var pointInTime: Outcome
    /// Else a heal or a compaction mends it.
    var isMendedAtOpen = true
    var inflict: @Sendable (RecoveryBed) throws -> Void

    var testDescription: String { name }

    func outcome(_ mode: RecoveryMode) -> Outcome {
        switch mode {
        case .strict: return strict
        case .normal: return normal
        case .pointInTime: return pointInTime
        }
    }
}

/// A closed database: tables of the first keys, then a log of several segments with the others.
final class RecoveryBed {
    static let flushed = 40
    static let total = 90

    let rig: DatabaseRig
    let group = DatabaseRig.group
    var memory: MemoryFileSystem { rig.memory }
    /// Hard state as it was when nothing of the log was known to be durable.
    private let earlyState: [UInt8]

    static func key(_ number: Int) -> [UInt8] { KeyValueModel.key(number) }
    static func value(_ number: Int) -> [UInt8] {
        [UInt8](repeating: UInt8(number % 251), count: 200)
    }

    init() throws {
        var options = DatabaseRig.smallOptions()
        options.store.compaction.isEnabled = false
        // So that values can be found in files.
        options.store.compression = .none
        rig = try DatabaseRig(options)
        for number in 0..<RecoveryBed.flushed {
            try rig.database.put(RecoveryBed.key(number), RecoveryBed.value(number))
        }
        try rig.database.flush()
        earlyState = try rig.memory.readAll(group + "/state", limit: 1 << 20)
        for number in RecoveryBed.flushed..<RecoveryBed.total {
            try rig.database.put(RecoveryBed.key(number), RecoveryBed.value(number))
        }
        try rig.database.close()
        // Nothing more is flushed: the log is all that has the later keys.
        rig.jobs.dropAll()
    }

    // MARK: places

    func names(_ part: String, suffix: String = "") throws -> [String] {
        try memory.list(group + part).filter { $0.hasSuffix(suffix) }
            .map { group + part + "/" + $0 }
    }

    /// Oldest first.
    func segments() throws -> [String] { try names("/log", suffix: ".seg") }

    func lastSegment() throws -> String { try #require(try segments().last) }
    func middleSegment() throws -> String {
        let all = try segments()
        try #require(all.count >= 3, "\(all)")
        return all[all.count - 2]
    }

    func table() throws -> String { try #require(try names("/sst", suffix: ".sst").first) }

    func manifests() throws -> [String] {
        try memory.list(group).filter { $0.hasPrefix("MANIFEST-") }.map { group + "/" + $0 }
    }

    /// Where the value of a key stands in a file.
    func offset(ofKey number: Int, in path: String) throws -> Int {
        let bytes = try memory.readAll(path, limit: 1 << 30)
        let needle = [UInt8](repeating: UInt8(number % 251), count: 150)
        return try #require(
            (0..<(bytes.count - needle.count)).first {
                bytes[$0] == needle[0] && bytes[$0..<($0 + needle.count)].elementsEqual(needle)
            })
    }

    func damage(key number: Int, in path: String) throws {
        memory.flip(path, UInt64(try offset(ofKey: number, in: path) + 100))
    }

    /// The end of the file from the middle of the last key's value on never reached the disk.
    func tearLastAppend() throws {
        let path = try lastSegment()
        let start = try offset(ofKey: RecoveryBed.total - 1, in: path) + 20
        let size = try memory.open(path, .read).size()
        memory.tear(path, UInt64(start)..<size)
    }

    /// As if the volatile page of hard state had not reached the disk.
    func forgetDurability() throws {
        try memory.replace(group + "/state", with: earlyState)
    }

    func truncate(_ path: String, by count: UInt64) throws {
        let file = try memory.open(path, .write)
        try file.truncate(to: file.size() - count)
    }

    func append(_ bytes: [UInt8], to path: String) throws {
        let file = try memory.open(path, .createOrWrite)
        try file.writeAll(bytes, at: file.size())
    }
}

@Suite struct RecoveryModeTests {
    typealias Outcome = Mishap.Outcome

    /// Only an open that wants everything in order minds.
    private static func mended(
        _ name: String, _ file: String, atOpen isMendedAtOpen: Bool = true,
        _ inflict: @escaping @Sendable (RecoveryBed) throws -> Void
    ) -> Mishap {
        Mishap(
            name: name, strict: .refusal(file), normal: .whole, pointInTime: .whole,
            isMendedAtOpen: isMendedAtOpen, inflict: inflict)
    }

    private static func lostLog(
        _ name: String, _ inflict: @escaping @Sendable (RecoveryBed) throws -> Void
    ) -> Mishap {
        Mishap(
            name: name, strict: .refusal("log"), normal: .refusal("log"), pointInTime: .prefix,
            inflict: inflict)
    }

    private static func harmless(
        _ name: String, _ inflict: @escaping @Sendable (RecoveryBed) throws -> Void
    ) -> Mishap {
        Mishap(
            name: name, strict: .whole, normal: .whole, pointInTime: .whole, inflict: inflict)
    }

    private static func hopeless(
        _ name: String, _ file: String, _ inflict: @escaping @Sendable (RecoveryBed) throws -> Void
    ) -> Mishap {
        Mishap(
            name: name, strict: .refusal(file), normal: .refusal(file),
            pointInTime: .refusal(file), inflict: inflict)
    }

    private static let log: [Mishap] = [
        Mishap(
            name: "torn tail", strict: .refusal("log"), normal: .prefix, pointInTime: .prefix
        ) { bed in
            try bed.forgetDurability()
            try bed.tearLastAppend()
        },
        lostLog("acknowledged tail lost") { try $0.tearLastAppend() },
        lostLog("entry damaged in the middle") {
            try $0.damage(key: 60, in: try $0.middleSegment())
        },
        lostLog("first entry behind the tables damaged") {
            try $0.damage(key: RecoveryBed.flushed, in: try $0.segments()[0])
        },
        lostLog("segment missing in the middle") { try $0.memory.unlink($0.middleSegment()) },
        lostLog("last segment missing") { try $0.memory.unlink($0.lastSegment()) },
        lostLog("all segments missing") { bed in
            for path in try bed.segments() { try bed.memory.unlink(path) }
        },
        mended("segment header damaged", "log") { $0.memory.flip(try $0.middleSegment(), 40) },
        // It only saves time, and a crash may leave a segment without one.
        harmless("segment footer damaged") { bed in
            let path = try bed.middleSegment()
            let size = try bed.memory.open(path, .read).size()
            bed.memory.flip(path, size - 20)
        },
        harmless("draft of a segment") {
            try $0.append([1, 2], to: $0.group + "/log/00000000000000aa.seg.new")
        },
    ]

    private static let manifest: [Mishap] = [
        mended("manifest damaged", "MANIFEST") { $0.memory.flip(try $0.manifests()[0], 100) },
        mended("mirror damaged", "MANIFEST") { $0.memory.flip(try $0.manifests()[1], 100) },
        mended("manifest missing", "MANIFEST") { try $0.memory.unlink($0.manifests()[0]) },
        mended("mirror torn", "MANIFEST") { try $0.truncate($0.manifests()[1], by: 5) },
        mended("append to the manifest torn", "MANIFEST") {
            try $0.append([7, 7, 7], to: $0.manifests()[0])
        },
        hopeless("both copies damaged", "MANIFEST") { bed in
            for path in try bed.manifests() { bed.memory.flip(path, 100) }
        },
        hopeless("both copies missing", "MANIFEST") { bed in
            for path in try bed.manifests() { try bed.memory.unlink(path) }
        },
        mended("CURRENT missing", "CURRENT") { try $0.memory.unlink($0.group + "/CURRENT") },
        mended("CURRENT damaged", "CURRENT") { $0.memory.flip($0.group + "/CURRENT", 9) },
        mended("CURRENT is garbage", "CURRENT") {
            try $0.memory.replace($0.group + "/CURRENT", with: [1, 2, 3])
        },
    ]

    private static func damageStates(_ bed: RecoveryBed, _ copies: Range<Int>) {
        for copy in copies {
            bed.memory.flip(bed.group + "/state", HardStateFormat.copyOffset(copy) + 30)
        }
    }

    private static let others: [Mishap] = [
        harmless("nothing") { _ in },
        mended("one copy of hard state damaged", "state") { damageStates($0, 2..<3) },
        mended("two copies of hard state damaged", "state") { damageStates($0, 0..<2) },
        mended("all copies of hard state damaged", "state") { damageStates($0, 0..<4) },
        mended("hard state missing", "state") { try $0.memory.unlink($0.group + "/state") },
        Mishap(
            name: "table missing", strict: .refusal("table"), normal: .degraded,
            pointInTime: .degraded
        ) { try $0.memory.unlink($0.table()) },
        Mishap(
            name: "block of a table damaged", strict: .refusal("sst"), normal: .degraded,
            pointInTime: .degraded
        ) { try $0.damage(key: 5, in: try $0.table()) },
        mended("footer of a table damaged", "sst", atOpen: false) { bed in
            let path = try bed.table()
            bed.memory.flip(path, try bed.memory.open(path, .read).size() - 20)
        },
        hopeless("identity damaged", "node") { $0.memory.flip(DatabaseRig.path + "/node", 12) },
        hopeless("identity missing", "node") { try $0.memory.unlink(DatabaseRig.path + "/node") },
        mended("attempts at jobs damaged", "jobs") { bed in
            let attempts = try JobAttempts.open(bed.memory, path: bed.group + "/jobs")
            _ = try attempts.begin(JobID(index: LogIndex(7), kind: .compaction))
            bed.memory.flip(bed.group + "/jobs", 9)
        },
        mended("attempts at jobs torn", "jobs") { try $0.append([1], to: $0.group + "/jobs") },
        mended("hints damaged", "hints") {
            try $0.append([9, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2], to: $0.group + "/hints")
        },
        mended("ledger torn", "ledger") { try $0.append([9, 0, 0], to: $0.group + "/ledger") },
        harmless("attempts, hints and ledger missing") { bed in
            for name in ["jobs", "hints", "ledger"] {
                try bed.memory.unlink(bed.group + "/" + name)
            }
        },
        harmless("orphans") { bed in
            for name in ["/sst/00000000000000ff-f0.0.sst", "/staged/00000000000000ff-c0.0.sst"] {
                try bed.append([1], to: bed.group + name)
            }
        },
    ]

    private static let all = log + manifest + others

    @Test(arguments: all, RecoveryMode.allCases)
    func `Trap 11: every mode meets every mishap as it says`(
        mishap: Mishap, mode: RecoveryMode
    ) throws {
        let bed = try RecoveryBed()
        try mishap.inflict(bed)
        bed.rig.options.recovery = mode
        if case .refusal(let file) = mishap.outcome(mode) {
            // And again: nothing was mended or made in its place.
            for _ in 0..<2 {
                let refusal = error { try bed.rig.open() }
                #expect(names(refusal, file), "\(String(describing: refusal))")
            }
            return
        }
        try bed.rig.open()
        try expect(mishap.outcome(mode), bed)
        guard mishap.outcome(mode) != .degraded else { return }
        // It goes on, and whatever was mended or cut is in order now.
        try bed.rig.database.put([1], [1])
        let before = try bed.rig.database.scan(.everything).map(\.key)
        let sequence = bed.rig.database.sequence
        try bed.rig.close()
        bed.rig.options.recovery = mishap.isMendedAtOpen ? .strict : .normal
        try bed.rig.open()
        #expect(try bed.rig.database.scan(.everything).map(\.key) == before)
        #expect(bed.rig.database.sequence == sequence)
        try bed.rig.database.compactAll()
        #expect(try bed.rig.database.scan(.everything).map(\.key) == before)
    }

    private func error(of body: () throws -> Void) -> EngineError? {
        do { try body() } catch { return error as? EngineError }
        return nil
    }

    private func names(_ error: EngineError?, _ file: String) -> Bool {
        switch error {
        case .corrupt(let name, _, let reason)?: return (name + reason).contains(file)
        case .tableLost?: return file == "table"
        default: return false
        }
    }

    private func expect(_ outcome: Outcome, _ bed: RecoveryBed) throws {
        var served = 0
        var lost = 0
        for number in 0..<RecoveryBed.total {
            let key = RecoveryBed.key(number)
            do {
                guard let value = try bed.rig.database.get(key) else { continue }
                #expect(value == RecoveryBed.value(number))
                // Of a prefix nothing is left out.
                #expect(outcome == .degraded || number == served, "key \(number)")
                served += 1
            } catch {
                #expect(isLoss(error), "\(error)")
                lost += 1
            }
        }
        switch outcome {
        case .whole: #expect(served == RecoveryBed.total)
        case .prefix: #expect(served >= RecoveryBed.flushed && served < RecoveryBed.total)
        case .degraded: #expect(lost > 0 && served + lost == RecoveryBed.total)
        case .refusal: break
        }
        if outcome != .degraded { #expect(lost == 0) }
    }

    private func isLoss(_ error: EngineError) -> Bool {
        switch error {
        case .tableLost, .blockLost: return true
        default: return false
        }
    }

    @Test func `What is cut off is kept as evidence, and its numbers are not used again`() throws {
        let bed = try RecoveryBed()
        let path = try bed.middleSegment()
        try bed.damage(key: 60, in: path)
        let before = try bed.memory.readAll(path, limit: 1 << 20)
        bed.rig.options.recovery = .pointInTime
        try bed.rig.open()
        #expect(bed.rig.notes.contains("it was cut at"))
        let kept = try bed.names("/quarantine", suffix: ".seg")
        #expect(kept.count >= 2 && kept.allSatisfy { $0.contains("/lost-") })
        for _ in 0..<8 {
            let disk = bed.memory.snapshotAfterPowerCut()
            #expect(kept.allSatisfy { disk.exists($0) })
        }
        // The entries behind the damaged one are all there.
        let evidence = try #require(kept.first { $0.hasSuffix(path.suffix(20)) })
        let copy = try bed.memory.readAll(evidence, limit: 1 << 20)
        let needle = RecoveryBed.value(61)
        let place = try #require(
            (0..<(before.count - 200)).first { before[$0..<($0 + 200)].elementsEqual(needle) })
        #expect(copy[place..<(place + 200)].elementsEqual(needle))
        let row = try #require(bed.rig.store.healer.ledger.rows(limit: 1).first)
        #expect(row.state == .irreparable && row.file == "group-0/log")
        // Each put had taken one sequence.
        #expect(bed.rig.store.applied.rawValue > UInt64(RecoveryBed.total))
        try bed.rig.database.put([1], [1])
        #expect(bed.rig.database.sequence.rawValue > UInt64(RecoveryBed.total))
    }

    /// Files of two copies of a database that both went on: a segment of the one reaches across what
    /// the other has in tables.
    @Test func `A log of another history is refused`() throws {
        let rig = try DatabaseRig(jobs: .first)
        for number in 0..<10 {
            try rig.database.put(RecoveryBed.key(number), RecoveryBed.value(number))
        }
        try rig.database.flush()
        try rig.close()
        let clone = try DatabaseRig(memory: rig.memory.snapshotAfterPowerCut(), jobs: .first)
        try rig.open()
        for number in 10..<20 {
            try rig.database.put(RecoveryBed.key(number), RecoveryBed.value(number))
        }
        try rig.database.flush()
        for number in 10..<27 {
            try clone.database.put(RecoveryBed.key(number), RecoveryBed.value(number + 50))
        }
        try rig.close()
        try clone.close()
        let log = DatabaseRig.group + "/log/"
        for name in try rig.memory.list(log) { try rig.memory.unlink(log + name) }
        for path in try clone.memory.list(log).map({ log + $0 }) + [DatabaseRig.group + "/state"] {
            let bytes = try clone.memory.readAll(path, limit: 1 << 30)
            try rig.memory.replace(path, with: bytes)
        }
        let refusal = error { try rig.open() }
        guard case .corrupt(let file, _, let reason)? = refusal else {
            Issue.record("\(String(describing: refusal))")
            return
        }
        #expect(file.contains("log") && reason.contains("entr"), "\(file): \(reason)")
    }

    /// A crash came between a flush and its edit, and the log has lost what was flushed.
    @Test(arguments: [RecoveryMode.strict, .normal])
    func `A refused open keeps a table that the manifest does not name yet`(
        mode: RecoveryMode
    ) throws {
        var options = DatabaseRig.smallOptions()
        options.store.compression = .none
        let rig = try DatabaseRig(options, jobs: .first)
        let sst = DatabaseRig.group + "/sst"
        rig.jobs.runAll()
        var count = 0
        while rig.jobs.waiting == 0 {
            try rig.database.put(RecoveryBed.key(count), RecoveryBed.value(count))
            count += 1
        }
        rig.jobs.runOne()
        let orphans = try rig.memory.list(sst)
        try #require(!orphans.isEmpty && rig.store.manifest.local.isEmpty)
        let log = DatabaseRig.group + "/log/"
        let segment = log + (try #require(rig.memory.list(log).first { $0.hasSuffix(".seg") }))
        let bytes = try rig.memory.readAll(segment, limit: 1 << 20)
        let needle = RecoveryBed.value(3)
        let place = try #require(
            (0..<(bytes.count - 200)).first { bytes[$0..<($0 + 200)].elementsEqual(needle) })
        rig.kill()
        rig.memory.flip(segment, UInt64(place + 100))
        rig.options.recovery = mode
        for _ in 0..<2 {
            #expect(names(error { try rig.open() }, "log"))
            rig.kill()
            #expect(try rig.memory.list(sst) == orphans)
        }
        rig.memory.flip(segment, UInt64(place + 100))
        try rig.open()
        #expect(try rig.memory.list(sst).isEmpty)
        for number in 0..<count {
            #expect(try rig.database.get(RecoveryBed.key(number)) == RecoveryBed.value(number))
        }
    }

    @Test func `A cut that a crash interrupts is made again`() throws {
        var cuts = 0
        for step in 0..<40 {
            let bed = try RecoveryBed()
            try bed.damage(key: 60, in: try bed.middleSegment())
            bed.rig.options.recovery = .pointInTime
            bed.memory.stop(after: step)
            if error(of: { try bed.rig.open() }) == nil { cuts += 1 }
            bed.rig.powerCut()
            try bed.rig.open()
            for number in 0..<60 {
                #expect(try bed.rig.database.get(RecoveryBed.key(number)) != nil, "\(step)")
            }
            for number in 60..<RecoveryBed.total {
                #expect(try bed.rig.database.get(RecoveryBed.key(number)) == nil, "\(step)")
            }
            try bed.rig.database.put([1], [1])
            #expect(bed.rig.database.sequence.rawValue > UInt64(RecoveryBed.total))
        }
        #expect(cuts < 40)
    }
}
