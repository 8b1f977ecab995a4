// How much the simulations do. A debug run is short; the script sets `TEST_SCALE=full` for the
// release build; a hunt sets MARTLET_SEEDS ("7" or "1-500") and MARTLET_ROUNDS by hand.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

enum SimulationScale {
    static let isFull = variable("TEST_SCALE") == "full"

    static let seeds: [UInt64] = {
        let parts = variable("MARTLET_SEEDS")?.split(separator: "-").compactMap { UInt64($0) } ?? []
        guard let first = parts.first, let last = parts.last, first <= last else {
            return Array(1...8)
        }
        return Array(first...last)
    }()

    /// Rounds of power cuts.
    static func rounds(debug: Int, full: Int) -> Int {
        variable("MARTLET_ROUNDS").flatMap { Int($0) } ?? (isFull ? full : debug)
    }

    private static func variable(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }
    }
}
