// The manifest, and the jobs that the log carries.

import Engine

extension FuzzTarget {
    static let manifestTargets: [FuzzTarget] = [
        FuzzTarget("manifest") { bytes in
            let path = "/f/MANIFEST"
            guard let files = try? memoryFile(bytes, named: path) else { return }
            _ = try? ManifestInspection.inspect(files, path)
        },
        .roundTrip(
            "manifest-state", { try ManifestState(decoding: [UInt8]($0)) }, { $0.encoded() }),
        .roundTrip(
            "manifest-edits", { try ManifestEdit.decoded($0) }, { ManifestEdit.encoded($0) }),
        .roundTrip("compaction", { try CompactionSpec(decoding: $0) }, { $0.encoded() }),
        .roundTrip("seal", { try SealRecord(decoding: $0) }, { $0.encoded() }),
        .roundTrip("compacted", { try CompactedRecord(decoding: $0) }, { $0.encoded() }),
        .roundTrip("cancelled", { try CancelledRecord(decoding: $0) }, { $0.encoded() }),
    ]
}
