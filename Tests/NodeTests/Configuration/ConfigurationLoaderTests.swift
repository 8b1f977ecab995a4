import Engine
import Foundation
import Node
import Testing

@Suite struct ConfigurationLoaderTests {
    @Test func defaultsHoldWithoutASource() throws {
        var expected = NodeConfiguration()
        expected.dataDirectory = "/data"
        #expect(try load() == expected)
    }

    @Test func fileSetsNestedAndDottedKeys() throws {
        let configuration = try load(
            yaml: """
                cluster: { id: orders }
                node:
                  id: 7
                log.sync: never
                log:
                  segment-bytes: 16MiB
                compaction:
                """)
        #expect(configuration.clusterID == "orders")
        #expect(configuration.nodeID == MemberID(7))
        #expect(configuration.log.sync == .never)
        #expect(configuration.log.segmentBytes == 16 << 20)
    }

    @Test func laterLayersOverrideEarlierOnes() throws {
        let yaml = "cache: { bytes: 1MiB }\nlogging: { level: debug }\ntable: { compression: none }"
        let variables = ["MARTLET_CACHE_BYTES": "2MiB", "MARTLET_LOGGING_LEVEL": "error"]
        let configuration = try load(
            yaml: yaml, environment: variables, set: ["cache.bytes=3MiB"])
        #expect(configuration.cache.bytes == 3 << 20)
        #expect(configuration.logging.level == .error)
        #expect(configuration.table.compression == .none)
    }

    @Test func theLastFlagForAKeyCounts() throws {
        let configuration = try load(
            set: [
                "cache.bytes=3MiB", "cache.bytes=4MiB", "cache.row-bytes=1MiB",
                "memory.bytes=1GiB", "space.low-bytes=2GiB",
            ])
        #expect(configuration.cache.bytes == 4 << 20)
        #expect(configuration.cache.rowBytes == 1 << 20)
        #expect(configuration.memory.bytes == 1 << 30)
        #expect(configuration.space.lowBytes == 2 << 30)
    }

