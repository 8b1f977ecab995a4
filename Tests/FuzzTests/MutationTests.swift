// The short run of every test run: the corpus with a few changes to each input, by seed, so that a
// failure replays. `scripts/fuzz` searches with coverage and goes further.

import Engine
import Foundation
import FuzzTargets
import Testing

@Suite struct MutationTests {
    /// Numbers at which lengths and counts go wrong.
    private static let edges: [UInt8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff]
    private static let rounds = 1000

    @Test(arguments: FuzzTarget.all.map(\.name))
    func changedInputsAreDecodedOrRefused(name: String) throws {
        let target = try #require(FuzzTarget.all.first { $0.name == name })
        let inputs = try FuzzCorpus.inputs(of: name)
        var random = SeededRandom(seed: name.utf8.reduce(UInt64(7)) { $0 &* 31 &+ UInt64($1) })
        for _ in 0..<Self.rounds {
            let bytes = Self.changed(inputs, &random)
            bytes.withUnsafeBytes { target.run($0) }
        }
    }

    /// Any change may be the only one, so that what a decoder checks first does not hide the rest.
    private static func changed(_ inputs: [[UInt8]], _ random: inout SeededRandom) -> [UInt8] {
        var bytes = inputs[random.below(inputs.count)]
        for _ in 0...random.below(3) {
            guard !bytes.isEmpty else { return bytes }
            let at = random.below(bytes.count)
            switch random.below(6) {
            case 0: bytes[at] ^= 1 << random.below(8)
            case 1: bytes[at] = edges[random.below(edges.count)]
            case 2:
                for place in at..<min(bytes.count, at + [2, 4, 8][random.below(3)]) {
                    bytes[place] = edges[random.below(2) == 0 ? 0 : 5]
                }
            case 3: bytes.removeLast(bytes.count - at)
            case 4:
                let other = inputs[random.below(inputs.count)]
                bytes.replaceSubrange(at..., with: other.suffix(random.below(other.count + 1)))
            default:
                let count = random.below(16)
                bytes.insert(
                    contentsOf: (0..<count).map { _ in UInt8(random.below(256)) }, at: at)
            }
        }
        return bytes
    }
}
