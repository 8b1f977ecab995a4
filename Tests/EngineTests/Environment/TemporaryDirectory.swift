// For tests on real files.
import Engine
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A directory that goes away with the test.
final class TemporaryDirectory {
    let path: String

    init() throws {
        var template = Array("/tmp/martlet-test-XXXXXX".utf8CString)
        let made = try #require(mkdtemp(&template))
        path = String(cString: made)
    }

    deinit {
        let files = POSIXFileSystem()
        TemporaryDirectory.remove(path, files)
    }

    private static func remove(_ path: String, _ files: POSIXFileSystem) {
        for name in (try? files.list(path)) ?? [] where unlink(path + "/" + name) != 0 {
            remove(path + "/" + name, files)
        }
        rmdir(path)
    }
}
