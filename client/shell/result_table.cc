#include "client/shell/result_table.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <numeric>
#include <span>
#include <vector>

#include "base/utf8.h"
#include "client/shell/terminal_text.h"

namespace intarsia::client {
namespace {

using query::ResultSet;
using query::Row;
using query::Value;
using query::ValueKind;

constexpr int64_t kColumnWidthMin = 4;
// A cell wider than this in a table of several columns is wrapped also where no terminal sets a
// width.
constexpr int64_t kColumnWidthMax = 120;

// A cell as it is read: numbers in six digits, which is more than a person compares.
std::string CellText(const Value& value, const FormatOptions& options) {
  if (value.kind() != ValueKind::kDouble) return ToText(value, options.null_text);
  std::array<char, 40> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.6g", value.AsDouble());
  return buffer.data();
}

// A column's alignment: numbers to the right, if there is nothing else in it.
std::vector<Alignment> AlignmentsOf(const ResultSet& result) {
  std::vector<Alignment> alignments(result.columns.size(), Alignment::kLeft);
  for (size_t i = 0; i < alignments.size(); ++i) {
    bool has_number = false;
    bool has_other = false;
    for (const Row& row : result.rows) {
      const ValueKind kind = row[i].kind();
      if (kind == ValueKind::kInteger || kind == ValueKind::kDouble) {
        has_number = true;
      } else if (kind != ValueKind::kNull) {
        has_other = true;
      }
    }
    if (has_number && !has_other) alignments[i] = Alignment::kRight;
  }
  return alignments;
}

// A frame of four corners around rows and columns.
std::string Border(const std::vector<int64_t>& widths, std::string_view left,
                   std::string_view middle, std::string_view right) {
  std::string line(left);
  for (size_t i = 0; i < widths.size(); ++i) {
    if (i > 0) line += middle;
    for (int64_t dash = 0; dash < widths[i] + 2; ++dash) line += "─";
  }
  return line + std::string(right) + "\n";
}

// The columns that a text takes if it is not wrapped.
int64_t NaturalWidth(std::string_view text) {
  int64_t width = 0;
  while (true) {
    const size_t newline = text.find('\n');
    width = std::max(width, DisplayWidth(SafeLine(text.substr(0, newline))));
    if (newline == std::string_view::npos) return width;
    text.remove_prefix(newline + 1);
  }
}

// Takes columns from the widest until all fit into `available`, and from none below its floor,
// which is at most its width. The floors fit together.
void ShrinkWidths(int64_t available, const std::vector<int64_t>& floors,
                  std::vector<int64_t>* widths) {
  const auto capped = [&](size_t i, int64_t cap) {
    return std::max(floors[i], std::min((*widths)[i], cap));
  };
  const auto total = [&](int64_t cap) {
    int64_t sum = 0;
    for (size_t i = 0; i < widths->size(); ++i) sum += capped(i, cap);
    return sum;
  };
  int64_t low = 0;
  int64_t high = *std::max_element(widths->begin(), widths->end());
  while (low < high) {
    const int64_t cap = (low + high + 1) / 2;
    if (total(cap) <= available) {
      low = cap;
    } else {
      high = cap - 1;
    }
  }
  int64_t spare = available - total(low);
  for (size_t i = 0; i < widths->size(); ++i) {
    const bool is_cut = (*widths)[i] > low && floors[i] <= low;
    (*widths)[i] = capped(i, low) + (is_cut && spare > 0 ? 1 : 0);  // The remainder, a column each.
    if (is_cut) --spare;
  }
}

class BoxWriter {
 public:
  BoxWriter(const ResultSet& result, const FormatOptions& options)
      : result_(result),
        options_(options),
        alignments_(AlignmentsOf(result)),
        num_rows_(static_cast<int64_t>(result.rows.size())) {
    if (options.rows_max > 0) num_rows_ = std::min(num_rows_, options.rows_max);
    const bool stands_alone = result.columns.size() == 1;
    if (!stands_alone && options.cell_lines_max > 0) cell_lines_max_ = options.cell_lines_max;
    MeasureColumns(stands_alone ? INT64_MAX : kColumnWidthMax);
  }

  // Whether the table fits into columns_max with every heading on one line.
  bool FitWidth() {
    if (options_.columns_max <= 0) return true;
    const auto num_columns = static_cast<int64_t>(widths_.size());
    const int64_t available = options_.columns_max - 3 * num_columns - 1;
    std::vector<int64_t> floors;
    for (size_t i = 0; i < widths_.size(); ++i) {
      const int64_t heading = NaturalWidth(result_.columns[i].name);
      floors.push_back(std::min(widths_[i], std::max(heading, kColumnWidthMin)));
    }
    if (std::accumulate(floors.begin(), floors.end(), int64_t{0}) > available) return false;
    ShrinkWidths(available, floors, &widths_);
    return true;
  }

