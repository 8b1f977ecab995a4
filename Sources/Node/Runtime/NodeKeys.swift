// The keys of this node's files, from the files and the command that the configuration names. Read
// once, at start; what is wrong with one is said with the setting's name, and never shows the key.
import Engine
import Glibc

package enum NodeKeys {
    /// Nil without any key: files are plain.
    package static func load(_ settings: NodeConfiguration.EncryptionSettings)
        throws(NodeFailure) -> EncryptionKeys?
    {
        guard settings.hasCurrentKey || !settings.previousKeys.isEmpty else { return nil }
        var keys: [UInt32: EncryptionKey] = [:]
        for previous in settings.previousKeys {
            keys[UInt32(previous.epoch)] = try read(previous.file, "encryption.previous-keys")
        }
        let current = UInt32(settings.keyEpoch)
        if !settings.keyFile.isEmpty {
            keys[current] = try read(settings.keyFile, "encryption.key-file")
        } else if !settings.keyCommand.isEmpty {
            let setting = "encryption.key-command"
            let output = try KeyCommand.run(settings.keyCommand, setting)
            keys[current] = try parse(output, setting, "its output")
        }
        do throws(EngineError) {
            return try EncryptionKeys(current: settings.hasCurrentKey ? current : 0, keys: keys)
        } catch {
            throw NodeFailure(.configuration, error.description)
        }
    }

    /// A key from a file that nobody else may read.
    package static func read(_ path: String, _ setting: String) throws(NodeFailure)
        -> EncryptionKey
    {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw NodeFailure(
                .configuration, "\(setting): \(path): \(String(cString: strerror(errno)))")
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw NodeFailure(.configuration, "\(setting): \(path) is not a file")
        }
        guard status.st_uid == geteuid() || status.st_uid == 0 else {
            throw NodeFailure(
                .configuration,
                "\(setting): \(path) belongs to user \(status.st_uid), who could change it; it "
                    + "has to be this process's own (user \(geteuid())), or root's")
        }
        guard status.st_mode & 0o077 == 0 else {
            let mode = String(status.st_mode & 0o777, radix: 8)
            throw NodeFailure(
                .configuration,
                "\(setting): \(path) is open to others than its owner (mode \(mode)); chmod 600 it")
        }
        let bytes: [UInt8]
        do throws(FileError) {
            bytes = try SmallFile.read(path, limit: 4096)
        } catch {
            throw NodeFailure(.configuration, "\(setting): \(error)")
        }
        return try parse(bytes, setting, path)
    }

    /// 32 bytes as they are, or 64 hexadecimal digits with blanks around them.
    package static func parse(_ bytes: [UInt8], _ setting: String, _ place: String)
        throws(NodeFailure) -> EncryptionKey
    {
        do throws(EngineError) {
            if bytes.count == EncryptionKey.byteCount { return try EncryptionKey(bytes) }
            if let decoded = hexadecimal(bytes) { return try EncryptionKey(decoded) }
        } catch {
            throw NodeFailure(.configuration, "\(setting): \(error)")
        }
        throw NodeFailure(
            .configuration,
            "\(setting): \(place) has \(bytes.count) bytes and is no key: a key is 32 bytes, or 64 "
                + "hexadecimal digits")
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> [UInt8]? {
        func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d).contains(byte) }
        let digits = bytes.drop(while: isBlank).reversed().drop(while: isBlank).reversed()
            .map { byte -> UInt8? in
                switch byte {
                case UInt8(ascii: "0")...UInt8(ascii: "9"): return byte - UInt8(ascii: "0")
                case UInt8(ascii: "a")...UInt8(ascii: "f"): return byte - UInt8(ascii: "a") + 10
                case UInt8(ascii: "A")...UInt8(ascii: "F"): return byte - UInt8(ascii: "A") + 10
                default: return nil
                }
            }
        guard digits.count == 2 * EncryptionKey.byteCount else { return nil }
        var result: [UInt8] = []
        for place in stride(from: 0, to: digits.count, by: 2) {
            guard let high = digits[place], let low = digits[place + 1] else { return nil }
            result.append(high << 4 | low)
        }
        return result
    }
}
