// swift-tools-version: 6.2
import PackageDescription

// CI sets it: a warning in our own targets fails the build there.
let strict: [SwiftSetting] =
    Context.environment["STRICT_WARNINGS"] == nil ? [] : [.treatAllWarnings(as: .error)]

let settings: [SwiftSetting] =
    [
        .enableUpcomingFeature("ExistentialAny"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableExperimentalFeature("Lifetimes"),
    ] + strict

let package = Package(
    name: "martlet",
    products: [
        .library(name: "Engine", targets: ["Engine"]),
        .executable(name: "martlet", targets: ["martlet"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-configuration", from: "1.4.0", traits: []),
        .package(url: "https://github.com/jpsim/Yams", from: "6.0.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        .systemLibrary(
            name: "CLZ4", pkgConfig: "liblz4", providers: [.apt(["liblz4-dev"])]),
        .systemLibrary(
            name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(
            name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(
            name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
        .target(
            name: "CEngineShims", dependencies: ["CXXHash"],
            cSettings: [.define("_GNU_SOURCE")]),
        .target(
            name: "Engine", dependencies: ["CCrypto", "CEngineShims", "CLZ4", "CZstd"],
            swiftSettings: settings),
        .target(
            name: "Replication",
            dependencies: [
                "Engine",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOEmbedded", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),
        .target(
            name: "Cluster",
            dependencies: [
                "Engine", "Replication",
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),
        .target(
            name: "Node",
            dependencies: [
                "Engine", "Replication", "Cluster",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Configuration", package: "swift-configuration"),
                .product(name: "Yams", package: "Yams"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),
        .executableTarget(name: "martlet", dependencies: ["Node"], swiftSettings: settings),
        .testTarget(
            name: "EngineTests", dependencies: ["Engine", "CEngineShims"], swiftSettings: settings),
        .target(
            name: "FuzzTargets", dependencies: ["Engine", "Replication"],
            path: "Tests/Fuzz/Targets", swiftSettings: settings),
        .testTarget(
            name: "FuzzTests", dependencies: ["FuzzTargets", "Engine"], swiftSettings: settings),
        .target(
            name: "Simulation", dependencies: ["Replication", "Engine"],
            path: "Tests/Simulation", exclude: ["Driver"], swiftSettings: settings),
        .executableTarget(
            name: "martlet-sim", dependencies: ["Simulation"], path: "Tests/Simulation/Driver",
            swiftSettings: settings),
        .testTarget(
            name: "ReplicationTests",
            dependencies: [
                "Replication", "Engine", "Cluster", "Simulation",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),
        .testTarget(
            name: "ClusterTests", dependencies: ["Cluster", "Replication", "Engine"],
            swiftSettings: settings),
        .testTarget(
            name: "NodeTests",
            dependencies: [
                "Node", "Engine", "Replication", "Cluster",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ], swiftSettings: settings),
    ]
)

// scripts/fuzz sets it: an executable whose `main` is libFuzzer's, so it links in no other build.
if Context.environment["FUZZING"] != nil {
    package.targets.append(
        .executableTarget(
            name: "fuzz", dependencies: ["FuzzTargets"], path: "Tests/Fuzz/Driver",
            swiftSettings: settings))
}

// Scripts that test build parts of it, which need no package: those for TLS and HTTP are two thirds
// of a build.
let parts = [
    "engine": ["Engine", "EngineTests", "Replication", "FuzzTargets", "FuzzTests", "fuzz"],
    // What runs at full scale with optimization: databases and clusters on one thread.
    "simulation": [
        "Engine", "EngineTests", "Replication", "ReplicationTests", "Simulation", "martlet-sim",
    ],
]
if let name = Context.environment["TEST_BUILD"], let part = parts[name] {
    let shims = ["CCrypto", "CEngineShims", "CLZ4", "CXXHash", "CZstd"]
    package.targets.removeAll { !(shims + part).contains($0.name) }
    package.products.removeAll { $0.name != "Engine" }
    package.dependencies = []
    for target in package.targets where target.name == "Replication" {
        target.dependencies = ["Engine"]
        // Threads and sockets.
        target.exclude = [
            "Repair/PeerRepairSource.swift", "Replica/PeerFetches.swift",
            "Replica/ReplicaRuntime.swift", "Transport",
        ]
    }
    if name == "simulation" {
        let sources = [
            "EngineTests": [
                "Compaction/TableBed.swift", "Database", "Environment/EncryptionFixtures.swift",
                "Environment/TemporaryDirectory.swift", "Iteration/CursorSupport.swift",
                "Iteration/MergeReference.swift", "Log/LogRig.swift",
                "Manifest/InterruptedFileSystem.swift", "Manifest/ManifestFixtures.swift",
                "Manifest/SimulatedTables.swift", "Table/TableFixtures.swift",
            ],
            "ReplicationTests": ["Cluster", "Consensus", "Protocol/SampleMessages.swift"],
        ]
        for target in package.targets {
            target.sources = sources[target.name] ?? target.sources
            if target.name == "ReplicationTests" {
                target.dependencies = ["Engine", "Replication", "Simulation"]
            }
        }
    }
}
