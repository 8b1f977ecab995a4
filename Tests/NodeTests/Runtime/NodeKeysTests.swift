// Keys from files and commands: what is taken, and what is refused with which words.
import Engine
import Foundation
import Node
import Testing

@Suite struct NodeKeysTests {
    private static let hex = String(repeating: "0123456789abcDEF", count: 4)

    private func failure(_ body: () throws -> Void) -> NodeFailure? {
        do { try body() } catch { return error as? NodeFailure }
        return nil
    }

    private func keyFile(_ directory: TemporaryDirectory, _ text: String, mode: Int = 0o600) throws
        -> String
    {
        let path = try directory.write("key", text)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
        return path
    }

    private func settings(
        _ change: (inout NodeConfiguration.EncryptionSettings) -> Void
    ) -> NodeConfiguration.EncryptionSettings {
        var settings = NodeConfiguration.EncryptionSettings()
        change(&settings)
        return settings
    }

    @Test func withoutKeysFilesArePlain() throws {
        #expect(try NodeKeys.load(settings { _ in })?.current == nil)
    }

    @Test func bothFormsOfAKeyAreTaken() throws {
        let directory = try TemporaryDirectory()
        let raw = String(repeating: "k", count: 32)
        #expect(
            try NodeKeys.read(keyFile(directory, raw), "s") == EncryptionKey(Array(raw.utf8)))
        let bytes: [UInt8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]
        let expected = try EncryptionKey(bytes + bytes + bytes + bytes)
        for text in [Self.hex, Self.hex + "\n", "  \(Self.hex)\r\n"] {
            #expect(try NodeKeys.read(keyFile(directory, text), "s") == expected)
        }
    }

    @Test func whatIsNoKeyIsRefused() throws {
        let directory = try TemporaryDirectory()
        for text in [
            "", "short", String(Self.hex.dropLast()), Self.hex + "0", Self.hex.dropLast() + "g",
            String(repeating: "k", count: 33),
        ] {
            let path = try keyFile(directory, text)
            let refusal = failure { _ = try NodeKeys.read(path, "encryption.key-file") }
            #expect(refusal?.kind == .configuration)
            #expect(refusal?.message.hasPrefix("encryption.key-file: \(path) has") == true)
            #expect(text.isEmpty || refusal?.message.contains(text) == false)
        }
        let large = try keyFile(directory, String(repeating: "0", count: 5000))
        #expect(failure { _ = try NodeKeys.read(large, "s") }?.kind == .configuration)
        let missing = failure { _ = try NodeKeys.read(directory.path + "/none", "s") }
        #expect(missing?.message.contains("No such file") == true)
        let directoryItself = failure { _ = try NodeKeys.read(directory.path, "s") }
        #expect(directoryItself?.message.contains("is not a file") == true)
    }

    @Test func aFileThatOthersCanReadIsRefused() throws {
        let directory = try TemporaryDirectory()
        for mode in [0o640, 0o604, 0o660, 0o601] {
            let path = try keyFile(directory, Self.hex, mode: mode)
            let refusal = failure { _ = try NodeKeys.read(path, "s") }
            #expect(refusal?.kind == .configuration)
            #expect(refusal?.message.contains("mode \(String(mode, radix: 8))") == true)
        }
        #expect(throws: Never.self) {
            try NodeKeys.read(keyFile(directory, Self.hex, mode: 0o400), "s")
        }
    }

    /// Whoever owns it can open it to others, or put another key there.
    @Test(.enabled(if: geteuid() == 0, "only root can give a file away"))
    func aFileOfAnotherUserIsRefused() throws {
        let directory = try TemporaryDirectory()
        let path = try keyFile(directory, Self.hex)
        #expect(chown(path, 12_345, 0) == 0)
        let refusal = failure { _ = try NodeKeys.read(path, "s") }
        #expect(refusal?.kind == .configuration)
        #expect(refusal?.message.contains("belongs to user 12345") == true)
    }

    @Test func aCommandPrintsAKey() throws {
        let keys = try NodeKeys.load(settings { $0.keyCommand = "echo \(Self.hex)" })
        #expect(keys?.current == 1)
        let refusal = failure {
            _ = try NodeKeys.load(settings { $0.keyCommand = "echo secret-that-is-no-key" })
        }
        #expect(
            refusal?.message.hasPrefix("encryption.key-command: its output has 22 bytes") == true)
        #expect(refusal?.message.contains("secret") == false)
    }

    @Test func aCommandIsBounded() throws {
        func run(_ command: String, patience: UInt64 = 10_000) -> NodeFailure? {
            failure { _ = try KeyCommand.run(command, "c", patience: patience) }
        }
        #expect(try KeyCommand.run("printf abc", "c") == Array("abc".utf8))
        #expect(run("exit 3")?.message == "c: the command exited with code 3")
        #expect(run("kill -9 $$")?.message == "c: the command was killed by signal 9")
        #expect(run("yes")?.message.contains("more than 4096 bytes") == true)
        #expect(
            run("read forever; tail -f /dev/null", patience: 200)?.message.contains("too long")
                == true)
        #expect(
            run("exec 1>/dev/null; tail -f /dev/null", patience: 200)?.message.contains("too long")
                == true)
    }

    @Test func epochsAndPreviousKeys() throws {
        let directory = try TemporaryDirectory()
        let path = try keyFile(directory, Self.hex)
        let rotated = try NodeKeys.load(
            settings {
                $0.keyFile = path
                $0.keyEpoch = 3
                $0.previousKeys = [.init(epoch: 1, file: path)]
            })
        #expect(rotated?.current == 3)
        let off = try NodeKeys.load(settings { $0.previousKeys = [.init(epoch: 1, file: path)] })
        #expect(off?.current == 0)
    }

    @Test func settingsAreReadAndChecked() throws {
        let configuration = try load(set: [
            "encryption.key-file=/k", "encryption.key-epoch=2", "encryption.previous-keys=1=/old",
        ])
        #expect(configuration.encryption.keyFile == "/k")
        #expect(configuration.encryption.previousKeys == [.init(epoch: 1, file: "/old")])
        let command = try load(set: ["encryption.key-command=fetch --token t0ken"])
        #expect(command.encryption.keyCommand == "fetch --token t0ken")
        let shown = SettingCatalog.all.filter { $0.key.hasPrefix("encryption.") }
            .map { $0.show(command) }
        #expect(shown.count == 4)
        #expect(shown.allSatisfy { !$0.contains("t0ken") }, "any client can read settings")
        for set in [
            ["encryption.key-file=/k", "encryption.key-command=c"],
            ["encryption.key-file=/k", "encryption.previous-keys=1=/old"],
            ["encryption.previous-keys=1=/a,1=/b"], ["encryption.previous-keys=/a"],
            ["encryption.previous-keys=0=/a"], ["encryption.key-epoch=0"],
        ] {
            #expect(try problems(set: set).count == 1, "\(set)")
        }
    }

    @Test func aWrongKeyHasItsExitCodes() {
        let wrong = EngineError.wrongKey(epoch: 4, file: "state", isMissing: false)
        let failure = NodeFailure(classifying: wrong)
        #expect(failure.kind == .identity && failure.message.contains("wrong key for epoch 4"))
        let missing = EngineError.wrongKey(epoch: 4, file: "state", isMissing: true)
        #expect(NodeFailure(classifying: missing).kind == .configuration)
    }
}
