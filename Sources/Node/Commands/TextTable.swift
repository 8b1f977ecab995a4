// Columns for people: left-aligned text, right-aligned numbers, two spaces between.

package struct TextTable {
    private let headings: [String]
    private let numeric: Set<Int>
    private var rows: [[String]] = []

    /// Headings that begin with ">" are of right-aligned columns.
    package init(_ headings: [String]) {
        self.headings = headings.map { $0.hasPrefix(">") ? String($0.dropFirst()) : $0 }
        numeric = Set(headings.indices.filter { headings[$0].hasPrefix(">") })
    }

    package mutating func add(_ row: [String]) { rows.append(row) }

    package var text: String {
        let lines = [headings] + rows
        let widths = headings.indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
        return lines.map { line in
            var cells = ""
            for (column, cell) in line.enumerated() {
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                let isLast = column == line.count - 1
                cells += numeric.contains(column) ? padding + cell : cell + (isLast ? "" : padding)
                cells += isLast ? "" : "  "
            }
            return cells
        }.joined(separator: "\n")
    }
}