  std::string Write() const {
    std::string text = Border(widths_, "┌", "┬", "┐");
    std::vector<std::string> names;
    for (const query::ResultColumn& column : result_.columns) names.push_back(column.name);
    AppendRow(names, &text);
    text += Border(widths_, "├", "┼", "┤");
    for (int64_t i = 0; i < num_rows_; ++i) {
      std::vector<std::string> cells;
      for (const Value& value : result_.rows[static_cast<size_t>(i)]) cells.push_back(Cell(value));
      AppendRow(cells, &text);
    }
    text += Border(widths_, "└", "┴", "┘");
    const int64_t num_left = static_cast<int64_t>(result_.rows.size()) - num_rows_;
    if (num_left > 0) text += "... " + GroupDigits(num_left) + " more rows\n";
    return text;
  }

 private:
  std::string Cell(const Value& value) const { return CellText(value, options_); }

  void MeasureColumns(int64_t width_max) {
    for (size_t i = 0; i < result_.columns.size(); ++i) {
      int64_t width = NaturalWidth(result_.columns[i].name);
      for (int64_t row = 0; row < num_rows_ && width < width_max; ++row) {
        width = std::max(width, NaturalWidth(Cell(result_.rows[static_cast<size_t>(row)][i])));
      }
      widths_.push_back(std::clamp<int64_t>(width, 1, width_max));
    }
  }

  void AppendRow(const std::vector<std::string>& cells, std::string* text) const {
    std::vector<std::vector<std::string>> wrapped;
    size_t num_lines = 1;
    for (size_t i = 0; i < cells.size(); ++i) {
      wrapped.push_back(WrapToWidth(cells[i], widths_[i], cell_lines_max_));
      num_lines = std::max(num_lines, wrapped.back().size());
    }
    for (size_t line = 0; line < num_lines; ++line) {
      for (size_t i = 0; i < cells.size(); ++i) {
        std::string_view part;
        if (line < wrapped[i].size()) part = wrapped[i][line];
        *text += "│ " + Pad(part, widths_[i], alignments_[i]) + " ";
      }
      *text += "│\n";
    }
  }

  const ResultSet& result_;
  const FormatOptions& options_;
  const std::vector<Alignment> alignments_;
  int64_t num_rows_ = 0;
  int64_t cell_lines_max_ = INT64_MAX;
  std::vector<int64_t> widths_;
};

// A cell of a pipe table: one line, with its own pipes escaped.
std::string MarkdownCell(std::string_view text) {
  std::string cell;
  for (const char c : SafeLine(text)) {
    if (c == '|' || c == '\\') cell += '\\';
    cell += c;
  }
  return cell;
}

}  // namespace

std::string FormatBox(const ResultSet& result, const FormatOptions& options) {
  if (result.columns.empty()) return {};
  BoxWriter writer(result, options);
  return writer.FitWidth() ? writer.Write() : FormatLines(result, options);
}

std::string FormatMarkdown(const ResultSet& result, const FormatOptions& options) {
  if (result.columns.empty()) return {};
  const std::vector<Alignment> alignments = AlignmentsOf(result);
  std::string text = "|";
  for (const query::ResultColumn& column : result.columns) {
    text += " " + MarkdownCell(column.name) + " |";
  }
  text += "\n|";
  for (const Alignment alignment : alignments) {
    text += alignment == Alignment::kRight ? " ---: |" : " --- |";
  }
  text += "\n";
  for (const Row& row : result.rows) {
    text += "|";
    for (const Value& value : row) {
      text += " " + MarkdownCell(CellText(value, options)) + " |";
    }
    text += "\n";
  }
  return text;
}

std::string FormatLines(const ResultSet& result, const FormatOptions& options) {
  int64_t width = 0;
  for (const query::ResultColumn& column : result.columns) {
    width = std::max(width, DisplayWidth(SafeLine(column.name)));
  }
  const std::string indent(static_cast<size_t>(width) + 3, ' ');
  std::string text;
  for (const Row& row : result.rows) {
    if (!text.empty()) text += "\n";
    for (size_t i = 0; i < row.size(); ++i) {
      text += Pad(SafeLine(result.columns[i].name), width, Alignment::kRight) + " = ";
      for (const char c : SafeText(CellText(row[i], options))) {
        text += c;
        if (c == '\n') text += indent;
      }
      text += "\n";
    }
  }
  return text;
}

}  // namespace intarsia::client
