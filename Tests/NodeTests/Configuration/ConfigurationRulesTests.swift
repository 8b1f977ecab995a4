import Engine
import Node
import Testing

@Suite struct ConfigurationRulesTests {
    private static let three =
        "members=1=a:1/a:2,2=b:1/b:2,3=c:1/c:2"
    private static let tls = ["tls.ca=a", "tls.certificate=c", "tls.key=k"]

    @Test func aClusterNeedsCertificatesAndSyncs() throws {
        #expect(try problems(set: [Self.three] + Self.tls).isEmpty)
        #expect(
            try problems(set: [Self.three])
                == ["tls.ca", "tls.certificate", "tls.key"].map {
                    "\($0): is not set; members talk over mutual TLS only"
                })
        let found = try problems(set: [Self.three, "log.sync=never"] + Self.tls)
        #expect(found.count == 1 && found[0].hasPrefix("log.sync: never is for a cluster of one"))
    }

    @Test func membersMustBeDistinctAndNameThisNode() throws {
        let found = try problems(
            set: ["members=1=a:1/a:2,1=b:1/a:2", "node.id=5"] + Self.tls)
        #expect(
            found == [
                "members: names id 1 twice", "members: names address a:2 twice",
                "members: does not name node.id 5; list every member, this node among them",
            ])
    }

    @Test(arguments: [
        "members=1", "members=1=a:1", "members=x=a:1/a:2", "members=0=a:1/a:2",
        "members=1=a/a:2", "members=1=a:1/a:99999", "members=1=:1/a:2", "members=1=::1:5/a:2",
    ])
    func malformedMembersAreRefused(text: String) throws {
        #expect(try problems(set: [text]).count == 1)
    }

    @Test(arguments: [
        (["listen.resp-port=9", "listen.http-port=9"], "listen.http-port: is 9, and so is"),
        (["raft.heartbeat-interval=200ms"], "raft.heartbeat-interval: 200ms is more than a third"),
        (["read.lease=500ms"], "read.lease: 500ms is not below raft.election-timeout"),
        (
            ["read.lease=10ms"],
            "read.lease: 10ms is not above read.lease-drift (15ms)"
        ),
        (["raft.preferred-leader=4"], "raft.preferred-leader: 4 is none of the members"),
        (["log.retain-bytes=64MiB"], "log.retain-bytes: 64MiB is less than two segments"),
        (["compaction.level0-slowdown=4"], "compaction.level0-slowdown: 4 is not above"),
        (["compaction.level0-stop=20"], "compaction.level0-stop: 20 is not above"),
        (["compaction.strategy=fifo"], "compaction.strategy: fifo needs compaction.fifo-bytes or"),
        (
            ["compaction.strategy=size-tiered", "compaction.rewrite-after=1d"],
            "compaction.rewrite-after: does nothing with compaction.strategy size-tiered"
        ),
        (["compaction.bytes-per-second=1KiB"], "compaction.bytes-per-second: 1KiB is less than"),
        (["memory.bytes=64MiB"], "memory.bytes: 64MiB does not hold two memtables"),
        (
            ["client.value-bytes-max=512MiB"],
            "client.input-bytes-max: 512MiB does not hold one value"
        ),
        (
            ["client.output-bytes-max=1GiB"],
            "client.output-total-bytes-max: 256MiB does not hold one reply"
        ),
        (["cluster.id=embedded-1"], "cluster.id: embedded-1 starts with embedded-"),
    ])
    func contradictionsNameBothKeys(settings: [String], start: String) throws {
        let found = try problems(set: settings)
        #expect(found.count == 1 && found[0].hasPrefix(start), "\(found)")
    }

    @Test func leasesAndPreferredLeadersAreOffUnlessSet() throws {
        let plain = try load()
        #expect(plain.read.leaseMilliseconds == 0)
        #expect(plain.raft.preferredLeader == .none)
        let set = try load(
            set: [
                Self.three, "read.lease=150ms", "read.lease-drift=20ms", "raft.preferred-leader=2",
            ] + Self.tls)
        #expect(set.read.leaseMilliseconds == 150 && set.read.leaseDriftMilliseconds == 20)
        #expect(set.raft.preferredLeader == MemberID(2))
        let taken = try load(set: [Self.three, "raft.preferred-leader=none"] + Self.tls)
        #expect(taken.raft.preferredLeader == .none)
    }

    @Test func portsMayAllBeChosenByTheSystem() throws {
        #expect(
            try problems(
                set: ["listen.resp-port=0", "listen.peer-port=0", "listen.http-port=0"]
            ).isEmpty)
    }
}
