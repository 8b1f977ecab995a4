// What the database should hold: every version of every key that the committed log ever made, by
// log index, so that any replica can be asked about any state that it shows.
import Engine

package struct ClusterModel {
    package struct Version {
        var index: LogIndex
        /// Nil for a deletion.
        var value: [UInt8]?
        var expiry: ClockMilliseconds?
    }

    private var versions: [[UInt8]: [Version]] = [:]
    package private(set) var keys: [[UInt8]] = []

    /// What a reader of the state at `index` sees at `now`.
    package func version(_ key: [UInt8], at index: LogIndex) -> Version? {
        guard let all = versions[key] else { return nil }
        var place = all.count - 1
        while place >= 0, all[place].index > index { place -= 1 }
        return place >= 0 ? all[place] : nil
    }

    package func get(_ key: [UInt8], at index: LogIndex, now: ClockMilliseconds) -> [UInt8]? {
        guard let found = version(key, at: index) else { return nil }
        if let expiry = found.expiry, expiry <= now { return nil }
        return found.value
    }

    package func content(
        of span: KeySpan = .everything, at index: LogIndex, now: ClockMilliseconds
    ) -> [(key: [UInt8], value: [UInt8])] {
        keys.compactMap { key in
            guard span.contains(key) else { return nil }
            return get(key, at: index, now: now).map { (key, $0) }
        }
    }

    package mutating func put(_ key: [UInt8], _ version: Version) {
        if versions[key] == nil {
            let place = keys.firstIndex { !$0.isKeyBefore(key) } ?? keys.count
            keys.insert(key, at: place)
        }
        if let last = versions[key]?.last, last.index == version.index {
            versions[key]?.removeLast()
        }
        versions[key, default: []].append(version)
    }

    package mutating func deleteRange(_ start: [UInt8], _ end: [UInt8]?, at index: LogIndex) {
        let span = KeySpan(start: start, end: end)
        for key in keys where span.contains(key) {
            put(key, Version(index: index, value: nil))
        }
    }
}