    @Test func everySettingIsReachableFromEachLayer() throws {
        for setting in SettingCatalog.all where setting.key != "members" {
            let shown = setting.show(NodeConfiguration())
            let value =
                setting.key.hasPrefix("tls.") || setting.key == "data.directory"
                ? "/given" : shown
            let configuration = try load(set: ["\(setting.key)=\(value)"])
            #expect(setting.show(configuration) == value, "\(setting.key)")
            // A wrong value is refused with the layer's own name, so the layer was read.
            let wrong = "\u{0}"
            let variable = ConfigurationLoader.variable(setting.key)
            if setting.key != "data.directory" {
                #expect(
                    try problems(environment: [variable: wrong]).first?.hasPrefix(variable) == true)
            }
            #expect(
                try problems(set: ["\(setting.key)=\(wrong)"]).first?.hasPrefix("--set") == true)
        }
    }

    @Test func membersComeAsAListOrAsAText() throws {
        let yaml = """
            members:
              - { id: 1, peer: "a:1", client: "a:2" }
              - id: 2
                peer: "[::1]:1"
                client: b:2
            tls: { ca: ca.pem, certificate: c.pem, key: /k.pem }
            """
        let fromFile = try load(yaml: yaml)
        let fromFlag = try load(
            set: [
                "members=1=a:1/a:2,2=[::1]:1/b:2", "tls.ca=c", "tls.certificate=c", "tls.key=k",
            ])
        #expect(fromFile.members == fromFlag.members)
        #expect(fromFile.members.map(\.id) == [MemberID(1), MemberID(2)])
        #expect(fromFile.membership.member(MemberID(2))?.peerAddress == "[::1]:1")
    }

    @Test func pathsAreRelativeToTheFileThatNamesThem() throws {
        let directory = try TemporaryDirectory()
        let file = try directory.write(
            "node.yaml", "data: { directory: d }\ntls: { ca: ../ca.pem, key: /abs.pem }")
        let configuration = try ConfigurationLoader.load(
            ConfigurationSources(file: file, overrides: ["tls.certificate=here.pem"])
        )
        #expect(configuration.dataDirectory == directory.path + "/d")
        #expect(configuration.tls.ca == directory.path + "/../ca.pem")
        #expect(configuration.tls.key == "/abs.pem")
        #expect(configuration.tls.certificate == "here.pem")
    }

    @Test func unknownKeysNameFileLineAndNearestKey() throws {
        let found = try problems(
            yaml: """
                log:
                  segment-byte: 1MiB
                lgo:
                  sync: never
                banana: 1
                """)
        #expect(
            found == [
                "node.yaml:2: log.segment-byte: unknown key; did you mean log.segment-bytes?",
                "node.yaml:4: lgo.sync: unknown key; did you mean log.sync?",
                "node.yaml:5: banana: unknown key",
            ])
        #expect(
            try problems(set: ["chache.bytes=1MiB"])
                == ["--set: chache.bytes: unknown key; did you mean cache.bytes?"])
    }

    @Test func variablesThatWereMeantForASettingAreProblems() throws {
        let others = [
            "MARTLET_PORT": "tcp://10.0.0.1:7379", "MARTLET_PORT_7379_TCP": "tcp://10.0.0.1:7379",
            "MARTLET_SERVICE_HOST": "10.0.0.1", "MARTLET_SERVICE_PORT_RESP": "7379",
            "MARTLET_BIN": "/usr/bin/martlet", "MARTLET_TEST_DIR": "/tmp", "PATH": "/bin",
        ]
        func load(_ more: [String: String]) throws {
            _ = try ConfigurationLoader.load(
                ConfigurationSources(
                    file: nil, environment: others.merging(more) { $1 },
                    overrides: ["data.directory=/d"]))
        }
        try load([:])
        let error = #expect(throws: ConfigurationError.self) {
            try load([
                "MARTLET_LOG_SINK": "never", "MARTLET_LGO_SYNC": "never", "MARTLET_RAFT_X": "1",
            ])
        }
        #expect(
            error?.problems.map(\.description) == [
                "MARTLET_LGO_SYNC: unknown variable; did you mean MARTLET_LOG_SYNC?",
                "MARTLET_LOG_SINK: unknown variable; did you mean MARTLET_LOG_SYNC?",
                "MARTLET_RAFT_X: unknown variable",
            ])
    }

    @Test func wrongValuesNameKeyValueAndRange() throws {
        let found = try problems(
            yaml: """
                log: { sync: sometimes, segment-bytes: 1KiB }
                listen:
                  resp-port: 70000
                  peer-port: many
                heal: { auto-heal: maybe }
                raft: { election-timeout: 300 }
                """)
        #expect(
            found == [
                "node.yaml:3: listen.resp-port: 70000 is out of range; allowed is 0 to 65535",
                "node.yaml:4: listen.peer-port: \"many\" is not a whole number;"
                    + " allowed is 0 to 65535",
                "node.yaml:1: log.sync: \"sometimes\" is not one of always, never",
                "node.yaml:1: log.segment-bytes: 1KiB is out of range; allowed is 4KiB to 4GiB",
                "node.yaml:5: heal.auto-heal: \"maybe\" is neither true nor false",
                "node.yaml:6: raft.election-timeout: \"300\" is not a duration such as 300ms or 5s;"
                    + " allowed is 50ms to 1m",
            ])
    }

    @Test func malformedFilesAreOneClearLine() throws {
        #expect(try problems(yaml: "log: [unclosed").first?.contains("not YAML") == true)
        #expect(try problems(yaml: "- a\n- b").first?.contains("not a mapping") == true)
        #expect(
            try problems(yaml: "cluster:\n  id:\n") == ["node.yaml:2: cluster.id: has no value"])
        #expect(
            try problems(yaml: "cache: [1, 2]")
                == ["node.yaml:1: cache: is a list, where one value is expected"])
        #expect(
            try problems(yaml: "cluster: { id: a }\ncluster: { id: b }").first?.contains("twice")
                == true)
        #expect(
            try problems(yaml: "log.sync: never\nlog: { sync: always }")
                == ["node.yaml:2: log.sync: was already set in line 1"])
        #expect(try problems(yaml: "").isEmpty)
        #expect(try problems(yaml: "# nothing").isEmpty)
    }

    @Test func missingFilesAndFlagsWithoutAValueAreRefused() throws {
        #expect(throws: ConfigurationError.self) {
            try ConfigurationLoader.load(ConfigurationSources(file: "/nonexistent/node.yaml"))
        }
        #expect(try problems(set: ["cache.bytes"]) == ["--set cache.bytes: is not key=value"])
        do {
            _ = try ConfigurationLoader.load(ConfigurationSources(file: nil))
            Issue.record("no data directory was accepted")
        } catch {
            #expect(error.description.hasPrefix("data.directory: is not set"))
        }
    }

    @Test func badMembersNameTheirPlace() throws {
        let found = try problems(
            yaml: """
                members:
                  - id: 1
                    peer: a:1
                    adress: a:2
                  - nonsense
                """)
        #expect(
            found == [
                "node.yaml:4: members[0].adress: unknown key",
                "node.yaml:2: members[0]: has no client",
                "node.yaml:5: members[1]: is not a mapping of id, peer and client",
            ])
        #expect(
            try problems(yaml: "members: [{ id: 1, per: 'a:1', peer: 'a:1', client: 'a:2' }]")
                == ["node.yaml:1: members[0].per: unknown key; did you mean peer?"])
    }

    @Test(arguments: ["single", "cluster/node-1", "cluster/node-2", "cluster/node-3"])
    func theShippedFilesAreValid(name: String) throws {
        let loaded = try ConfigurationLoader.load(
            ConfigurationSources(file: "\(repositoryRoot)/configs/\(name).yaml"))
        let number = Int(name.suffix(1))
        #expect(loaded.nodeID == MemberID(UInt64(number ?? 1)))
        #expect(loaded.membership.members.count == (number == nil ? 1 : 3))
        #expect(loaded.listen.respPort == 7379 + 10 * ((number ?? 1) - 1))
    }

    /// Each commented line of the example shows a real key with its default, and none is left out
    /// but those of certificates and members, which a single node has no use for.
    @Test func theExampleShowsTheDefaults() throws {
        let text = try String(
            contentsOfFile: "\(repositoryRoot)/configs/single.yaml", encoding: .utf8)
        var section = ""
        var checked = 0
        var shown: Set<String> = []
        for line in text.split(separator: "\n") {
            if line.first?.isLetter == true { section = String(line.prefix { $0 != ":" }) }
            shown.insert(section + "." + line.drop { " #".contains($0) }.prefix { $0 != ":" })
            guard line.hasPrefix("  # "), let colon = line.firstIndex(of: ":") else { continue }
            let key = section + "." + line.dropFirst(4).prefix { $0 != ":" }
            guard let setting = SettingCatalog.all.first(where: { $0.key == key }) else { continue }
            let value = line[line.index(colon, offsetBy: 2)...]
            #expect(setting.show(NodeConfiguration()) == value, "\(key)")
            checked += 1
        }
        #expect(checked >= 25)
        let missing = SettingCatalog.all.map(\.key).filter {
            !shown.contains($0) && !$0.hasPrefix("tls.") && $0 != "members"
        }
        #expect(missing.isEmpty, "\(missing)")
    }
}
