// Compaction filters: what they are shown, what becomes of their decisions, and that a node without
// the filter fails the job instead of computing something else.

import Engine
import Synchronization
import Testing

/// Drops values that begin with `-`, doubles those that begin with `*`, and remembers its calls.
private final class MarkFilter: CompactionFilter {
    static let wanted = CompactionFilterID(id: 1, version: 1)
    let name = MarkFilter.wanted
    let calls = Mutex<[String]>([])

    func decide(
        key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, expiry: ClockMilliseconds?
    ) -> CompactionDecision {
        calls.withLock {
            $0.append("\(text(key))=\(text(value))\(expiry.map { "@\($0)" } ?? "")")
        }
        switch value.first {
        case UInt8(ascii: "-"): return .drop
        case UInt8(ascii: "*"): return .change([UInt8](value) + [UInt8](value))
        default: return .keep
        }
    }
}

@Suite struct CompactionFilterTests {
    private let filter = MarkFilter()

    private func bed() throws -> TableBed {
        let bed = try TableBed()
        bed.filters = [filter]
        return bed
    }

    private var names: JobFunctionNames {
        var names = JobFunctionNames()
        names.compactionFilter = MarkFilter.wanted
        return names
    }

    private var calls: [String] { filter.calls.withLock { $0 } }

    @Test(arguments: [false, true])
    func `Values are kept, changed or dropped`(bottommost: Bool) throws {
        let bed = try bed()
        let run = try bed.flush(
            TableBed.memtable([
                ModelEntry("a", 1, .put, "keep"), ModelEntry("b", 2, .put, "-gone"),
                ModelEntry("c", 3, .put, "*x"), .expiring("d", 4, at: 70, "*y"),
                .expiring("e", 5, at: 70, "-z"), ModelEntry("f", 6, .delete),
            ]), at: 1)
        let result = try bed.compact(
            run,
            bed.spec(run, to: 1, horizon: 9, bottommost: bottommost, functions: names), at: 2)
        #expect(result.isBalanced)
        #expect(calls == ["a=keep", "b=-gone", "c=*x", "d=*y@70", "e=-z@70"])
        #expect(result.dropped(.filtered).count == 4)
        let tables = result.outputs.map { bed.handle($0) }
        let view = try ReadView(tables: tables)
        #expect(try view.keys() == ["a", "c", "d"])
        #expect(try view.text("c") == "*x*x")
        #expect(
            try view.get(bytes("d"), at: .max, now: 9, io: .blocking)
                == LiveValue(value: bytes("*y*y"), expiry: 70))
        #expect(tables.reduce(0) { $0 + $1.record.entryCount } == (bottommost ? 3 : 6))
    }

    @Test func `What it drops hides what is older further down`() throws {
        let bed = try bed()
        let deep = try bed.flush(TableBed.memtable([ModelEntry("k", 1, .put, "old")]), at: 1)
        let bottom = try bed.compacted(
            deep, bed.spec(deep, to: 2, functions: JobFunctionNames()), at: 2)
        let run = try bed.flush(TableBed.memtable([ModelEntry("k", 5, .put, "-new")]), at: 3)
        let filtered = try bed.compacted(
            run, bed.spec(run, to: 1, horizon: 9, functions: names), at: 4)
        #expect(try ReadView(tables: filtered + bottom).text("k") == nil)
        #expect(filtered.map(\.record.deleteCount) == [1])
    }

    @Test func `It sees one version of a key: the newest that all readers see`() throws {
        let bed = try bed()
        let run = try bed.flush(
            TableBed.memtable(
                [
                    ModelEntry("k", 1, .put, "old"), ModelEntry("k", 3, .put, "seen"),
                    ModelEntry("k", 8, .put, "-above"), ModelEntry("l", 2, .put, "deleted"),
                    .expiring("m", 2, at: 20, "expired"), .merge("n", 2, .append, bytes("-a")),
                    .merge("n", 3, .append, bytes("b")), .merge("o", 3, .append, bytes("open")),
                ], [tombstone("l", "m", 4)]), at: 1)
        _ = try bed.compact(
            run,
            bed.spec(run, to: 1, horizon: 5, clock: 50, bottommost: true, functions: names), at: 2)
        #expect(calls == ["k=seen", "n=-ab", "o=open"])
        // Not at the bottom operands may stand on something else.
        filter.calls.withLock { $0 = [] }
        _ = try bed.compact(
            run, bed.spec(run, to: 1, horizon: 5, clock: 50, functions: names), at: 3)
        #expect(calls == ["k=seen", "m=expired@20"])
    }

    @Test func `It does not see what operands above the horizon stand on`() throws {
        let bed = try bed()
        let run = try bed.flush(
            TableBed.memtable([
                ModelEntry("k", 3, .put, "-a"), .merge("k", 8, .append, bytes("b")),
                .merge("l", 2, .append, bytes("-a")), .merge("l", 3, .append, bytes("b")),
                .merge("l", 8, .append, bytes("c")), ModelEntry("m", 3, .put, "seen"),
                ModelEntry("m", 7, .put, "x"), .merge("m", 8, .append, bytes("y")),
            ]), at: 1)
        let result = try bed.compact(
            run, bed.spec(run, to: 1, horizon: 5, bottommost: true, functions: names), at: 2)
        #expect(result.isBalanced)
        #expect(calls == ["m=seen"])
        let view = try ReadView(tables: result.outputs.map { bed.handle($0) })
        #expect(try view.text("k") == "-ab")
        #expect(try view.text("l") == "-abc")
    }

    @Test func `A flush does not call it`() throws {
        let bed = try bed()
        _ = try bed.flush(TableBed.memtable([ModelEntry("a", 1, .put, "-")]), at: 1, horizon: 9)
        #expect(calls.isEmpty)
    }

    @Test func `Without the very filter or operator that is named the job fails, typed`() throws {
        let bed = try bed()
        let run = try bed.flush(TableBed.memtable([ModelEntry("a", 1, .put, "-")]), at: 1)
        func reason(_ change: (inout JobFunctionNames) -> Void) -> String {
            var names = names
            change(&names)
            do {
                _ = try bed.compact(run, bed.spec(run, to: 1, functions: names), at: 2)
                return "ran"
            } catch { return "\(error)" }
        }
        func filter(_ id: UInt32, _ version: UInt32) -> (inout JobFunctionNames) -> Void {
            { $0.compactionFilter = CompactionFilterID(id: id, version: version) }
        }
        #expect(reason(filter(1, 2)).contains("filter 1 version 2"))
        #expect(reason(filter(9, 1)).contains("filter 9 version 1"))
        var other = TestMerge.references[0]
        other.version = 5
        #expect(reason { $0.mergeOperators = [other] }.contains("merge operator 300 version 5"))
        other = TestMerge.references[0]
        other.isAssociative = false
        #expect(reason { $0.mergeOperators = [other] }.contains("merge operator 300"))
        #expect(reason { $0.mergeOperators = TestMerge.references } == "ran")
    }

    @Test func `Filters are registered once`() {
        #expect(throws: EngineError.self) {
            try FunctionRegistry(
                mergeOperators: [], compactionFilters: [MarkFilter(), MarkFilter()])
        }
    }
}
