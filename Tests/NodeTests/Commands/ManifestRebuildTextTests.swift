// What `martlet manifest rebuild` prints.
import Engine
import Node
import Testing

@Suite struct ManifestRebuildTextTests {
    private func table(_ index: UInt64) -> TableRecord {
        TableRecord(
            id: TableID(index: LogIndex(index), kind: .flush, ordinal: 0), level: 0,
            canonicalBytes: 100,
            points: TableRecord.PointRange(smallest: [97], largest: [98]),
            span: KeySpan(start: [97], end: [99]), smallestSequence: SequenceNumber(1),
            largestSequence: SequenceNumber(2), entryCount: 2, deleteCount: 0,
            rangeTombstoneCount: 0, entrySum: 0, digest: .zero)
    }

    @Test func `A rebuild says what is there, what is lost and what it is not sure of`() throws {
        let memory = MemoryFileSystem(seed: 1)
        try memory.createDirectory("data/group-0")
        let node = NodeIdentity(cluster: NodeIdentity.embeddedPrefix + "1", node: MemberID(1))
        try memory.replace("data/node", with: node.encoded())
        var result = try ManifestRebuild.run(memory, path: "data")
        #expect(!result.isWritten)
        result.tables = [table(7), table(9)]
        result.absent = [table(9)]
        result.unreadable = [ManifestRebuild.Unreadable(file: "x.sst", reason: "too short")]
        result.setAside = ["x.sst"]
        result.isExact = false
        let text = ManifestRebuildText.text(result, "data")
        #expect(text.hasPrefix("data: not written, 1 tables, log replayed behind entry 0"))
        #expect(text.contains("last resort: all tables in level 0"))
        #expect(text.contains("lost: table \(table(9).id), keys from"))
        #expect(text.contains("unreadable: x.sst: too short"))
        #expect(text.contains("no part of it: x.sst"))
        #expect(text.contains("may be missing: there is no log"))
    }
}
