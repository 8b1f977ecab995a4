// The directory of a local cluster: locked by one `martlet dev` at a time, filled once, kept.
import Cluster
import Engine
import Glibc

final class DevelopmentDirectory {
    let path: String
    private let lock: Int32

    /// Creates the directory if needed and locks it until released.
    init(_ path: String) throws(NodeFailure) {
        self.path = path
        do throws(FileError) {
            try POSIXFileSystem().createDirectory(path)
        } catch {
            throw NodeFailure(classifying: error)
        }
        let lockPath = path + "/LOCK"
        lock = open(lockPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard lock >= 0 else {
            throw NodeFailure(.system, "open \(lockPath): \(String(cString: strerror(errno)))")
        }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            close(lock)
            throw NodeFailure(
                .inUse, "\(path) is in use by another martlet dev; stop it or choose another --dir")
        }
    }

    deinit { close(lock) }

    /// Writes what is missing; what exists must fit the plan. Returns whether the cluster existed.
    func prepare(_ plan: DevelopmentPlan) throws -> Bool {
        let existing = plan.nodes.filter { exists($0.configFile) }
        let later = plan.nodes.count + 1
        if exists("node-\(later).yaml") {
            throw NodeFailure(
                .usage,
                "\(path) holds a cluster of more than \(plan.nodes.count); give the same"
                    + " --nodes, or another --dir")
        }
        for node in existing {
            let loaded = try ConfigurationLoader.load(
                ConfigurationSources(file: path + "/" + node.configFile))
            if let conflict = plan.conflict(
                of: node, with: loaded, directory: path)
            {
                throw NodeFailure(.usage, conflict)
            }
        }
        if plan.nodes.count > 1 { try makeCertificates(plan) }
        for node in plan.nodes where !exists(node.configFile) {
            try SmallFile.write(path + "/" + node.configFile, plan.yaml(for: node))
        }
        return !existing.isEmpty
    }

    func logTail(_ node: DevelopmentPlan.NodePlan, lines: Int) -> String {
        let file = path + "/" + node.logFile
        guard let bytes = try? SmallFile.read(file, limit: 64 << 20) else { return "" }
        let all = String(decoding: bytes.suffix(64 << 10), as: UTF8.self).split(separator: "\n")
        return all.suffix(lines).joined(separator: "\n")
    }

    func exists(_ name: String) -> Bool { access(path + "/" + name, F_OK) == 0 }

    private func makeCertificates(_ plan: DevelopmentPlan) throws {
        do {
            _ = try DevelopmentCertificates.make(
                directory: path + "/certificates", cluster: DevelopmentPlan.cluster,
                nodes: plan.nodes.map { MemberID(UInt64($0.id)) })
        } catch {
            throw NodeFailure(.identity, error.description)
        }
    }
}
