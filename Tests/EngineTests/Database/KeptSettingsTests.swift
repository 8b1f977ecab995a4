// Settings that shape files are the database's, not the process's: an open that wants others is told.
import Engine
import Testing

@Suite struct KeptSettingsTests {
    @Test func `An open that wants other shapes is told that the old ones stay`() throws {
        let rig = try DatabaseRig()
        try rig.database.put(bytes("a"), bytes("1"))
        let kept = rig.store.settings
        try rig.close()
        try rig.open()
        #expect(rig.notes.all.isEmpty)
        try rig.close()
        rig.options.settings.blobThreshold = 1024
        rig.options.settings.segmentBytes = 8192
        rig.options.settings.filterBitsPerKey = 3
        try rig.open()
        for name in ["blobThreshold is 1024", "segmentBytes is 8192", "filter is"] {
            #expect(rig.notes.contains("settings.\(name)"), "\(rig.notes.all)")
        }
        #expect(rig.notes.contains("the database keeps what it was made with, 4096"))
        #expect(rig.notes.all.count == 3)
        #expect(rig.store.settings == kept)
        #expect(try rig.database.get(bytes("a")) == bytes("1"))
    }
}
