// Who is let in, and what the others are told.
import Engine
import Replication
import Testing

@Suite struct HandshakeRulesTests {
    private var rules = HandshakeRules(
        identity: PeerIdentity(cluster: "alpha", node: MemberID(1)), group: 7,
        boot: HandshakeRules.Boot(counter: 4, nonce: 44), members: [MemberID(2), MemberID(3)])

    private func hello(_ change: (inout Hello) -> Void = { _ in }) -> Hello {
        var hello = Hello(
            cluster: "alpha", group: 7, sender: MemberID(2), receiver: MemberID(1), lane: .bulk,
            bootCounter: 9, nonce: 99)
        change(&hello)
        return hello
    }

    private mutating func reason(
        _ hello: Hello, certificate: UInt64 = 2, expected: UInt64? = nil, lane: PeerLane? = nil,
        now: UInt64 = 0
    ) -> RefusalReason? {
        do throws(Refusal) {
            try rules.judge(
                hello, certificate: PeerIdentity(cluster: "alpha", node: MemberID(certificate)),
                expected: expected.map { MemberID($0) }, lane: lane, now: now)
            return nil
        } catch { return error.reason }
    }

    @Test mutating func aMemberIsAccepted() {
        #expect(reason(hello()) == nil)
        #expect(reason(hello(), expected: 2, lane: .bulk) == nil)
        #expect(reason(hello { $0.versions = 1...5 }) == nil)
    }

    @Test mutating func everythingElseIsRefused() {
        #expect(reason(hello { $0.versions = 2...5 }) == .unsupportedVersion)
        #expect(reason(hello { $0.cluster = "beta" }) == .differentCluster)
        #expect(reason(hello { $0.group = 8 }) == .differentGroup)
        #expect(reason(hello(), certificate: 3) == .certificateMismatch)
        #expect(reason(hello { $0.sender = MemberID(1) }, certificate: 1) == .sameIdentity)
        #expect(reason(hello { $0.sender = MemberID(5) }, certificate: 5) == .unknownMember)
        #expect(reason(hello { $0.receiver = MemberID(3) }) == .misdirected)
        #expect(reason(hello(), expected: 3) == .misdirected)
        #expect(reason(hello(), expected: 2, lane: .control) == .protocolViolation)
    }

    @Test mutating func whatAnEarlierRunSawCounts() {
        rules = HandshakeRules(
            identity: PeerIdentity(cluster: "alpha", node: MemberID(1)), group: 7,
            boot: HandshakeRules.Boot(counter: 4, nonce: 44), members: [MemberID(2), MemberID(3)],
            newest: [MemberID(2): HandshakeRules.Boot(counter: 9, nonce: 99)])
        // An emptied directory counts its starts from 1.
        #expect(reason(hello { $0.bootCounter = 1 }) == .staleBoot)
        #expect(reason(hello { $0.nonce = 1 }) == .clone)
        #expect(reason(hello()) == nil)
    }

    @Test mutating func anOldStartAndACloneAreRefused() {
        #expect(reason(hello()) == nil)
        #expect(reason(hello { $0.bootCounter = 8 }) == .staleBoot)
        #expect(reason(hello { $0.nonce = 98 }) == .clone)
        #expect(reason(hello()) == nil)
        #expect(
            reason(
                hello {
                    $0.bootCounter = 10
                    $0.nonce = 1
                }, now: 1_000) == nil)
        #expect(reason(hello(), now: 1_000) == .staleBoot)
    }

    /// Others are not held back by it, and nor is what goes on.
    @Test mutating func aMemberStartsOnceASecond() {
        let second = hello { $0.bootCounter = 10 }
        #expect(reason(hello(), now: 5) == nil)
        #expect(reason(second, now: 5) == .tooManyStarts)
        #expect(reason(second, now: 1_004) == .tooManyStarts)
        #expect(reason(hello(), now: 1_004) == nil)
        #expect(reason(hello { $0.sender = MemberID(3) }, certificate: 3, now: 1_004) == nil)
        #expect(reason(second, now: 1_005) == nil)
        #expect(reason(hello { $0.bootCounter = 11 }, now: 1_006) == .tooManyStarts)
    }

    @Test func certificatesAreJudgedAlone() {
        func reason(_ cluster: String, _ node: UInt64, _ expected: UInt64? = nil)
            -> RefusalReason?
        {
            do throws(Refusal) {
                try rules.judge(
                    PeerIdentity(cluster: cluster, node: MemberID(node)),
                    expected: expected.map { MemberID($0) })
                return nil
            } catch { return error.reason }
        }
        #expect(reason("alpha", 2) == nil)
        #expect(reason("beta", 2) == .differentCluster)
        #expect(reason("alpha", 1) == .sameIdentity)
        #expect(reason("alpha", 9) == .unknownMember)
        #expect(reason("alpha", 2, 3) == .misdirected)
    }

    @Test func identitiesHaveOneSpelling() {
        #expect(
            PeerIdentity(uri: "martlet://a-b_c.D9/17")
                == PeerIdentity(cluster: "a-b_c.D9", node: MemberID(17)))
        for uri in [
            "", "martlet://", "martlet://alpha", "martlet://alpha/", "martlet:///1",
            "martlet://alpha/0", "martlet://alpha/01", "martlet://alpha/+1", "martlet://alpha/1/",
            "martlet://alpha/1/2", "martlet://alpha/-1", "martlet://al pha/1", "Martlet://alpha/1",
            "http://alpha/1", "martlet://alpha/18446744073709551616", "martlet://älpha/1",
            "martlet://\(String(repeating: "a", count: 65))/1", "martlet://alpha/1\u{0}",
        ] {
            #expect(PeerIdentity(uri: uri) == nil, "\(uri)")
        }
    }
}
