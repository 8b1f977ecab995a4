import Node
import Testing

@Suite struct PrometheusTextTests {
    @Test func familiesWithAndWithoutLabels() {
        let families: [MetricFamily] = [
            .counter("martlet_reads_total", 12, help: "Reads."),
            MetricFamily(
                "martlet_level_bytes", .gauge, help: "Bytes\nby level \\.",
                samples: [
                    .init(0.5, [.init("level", "0"), .init("path", "a\"b\\c\n")]),
                    .init(.infinity, [.init("level", "1")]),
                ]),
        ]
        #expect(
            String(decoding: PrometheusText.render(families), as: UTF8.self) == """
                # HELP martlet_reads_total Reads.
                # TYPE martlet_reads_total counter
                martlet_reads_total 12
                # HELP martlet_level_bytes Bytes\\nby level \\\\.
                # TYPE martlet_level_bytes gauge
                martlet_level_bytes{level="0",path="a\\"b\\\\c\\n"} 0.5
                martlet_level_bytes{level="1"} +Inf

                """)
    }

    @Test func statusFamiliesHaveOneActiveRole() throws {
        let families = PrometheusText.families(of: FakeAdminSource.status)
        let role = try #require(families.first { $0.name == "martlet_raft_role" })
        #expect(role.samples.map(\.value).reduce(0, +) == 1)
        #expect(Set(families.map(\.name)).count == families.count)
    }
}
