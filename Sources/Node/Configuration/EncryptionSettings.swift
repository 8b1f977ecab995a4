// Where the keys of files at rest come from. Off unless a current key is named. Only names and
// paths are settings; the keys themselves are read by `NodeKeys` at start and shown nowhere, nor is
// the command.
import Engine

extension NodeConfiguration {
    package struct EncryptionSettings: Sendable, Equatable {
        /// A file with the current key; empty for none.
        package var keyFile = ""
        /// A command that prints the current key; empty for none.
        package var keyCommand = ""
        /// Epoch of the current key. Raise it with every new key.
        package var keyEpoch = 1
        /// Keys of earlier epochs, for the files that are still encrypted with them.
        package var previousKeys: [PreviousKey] = []

        package struct PreviousKey: Sendable, Equatable {
            package var epoch: Int
            package var file: String

            package init(epoch: Int, file: String) {
                self.epoch = epoch
                self.file = file
            }
        }

        package init() {}

        package var hasCurrentKey: Bool { !keyFile.isEmpty || !keyCommand.isEmpty }
    }
}

extension SettingCatalog {
    private static let epochs = 1...Int(Int32.max)

    static let encryption: [SettingDefinition] = [
        SettingDefinition(
            key: "encryption.key-file", allowed: "none, or the path of a file with a key",
            apply: { (text, directory, configuration) throws(SettingProblem) in
                configuration.encryption.keyFile = try keyFile(text, directory)
            }, show: { shown($0.encryption.keyFile) }),
        SettingDefinition(
            key: "encryption.key-command", allowed: "none, or a command that prints a key",
            apply: { (text, _, configuration) throws(SettingProblem) in
                guard !text.isEmpty, !text.utf8.contains(0) else {
                    throw SettingProblem("\"\(text)\" is not a command")
                }
                configuration.encryption.keyCommand = text == "none" ? "" : text
                // Any client can ask for settings, and a command may hold a token.
            }, show: { $0.encryption.keyCommand.isEmpty ? "none" : "(a command)" }),
        .integer("encryption.key-epoch", \.encryption.keyEpoch, epochs),
        SettingDefinition(
            key: "encryption.previous-keys",
            allowed: "none, or epoch=path such as 1=/etc/martlet/key-1,2=/etc/martlet/key-2",
            apply: { (text, directory, configuration) throws(SettingProblem) in
                configuration.encryption.previousKeys = try previousKeys(text, directory)
            }, show: { format($0.encryption.previousKeys) }),
    ]

    private static func shown(_ text: String) -> String { text.isEmpty ? "none" : text }

    private static func keyFile(_ text: String, _ directory: String) throws(SettingProblem)
        -> String
    {
        guard !text.isEmpty, !text.utf8.contains(0) else {
            throw SettingProblem("\"\(text)\" is not a path")
        }
        if text == "none" { return "" }
        return text.hasPrefix("/") || directory.isEmpty ? text : directory + "/" + text
    }

    private static func previousKeys(_ text: String, _ directory: String) throws(SettingProblem)
        -> [NodeConfiguration.EncryptionSettings.PreviousKey]
    {
        var keys: [NodeConfiguration.EncryptionSettings.PreviousKey] = []
        if text == "none" { return keys }
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let sides = part.split(separator: "=", maxSplits: 1)
            guard sides.count == 2 else {
                throw SettingProblem("\"\(part)\" is no epoch with its file; write 1=/path")
            }
            let epoch = try SettingParsing.integer(String(sides[0]), epochs)
            guard !keys.contains(where: { $0.epoch == epoch }) else {
                throw SettingProblem("epoch \(epoch) is named twice")
            }
            keys.append(.init(epoch: epoch, file: try keyFile(String(sides[1]), directory)))
        }
        return keys
    }

    private static func format(_ keys: [NodeConfiguration.EncryptionSettings.PreviousKey])
        -> String
    {
        keys.isEmpty ? "none" : keys.map { "\($0.epoch)=\($0.file)" }.joined(separator: ",")
    }
}
