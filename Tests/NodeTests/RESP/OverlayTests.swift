import Engine
import Node
import Testing

private func key(_ text: String) -> Overlay.Key { Overlay.Key(bytes(text)) }
private func value(_ text: String, expiry: ClockMilliseconds? = nil) -> Overlay.Value {
    Overlay.Value(bytes: bytes(text)[...], expiry: expiry)
}

extension Overlay {
    /// "value@proposal", "absent@proposal" or nil.
    fileprivate func seen(_ text: String, now: ClockMilliseconds = 0) -> String? {
        switch lookup(key(text), now: now) {
        case .unknown: return nil
        case .absent(let proposal): return "absent@\(proposal)"
        case .live(let value, let proposal):
            return String(decoding: value.bytes, as: UTF8.self) + "@\(proposal)"
        }
    }
}

@Suite struct OverlayTests {
    @Test func newestEffectAnswers() {
        var overlay = Overlay(term: .zero)
        overlay.put(key("a"), value("1"), proposal: 1)
        overlay.put(key("a"), value("2", expiry: 10), proposal: 2)
        #expect(overlay.seen("a", now: 9) == "2@2")
        #expect(overlay.seen("a", now: 10) == "absent@2")
        overlay.deleteRange(KeySpan(start: bytes("a"), end: bytes("b")), proposal: 3)
        #expect(overlay.seen("a") == "absent@3")
        #expect(overlay.seen("ax") == "absent@3")
        #expect(overlay.seen("b") == nil)
        overlay.put(key("a"), value("3"), proposal: 3)
        #expect(overlay.seen("a") == "3@3")
    }

    /// What a range delete costs must not grow with what is in flight.
    @Test func manyRangeDeletesOverManyKeys() {
        var overlay = Overlay(term: .zero)
        for number in 0..<20_000 { overlay.put(key("k\(number)"), value("1"), proposal: 1) }
        let start = ContinuousClock.now
        for number in 0..<5_000 {
            overlay.deleteRange(
                KeySpan(start: bytes("x"), end: bytes("y\(number)")), proposal: 2)
        }
        overlay.deleteRange(KeySpan(start: bytes("k1"), end: bytes("k2")), proposal: 3)
        #expect(ContinuousClock.now - start < .seconds(10))
        #expect(overlay.seen("k17") == "absent@3")
        #expect(overlay.seen("k2") == "1@1")
        overlay.remove(through: 3)
        #expect(overlay.isEmpty)
    }

    @Test func appliedProposalsLeave() {
        var overlay = Overlay(term: .zero)
        overlay.put(key("a"), value("1"), proposal: 1)
        overlay.put(key("b"), value("1"), proposal: 1)
        overlay.delete(key("a"), proposal: 2)
        overlay.remove(through: 1)
        #expect(overlay.seen("b") == nil)
        #expect(overlay.seen("a") == "absent@2")
        overlay.remove(through: 2)
        #expect(overlay.isEmpty)
    }

    @Test func acrossTerms() {
        // Terms 1, 2, 3 of one member: what was in flight in term 1 says nothing in term 3.
        var overlay = Overlay(term: Term(1))
        overlay.put(key("a"), value("1"), proposal: 1)
        overlay.reset(term: Term(3))
        #expect(overlay.term == Term(3))
        #expect(overlay.seen("a") == nil)
        // A late word of the old term's proposal changes nothing of the new term's.
        overlay.put(key("a"), value("3"), proposal: 2)
        overlay.remove(through: 1)
        #expect(overlay.seen("a") == "3@2")
    }

    @Test(arguments: 0..<40 as Range<UInt64>)
    func equalsAListOfEffects(seed: UInt64) {
        // The model keeps every effect of the proposals in flight and looks from the newest back.
        enum Effect {
            case put(String, String, UInt64)
            case delete(String, UInt64)
            case range(KeySpan, UInt64)
            var proposal: UInt64 {
                switch self {
                case .put(_, _, let proposal), .delete(_, let proposal), .range(_, let proposal):
                    return proposal
                }
            }
        }
        var random = SeededGenerator(seed)
        var overlay = Overlay(term: .zero)
        var effects: [Effect] = []
        var proposal: UInt64 = 1
        let keys = ["a", "b", "c", "d", "e", "f"]
        for _ in 0..<400 {
            let name = keys.randomElement(using: &random) ?? ""
            switch Int.random(in: 0..<10, using: &random) {
            case 0...3:
                let text = String(Int.random(in: 0..<100, using: &random))
                overlay.put(key(name), value(text), proposal: proposal)
                effects.append(.put(name, text, proposal))
            case 4...5:
                overlay.delete(key(name), proposal: proposal)
                effects.append(.delete(name, proposal))
            case 6:
                let end = keys.randomElement(using: &random).map(bytes)
                let span =
                    Bool.random(using: &random)
                    ? KeySpan(start: bytes(name), end: end) : .everything
                overlay.deleteRange(span, proposal: proposal)
                effects.append(.range(span, proposal))
            case 7: proposal += 1
            default:
                let applied = UInt64.random(in: 0..<proposal, using: &random)
                overlay.remove(through: applied)
                effects.removeAll { $0.proposal <= applied }
            }
            for name in keys {
                var expected: String?
                for effect in effects {
                    switch effect {
                    case .put(name, let text, let proposal): expected = "\(text)@\(proposal)"
                    case .delete(name, let proposal): expected = "absent@\(proposal)"
                    case .range(let span, let proposal) where span.contains(bytes(name)):
                        expected = "absent@\(proposal)"
                    default: break
                    }
                }
                #expect(overlay.seen(name) == expected)
            }
        }
    }
}
