// How the C library's allocator treats large blocks, for programs that are a node and nothing else.
// By default it learns from the first large block that is freed to keep blocks of that size, and
// later ones then stay with the process in fragments: after a burst of large commands a node would
// be several times as large as what it holds. With fixed thresholds they go back when freed.
import CEngineShims

package enum AllocatorPolicy {
    /// Blocks from this size on are mappings of their own. That costs a page fault for each 4 KiB,
    /// every time: commands of a few megabytes are common enough to be spared it.
    private static let mappedBytes = 4 << 20
    /// Free memory at the end of an arena that is kept for what comes next.
    private static let keptBytes = 16 << 20

    /// Once, before other threads allocate much. Does nothing where the library has no such choice.
    package static func apply() { martlet_set_allocator_thresholds(mappedBytes, keptBytes) }
}
