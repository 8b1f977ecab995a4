// What a scan is about, told to the sources below it: they may leave out the rest where that saves
// reading blocks. It promises nothing: who must not see other versions checks each.

package struct ScanScope: Sendable {
    /// Versions above it may be left out.
    package var visible: SequenceNumber
    /// Versions of keys outside it may be left out.
    package var span: KeySpan

    package init(visible: SequenceNumber, span: KeySpan) {
        self.visible = visible
        self.span = span
    }

    package static let everything = ScanScope(visible: .max, span: .everything)
}
