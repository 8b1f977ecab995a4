// What an open asks for and the database does otherwise: the shapes that it was made with stay, as
// the log has them.

extension LoggedSettings {
    /// Each shape that is another than the database's own, for people; functions are no shapes.
    func differences(from kept: LoggedSettings) -> [String] {
        var found: [String] = []
        func compare<Value: Equatable>(_ name: String, _ value: (LoggedSettings) -> Value) {
            guard value(self) != value(kept) else { return }
            found.append(
                "settings.\(name) is \(value(self)): the database keeps what it was made with,"
                    + " \(value(kept))")
        }
        compare("segmentBytes") { $0.segmentBytes }
        compare("blockBytes") { $0.blockBytes }
        compare("blockLevels") { $0.blockLevels }
        compare("filter") { $0.filter }
        compare("blobThreshold") { $0.blobThreshold }
        compare("blobFileBytes") { $0.blobFileBytes }
        return found
    }
}
