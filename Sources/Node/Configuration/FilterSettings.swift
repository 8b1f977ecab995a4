// The settings of filters, and what they come to as a logged policy. They seed the log's first
// `settings` entry, like everything that shapes bytes.
import Engine

extension NodeConfiguration {
    package enum FilterChoice: String, Sendable, CaseIterable {
        case none
        /// Blocked Bloom: builds fastest.
        case bloom
        /// Bumped ribbon: smallest.
        case burr
    }

    package enum FilterAllocation: String, Sendable, CaseIterable {
        case uniform
        /// Smaller levels get more bits, the deepest pays for them.
        case monkey
    }

    package struct FilterSettings: Sendable, Equatable {
        package var kind = FilterChoice.burr
        /// Bits a key.
        package var bits = 10
        /// One false "maybe" in so many, instead of `bits`; 0: by bits.
        package var oneIn = 0
        package var allocation = FilterAllocation.uniform
        /// The level that `monkey` takes for the one with most keys.
        package var deepestLevel = 4
        /// Bits of single levels.
        package var levels: [LevelFilterBudget] = []
        package var expectsHits = false
        package var partitionAbove: UInt64 = 4 << 20
        package var prefix = PrefixExtractor.none

        package init() {}

        /// `sizeRatio` is how many times larger each level is than the one above it.
        package func policy(sizeRatio: Int) -> FilterPolicy {
            var policy = FilterPolicy(bitsPerKey: UInt32(bits))
            if oneIn > 0 { policy.budget = .falsePositive(oneIn: UInt32(clamping: oneIn)) }
            switch kind {
            case .none: policy.kind = .none
            case .bloom: policy.kind = .bloom
            case .burr: policy.kind = .burr
            }
            if allocation == .monkey {
                policy.allocation = .monkey(
                    sizeRatio: UInt8(clamping: sizeRatio), deepestLevel: UInt8(deepestLevel))
            }
            policy.levels = levels
            policy.expectsHits = expectsHits
            policy.partitionAbove = UInt32(clamping: partitionAbove)
            policy.prefix = prefix
            return policy
        }
    }
}

extension SettingCatalog {
    static let filter: [SettingDefinition] = [
        .choice("table.filter", \.table.filter.kind),
        .integer("table.filter-bits", \.table.filter.bits, 0...64),
        .integer("table.filter-one-in", \.table.filter.oneIn, 0...Int(UInt32.max)),
        .choice("table.filter-allocation", \.table.filter.allocation),
        .integer("table.filter-deepest-level", \.table.filter.deepestLevel, 1...6),
        SettingDefinition(
            key: "table.filter-levels", allowed: "none, or level=bits such as 0=14,1=12",
            apply: { (text, _, configuration) throws(SettingProblem) in
                configuration.table.filter.levels = try SettingParsing.filterLevels(text)
            }, show: { SettingParsing.format(filterLevels: $0.table.filter.levels) }),
        .flag("table.filter-expects-hits", \.table.filter.expectsHits),
        .size("table.filter-partition-above", \.table.filter.partitionAbove, 64...64 << 20),
        SettingDefinition(
            key: "table.filter-prefix", allowed: "none, fixed:8 or delimiter:/:2",
            apply: { (text, _, configuration) throws(SettingProblem) in
                configuration.table.filter.prefix = try SettingParsing.prefixExtractor(text)
            }, show: { SettingParsing.format(prefixExtractor: $0.table.filter.prefix) }),
    ]
}

extension SettingParsing {
    /// "0=14,1=12": level and bits a key; "none".
    package static func filterLevels(_ text: String) throws(SettingProblem) -> [LevelFilterBudget] {
        var levels: [LevelFilterBudget] = []
        if text == "none" { return levels }
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let sides = part.split(separator: "=", maxSplits: 1)
            guard sides.count == 2 else {
                throw SettingProblem("\"\(part)\" is no level with its bits; write 0=14")
            }
            let level = try integer(String(sides[0]), 0...6)
            let bits = try integer(String(sides[1]), 0...64)
            levels.append(
                LevelFilterBudget(level: UInt8(level), budget: .bitsPerKey(UInt32(bits))))
        }
        levels.sort { $0.level < $1.level }
        for (one, next) in zip(levels, levels.dropFirst()) where one.level == next.level {
            throw SettingProblem("level \(one.level) is named twice")
        }
        return levels
    }

    package static func format(filterLevels levels: [LevelFilterBudget]) -> String {
        if levels.isEmpty { return "none" }
        return levels.map { own in
            guard case .bitsPerKey(let bits) = own.budget else { return "\(own.level)=0" }
            return "\(own.level)=\(bits)"
        }.joined(separator: ",")
    }

    /// "none", "fixed:8", "delimiter:/" (through the first), "delimiter:/:2" (through the second).
    package static func prefixExtractor(_ text: String) throws(SettingProblem) -> PrefixExtractor {
        if text == "none" { return .none }
        if let length = text.dropping(prefix: "fixed:") {
            return .fixed(length: UInt8(try integer(length, 1...255)))
        }
        guard let rest = text.dropping(prefix: "delimiter:"), let byte = rest.utf8.first,
            byte < 0x80
        else {
            throw SettingProblem("\"\(text)\" is none of none, fixed:8 and delimiter:/:2")
        }
        let behind = String(rest.dropFirst())
        guard !behind.isEmpty else { return .delimiter(byte: byte, occurrence: 1) }
        guard let count = behind.dropping(prefix: ":") else {
            throw SettingProblem("\"\(text)\" has a delimiter of more than one byte")
        }
        return .delimiter(byte: byte, occurrence: UInt8(try integer(count, 1...255)))
    }

    package static func format(prefixExtractor: PrefixExtractor) -> String {
        switch prefixExtractor {
        case .none: return "none"
        case .fixed(let length): return "fixed:\(length)"
        case .delimiter(let byte, let occurrence):
            return "delimiter:\(Character(UnicodeScalar(byte))):\(occurrence)"
        }
    }
}

extension String {
    fileprivate func dropping(prefix: String) -> String? {
        hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil
    }
}
