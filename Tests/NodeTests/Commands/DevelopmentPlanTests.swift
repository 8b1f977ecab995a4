import ArgumentParser
import Engine
import Node
import Testing

@Suite struct DevelopmentPlanTests {
    @Test func portsFollowTheFixedRule() throws {
        let plan = try DevelopmentPlan(nodes: 3, port: 7379)
        #expect(plan.nodes.map(\.respPort) == [7379, 7389, 7399])
        #expect(plan.nodes.map(\.peerPort) == [7380, 7390, 7400])
        #expect(plan.nodes.map(\.httpPort) == [7381, 7391, 7401])
        #expect(
            plan.readyLine == "ready resp=127.0.0.1:7379,127.0.0.1:7389,127.0.0.1:7399"
                + " http=http://127.0.0.1:7381,http://127.0.0.1:7391,http://127.0.0.1:7401")
    }

    @Test(arguments: [(0, 7379), (-1, 7379), (10, 7379), (3, 0), (3, 65_514), (1, 65_534)])
    func impossiblePlansAreUsageErrors(nodes: Int, port: Int) {
        do {
            _ = try DevelopmentPlan(nodes: nodes, port: port)
            Issue.record("accepted")
        } catch {
            #expect(
                error.kind == .usage && error.message.contains("allowed is 1 to")
                    || error.message.contains("nodes allow 1 to"))
        }
    }

    @Test(arguments: [1, 2, 3, 9])
    func writtenFilesLoadAndFitThePlan(count: Int) throws {
        let directory = try TemporaryDirectory()
        let plan = try DevelopmentPlan(
            nodes: count, port: 7379,
            settings: ["log.segment-bytes=1MiB", "logging.level=debug", "table.compression=none"])
        for node in plan.nodes {
            let file = try directory.write(node.configFile, plan.yaml(for: node))
            let configuration = try ConfigurationLoader.load(ConfigurationSources(file: file))
            #expect(configuration.nodeID == MemberID(UInt64(node.id)))
            #expect(configuration.clusterID == DevelopmentPlan.cluster)
            #expect(configuration.dataDirectory == "\(directory.path)/node-\(node.id)")
            #expect(configuration.log.segmentBytes == 1 << 20)
            #expect(configuration.table.compression == .none)
            #expect(configuration.membership.members.count == count)
            #expect(
                plan.conflict(of: node, with: configuration, directory: directory.path) == nil)
            #expect(configuration.tls.ca.isEmpty == (count == 1))
        }
    }

    @Test func anotherClusterInTheDirectoryIsNamed() throws {
        let directory = try TemporaryDirectory()
        let old = try DevelopmentPlan(nodes: 3, port: 7379)
        let file = try directory.write("node-1.yaml", old.yaml(for: old.nodes[0]))
        let configuration = try ConfigurationLoader.load(ConfigurationSources(file: file))
        let moved = try DevelopmentPlan(nodes: 3, port: 8379)
        let grown = try DevelopmentPlan(nodes: 5, port: 7379)
        let ports = moved.conflict(of: moved.nodes[0], with: configuration, directory: "d")
        #expect(
            ports == "d holds a cluster on other ports (node 1 listens on 7379); give the same"
                + " --port, or another --dir")
        let members = grown.conflict(of: grown.nodes[0], with: configuration, directory: "d")
        #expect(members == "d holds a cluster of 3; give --nodes 3, or another --dir")
        let other = moved.conflict(of: moved.nodes[1], with: configuration, directory: "d")
        #expect(other == "d/node-2.yaml is of node 1")
    }

    @Test func argumentsAreCheckedBeforeAnythingIsMade() {
        for arguments in [
            [], ["--dir", "d", "--nodes", "0"], ["--dir", "d", "--port", "99999"],
            ["--dir", "d", "--set", "nonsense"], ["--dir", "d", "--set", "log.sync=sometimes"],
            ["--dir", "d", "--set", "lgo.sync=always"], ["--dir", ""],
        ] {
            #expect(throws: (any Error).self) { try DevCommand.parse(arguments) }
        }
        #expect(throws: Never.self) {
            try DevCommand.parse(["--dir", "d", "--set", "log.segment-bytes=1MiB", "--restart"])
        }
    }
}
