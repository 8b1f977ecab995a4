// The decoder that FUZZ_TARGET names. In a file of its own: a program of one file would get a `main`,
// and here that is libFuzzer's.

import FuzzTargets

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

let fuzzedTarget: FuzzTarget = {
    let name = getenv("FUZZ_TARGET").map { String(cString: $0) } ?? ""
    guard let found = FuzzTarget.all.first(where: { $0.name == name }) else {
        let names = FuzzTarget.all.map(\.name).joined(separator: " ")
        var message = "FUZZ_TARGET is \"\(name)\"; there are: \(names)\n"
        message.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
        exit(64)
    }
    return found
}()
