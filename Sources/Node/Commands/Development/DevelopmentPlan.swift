// What a local cluster looks like, as a pure value: ports, names, the text of each node's file.
// Ports of node K (from 1): RESP port + 10(K-1), peers + 1, HTTP + 2. All paths in the files are
// relative to the cluster's directory, so that it may be moved.
import Engine

package struct DevelopmentPlan: Sendable, Equatable {
    package struct NodePlan: Sendable, Equatable {
        package var id: Int
        package var respPort: Int
        package var peerPort: Int { respPort + 1 }
        package var httpPort: Int { respPort + 2 }
        package var configFile: String { "node-\(id).yaml" }
        package var logFile: String { "node-\(id).log" }
        package var pidFile: String { "node-\(id).pid" }
    }

    package static let host = "127.0.0.1"
    package static let cluster = "dev"
    package static let portStep = 10
    package static let nodesMax = 9

    package var nodes: [NodePlan]
    /// `key=value` settings written into each node's file.
    package var settings: [String]

    package init(nodes count: Int, port: Int, settings: [String] = []) throws(NodeFailure) {
        guard (1...DevelopmentPlan.nodesMax).contains(count) else {
            throw NodeFailure(
                .usage,
                "--nodes: \(count) is out of range; allowed is 1 to"
                    + " \(DevelopmentPlan.nodesMax)")
        }
        let portMax = 65_535 - 2 - DevelopmentPlan.portStep * (count - 1)
        guard (1...portMax).contains(port) else {
            throw NodeFailure(
                .usage, "--port: \(port) is out of range; \(count) nodes allow 1 to \(portMax)")
        }
        nodes = (1...count).map {
            NodePlan(id: $0, respPort: port + DevelopmentPlan.portStep * ($0 - 1))
        }
        self.settings = settings
    }

    /// The file of one node. Only what differs from the defaults.
    package func yaml(for node: NodePlan) -> String {
        var text = """
            # Node \(node.id) of a development cluster; written once by `martlet dev`, then yours.
            cluster:
              id: \(DevelopmentPlan.cluster)
            node:
              id: \(node.id)
            data:
              directory: node-\(node.id)
            listen:
              host: \(DevelopmentPlan.host)
              resp-port: \(node.respPort)
              peer-port: \(node.peerPort)
              http-port: \(node.httpPort)

            """
        if nodes.count > 1 {
            text += "members:\n"
            for member in nodes {
                text += """
                      - id: \(member.id)
                        peer: \(DevelopmentPlan.host):\(member.peerPort)
                        client: \(DevelopmentPlan.host):\(member.respPort)

                    """
            }
            text += """
                tls:
                  ca: certificates/ca.pem
                  certificate: certificates/node-\(node.id).pem
                  key: certificates/node-\(node.id)-key.pem

                """
        }
        for setting in settings {
            let parts = setting.split(separator: "=", maxSplits: 1)
            guard parts.count == 2 else { continue }
            let value = parts[1].replacing("'", with: "''")
            text += "\(parts[0]): '\(value)'\n"
        }
        return text
    }

    /// Why an existing node file does not belong to this plan; nil if it does.
    package func conflict(
        of node: NodePlan, with configuration: NodeConfiguration, directory: String
    ) -> String? {
        let listen = configuration.listen
        if configuration.nodeID.rawValue != UInt64(node.id) {
            return "\(directory)/\(node.configFile) is of node \(configuration.nodeID)"
        }
        if listen.respPort != node.respPort || listen.peerPort != node.peerPort
            || listen.httpPort != node.httpPort
        {
            return "\(directory) holds a cluster on other ports (node \(node.id) listens on"
                + " \(listen.respPort)); give the same --port, or another --dir"
        }
        let members = max(1, configuration.members.count)
        if members != nodes.count {
            return "\(directory) holds a cluster of \(members); give --nodes \(members), or"
                + " another --dir"
        }
        return nil
    }

    /// The one line that says that every node serves.
    package var readyLine: String {
        let resp = nodes.map { "\(DevelopmentPlan.host):\($0.respPort)" }
        let http = nodes.map { "http://\(DevelopmentPlan.host):\($0.httpPort)" }
        return "ready resp=\(resp.joined(separator: ",")) http=\(http.joined(separator: ","))"
    }
}
