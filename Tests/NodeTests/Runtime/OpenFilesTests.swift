import Glibc
import Node
import Testing

@Suite struct OpenFilesTests {
    @Test func clientsGetWhatIsLeft() {
        var configuration = NodeConfiguration()
        configuration.client.connectionsMax = 10_000
        let (enough, silence) = OpenFiles.fit(configuration, limit: 20_000)
        #expect(enough.client.connectionsMax == 10_000 && silence == nil)
        let (fewer, warning) = OpenFiles.fit(configuration, limit: 4096)
        #expect((1000..<4096).contains(fewer.client.connectionsMax))
        #expect(
            warning?.hasPrefix(
                "client.connections-max: \(fewer.client.connectionsMax) clients are taken instead"
                    + " of 10000, since this process may open 4096 files") == true)
        let (fewest, _) = OpenFiles.fit(configuration, limit: 1024)
        #expect(fewest.client.connectionsMax == 256)
        configuration.client.connectionsMax = 4
        let (few, none) = OpenFiles.fit(configuration, limit: 256)
        #expect(few.client.connectionsMax == 4 && none == nil)
    }

    @Test func theLimitIsTheHardOne() throws {
        var before = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before)
        // Lowered by a little, so that tests beside this one notice nothing.
        var lowered = before
        lowered.rlim_cur = min(before.rlim_cur, before.rlim_max - 1)
        #expect(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &lowered) == 0)
        #expect(try OpenFiles.raiseLimit() == Int(clamping: before.rlim_max))
        var after = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &after)
        #expect(after.rlim_cur == before.rlim_max)
    }
}
