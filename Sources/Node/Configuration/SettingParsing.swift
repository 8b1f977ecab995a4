// Texts to values and back: sizes with binary units, durations with a unit, booleans, addresses.
// Every refusal says what was given and what is allowed.
import Engine

package enum SettingParsing {
    private static let sizeUnits: [(suffix: String, bytes: UInt64)] = [
        ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1),
    ]
    private static let durationUnits: [(suffix: String, milliseconds: UInt64)] = [
        ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
    ]

    /// "64MiB", "4096", "4096B".
    package static func size(_ text: String, _ range: ClosedRange<UInt64>) throws(SettingProblem)
        -> UInt64
    {
        let allowed = "\(format(size: range.lowerBound)) to \(format(size: range.upperBound))"
        let (number, unit) = split(text)
        let factor: UInt64? =
            unit.isEmpty
            ? 1 : sizeUnits.first { $0.suffix.lowercased() == unit.lowercased() }?.bytes
        guard let factor else {
            let hint =
                ["KB", "MB", "GB", "TB", "K", "M", "G", "T"].contains(unit.uppercased())
                ? "; write \(unit.uppercased().prefix(1))iB" : ""
            throw SettingProblem("\"\(text)\" is not a size such as 64MiB\(hint)")
        }
        guard let value = UInt64(number) else {
            throw SettingProblem("\"\(text)\" is not a size such as 64MiB; allowed is \(allowed)")
        }
        let (bytes, overflow) = value.multipliedReportingOverflow(by: factor)
        guard !overflow, range.contains(bytes) else {
            throw SettingProblem("\(text) is out of range; allowed is \(allowed)")
        }
        return bytes
    }

    /// "300ms", "5s", "10m", "1h", "7d"; in milliseconds.
    package static func duration(_ text: String, _ range: ClosedRange<UInt64>)
        throws(SettingProblem) -> UInt64
    {
        let allowed =
            "\(format(milliseconds: range.lowerBound)) to \(format(milliseconds: range.upperBound))"
        let (number, unit) = split(text)
        guard let value = UInt64(number),
            let factor = durationUnits.first(where: { $0.suffix == unit })?.milliseconds
                ?? (value == 0 && unit.isEmpty ? 1 : nil)
        else {
            throw SettingProblem(
                "\"\(text)\" is not a duration such as 300ms or 5s; allowed is \(allowed)")
        }
        let (milliseconds, overflow) = value.multipliedReportingOverflow(by: factor)
        guard !overflow, range.contains(milliseconds) else {
            throw SettingProblem("\(text) is out of range; allowed is \(allowed)")
        }
        return milliseconds
    }

    package static func integer(_ text: String, _ range: ClosedRange<Int>) throws(SettingProblem)
        -> Int
    {
        let allowed = "\(range.lowerBound) to \(range.upperBound)"
        guard let value = Int(text) else {
            throw SettingProblem("\"\(text)\" is not a whole number; allowed is \(allowed)")
        }
        guard range.contains(value) else {
            throw SettingProblem("\(value) is out of range; allowed is \(allowed)")
        }
        return value
    }

    package static func flag(_ text: String) throws(SettingProblem) -> Bool {
        switch text.lowercased() {
        case "true", "on", "yes": return true
        case "false", "off", "no": return false
        default: throw SettingProblem("\"\(text)\" is neither true nor false")
        }
    }

    package static func choice<Value: CaseIterable & RawRepresentable<String>>(
        _ text: String, _ type: Value.Type
    ) throws(SettingProblem) -> Value {
        if let value = Value(rawValue: text) { return value }
        let allowed = Value.allCases.map(\.rawValue).joined(separator: ", ")
        throw SettingProblem("\"\(text)\" is not one of \(allowed)")
    }

    /// Letters, digits, dashes; it becomes part of a URI.
    package static func name(_ text: String) throws(SettingProblem) -> String {
        let isFine = text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"):
                return true
            default: return false
            }
        }
        guard isFine, (1...63).contains(text.utf8.count) else {
            throw SettingProblem(
                "\"\(text)\" is not a name: 1 to 63 lower-case letters, digits and dashes")
        }
        return text
    }

    /// A name or an address; which of them exists is the resolver's business.
    package static func isHost(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { $0 > 0x20 && $0 != UInt8(ascii: "/") }
    }

    /// host:port, the host a name, an IPv4 address or an IPv6 address in brackets.
    package static func address(_ text: String) throws(SettingProblem) -> (host: String, port: Int)
    {
        guard let colon = text.lastIndex(of: ":"), colon != text.startIndex else {
            throw SettingProblem("\"\(text)\" is not host:port")
        }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") {
            throw SettingProblem("\"\(text)\" is not host:port; put an IPv6 address in brackets")
        }
        guard isHost(host) else { throw SettingProblem("\"\(text)\" is not host:port") }
        guard let port = Int(text[text.index(after: colon)...]), (1...65_535).contains(port) else {
            throw SettingProblem("\"\(text)\" has no port from 1 to 65535")
        }
        return (host, port)
    }

    /// "1=host:port/host:port,2=…": id, peer address, client address.
    package static func members(_ text: String) throws(SettingProblem)
        -> [NodeConfiguration.ConfiguredMember]
    {
        var members: [NodeConfiguration.ConfiguredMember] = []
        if text.isEmpty { return members }
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let sides = part.split(separator: "=", maxSplits: 1)
            let addresses = sides.count == 2 ? sides[1].split(separator: "/") : []
            guard addresses.count == 2 else {
                throw SettingProblem(
                    "\"\(part)\" is no member; write id=peer host:port/client host:port")
            }
            guard let id = UInt64(sides[0]), id > 0 else {
                throw SettingProblem("member id \"\(sides[0])\" is not a whole number above 0")
            }
            let (peer, client) = (String(addresses[0]), String(addresses[1]))
            _ = try address(peer)
            _ = try address(client)
            members.append(.init(id: MemberID(id), peer: peer, client: client))
        }
        return members
    }

    package static func format(size: UInt64) -> String {
        for (suffix, bytes) in sizeUnits where size >= bytes && size % bytes == 0 && bytes > 1 {
            return "\(size / bytes)\(suffix)"
        }
        return String(size)
    }

    package static func format(milliseconds: UInt64) -> String {
        for (suffix, unit) in durationUnits.reversed()
        where milliseconds >= unit && milliseconds % unit == 0 {
            return "\(milliseconds / unit)\(suffix)"
        }
        return "0"
    }

    package static func format(members: [NodeConfiguration.ConfiguredMember]) -> String {
        members.map { "\($0.id)=\($0.peer)/\($0.client)" }.joined(separator: ",")
    }

    private static func split(_ text: String) -> (number: Substring, unit: Substring) {
        let end = text.firstIndex { !("0"..."9").contains($0) } ?? text.endIndex
        return (text[..<end], text[end...])
    }
}
