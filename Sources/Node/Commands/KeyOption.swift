// The option of the tools that look into one file: the key, if the file is encrypted.
import ArgumentParser
import Engine

struct KeyOption: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The key of an encrypted file: a file of 32 bytes or 64 hexadecimal digits.",
            valueName: "file"))
    var keyFile: String?

    func ring() throws -> KeyRing {
        guard let keyFile else { return .plain }
        return KeyRing(reading: try NodeKeys.read(keyFile, "--key-file"))
    }
}
