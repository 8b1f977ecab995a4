// What a scan is about, told to the sources below it: they may leave out the rest where that saves
// reading blocks. It promises nothing: who must not see other versions checks each. A cursor with a
// scope may end inside its table, at either side of the span, so who turns around seeks first.
//
// The keys are borrowed, for a scan makes several cursors and counts no references for them: they
// stay where they are until the last cursor that was given the scope is gone.

package struct ScanScope {
    /// Versions above it may be left out.
    let visible: SequenceNumber
    /// Versions of keys before it may be left out.
    let start: UnsafeRawBufferPointer
    /// Versions of this key and of those behind it may be left out; nil if there is no such key.
    let end: UnsafeRawBufferPointer?

    package init(
        visible: SequenceNumber, start: UnsafeRawBufferPointer, end: UnsafeRawBufferPointer?
    ) {
        self.visible = visible
        self.start = start
        self.end = end
    }

    package static var everything: ScanScope {
        ScanScope(
            visible: .max, start: UnsafeRawBufferPointer(start: nil, count: 0), end: nil)
    }
}
