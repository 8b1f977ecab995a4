import Node
import Testing

@Suite struct NearestKeyTests {
    @Test(arguments: [
        ("log.sync", "log.sync"), ("log.snyc", "log.sync"), ("lgo.sync", "log.sync"),
        ("log.segment_bytes", "log.segment-bytes"), ("log.segmentBytes", "log.segment-bytes"),
        ("segment-bytes", "log.segment-bytes"), ("sync", "log.sync"),
        ("chache.bytes", "cache.bytes"), ("tabel.compression", "table.compression"),
        ("compaction.l0-trigger", "compaction.level0-trigger"),
        ("tls.cert", "tls.certificate"), ("auto-heal", "heal.auto-heal"),
        ("data.dir", "data.directory"),
    ])
    func findsWhatWasMeant(given: String, meant: String) {
        let found = NearestKey.suggestion(for: given, among: SettingCatalog.keys)
        #expect(found == meant)
    }

    @Test(arguments: ["banana", "x", "completely.different-thing"])
    func suggestsNothingFarFetched(given: String) {
        #expect(NearestKey.suggestion(for: given, among: SettingCatalog.keys) == nil)
    }

    @Test func distances() {
        func distance(_ left: String, _ right: String) -> Int {
            NearestKey.editDistance([UInt8](left.utf8), [UInt8](right.utf8))
        }
        #expect(distance("", "") == 0)
        #expect(distance("abc", "") == 3)
        #expect(distance("kitten", "sitting") == 3)
        #expect(distance("ab", "ba") == 1)
        #expect(distance("abcdef", "abdcef") == 1)
    }
}
