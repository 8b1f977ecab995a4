// What readers of a file throw to those who know what the file is, and who may have another copy:
// the byte and the cause. An `EngineError` is made of it where nothing is left that helps.

/// What is wrong with a file that the catcher can name.
package struct FileDamage: Error, Hashable, Sendable, CustomStringConvertible {
    /// As in `EngineError.corrupt`.
    package var offset: UInt64?
    package var reason: String

    package init(at offset: UInt64? = nil, _ reason: String) {
        self.offset = offset
        self.reason = reason
    }

    /// What `error` says of its file, whatever its type.
    init(_ error: any Error) {
        switch error {
        case let damage as FileDamage: self = damage
        case EngineError.corrupt(_, let offset, let reason): self.init(at: offset, reason)
        default: self.init("\(error)")
        }
    }

    /// With a place, if it has none.
    func placed(at offset: UInt64?) -> FileDamage {
        FileDamage(at: self.offset ?? offset, reason)
    }

    /// For people who know which file it is.
    package var description: String { offset.map { "at byte \($0): \(reason)" } ?? reason }

    /// `name` is the file's, or that of a part of it.
    package func of(_ name: String) -> String {
        offset.map { "\(name) at byte \($0): \(reason)" } ?? "\(name): \(reason)"
    }
}
