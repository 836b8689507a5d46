#include "client/shell/progress_line.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "client/shell/terminal_text.h"

namespace intarsia::client {
namespace {

constexpr int64_t kColumnsMin = 20;
constexpr int64_t kBarColumnsMin = 4;  // Fewer say nothing.
constexpr int64_t kBarColumnsMax = 24;

std::string Bar(double share, int64_t columns) {
  const auto filled =
      static_cast<int64_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(columns));
  return "[" + std::string(static_cast<size_t>(filled), '#') +
         std::string(static_cast<size_t>(columns - filled), '-') + "]";
}

// A part of the line. Those that matter least give way first where the terminal is narrow.
struct Part {
  std::string text;
  int rank = 0;  // of giving way; 0: never
};

std::string Join(std::vector<Part> parts, int64_t columns) {
  const auto join = [&parts] {
    std::string line;
    for (const Part& part : parts) line += part.text;
    return line;
  };
  for (int rank = 1; rank <= 3 && DisplayWidth(join()) > columns; ++rank) {
    std::erase_if(parts, [rank](const Part& part) { return part.rank == rank; });
  }
  return join();
}

}  // namespace

ProgressLine::ProgressLine(std::ostream* out, ProgressLineOptions options)
    : out_(*out), options_(std::move(options)), begin_ms_(options_.now_ms()) {}

void ProgressLine::Report(const engine::Progress& progress) {
  if (options_.columns < kColumnsMin) return;
  const int64_t now = options_.now_ms();
  if (stage_ != progress.stage) {
    stage_ = progress.stage;
    stage_begin_ms_ = now;
    stage_begin_done_ = progress.done;
    stage_begin_bytes_ = progress.bytes_done;
  }
  if (now - begin_ms_ < options_.delay_ms) return;
  if (shown_ms_ >= 0 && now - shown_ms_ < options_.interval_ms) return;
  shown_ms_ = now;
  is_visible_ = true;
  // One column is left free: a full line makes some terminals scroll.
  out_ << "\r\x1B[K" << CutToWidth(Format(progress, now), options_.columns - 1) << std::flush;
}

void ProgressLine::Clear() {
  if (!is_visible_) return;
  is_visible_ = false;
  out_ << "\r\x1B[K" << std::flush;
}

std::string ProgressLine::Format(const engine::Progress& progress, int64_t now_ms) const {
  const int64_t elapsed_ms = now_ms - stage_begin_ms_;
  const bool counts_bytes = progress.bytes_total > 0;
  const auto done = static_cast<double>(counts_bytes ? progress.bytes_done : progress.done);
  const auto total = static_cast<double>(counts_bytes ? progress.bytes_total : progress.total);
  const double begin = static_cast<double>(counts_bytes ? stage_begin_bytes_ : stage_begin_done_);

  const int64_t columns = options_.columns - 1;
  std::vector<Part> parts;
  std::string count = "  " + GroupDigits(progress.done);
  if (progress.total > 0) count += "/" + GroupDigits(progress.total);
  parts.push_back({SafeLine(count + " " + std::string(progress.unit))});
  if (progress.bytes_done > 0) {
    parts.push_back({"  " + HumanBytes(static_cast<double>(progress.bytes_done)), 1});
  }
  if (elapsed_ms > 0 && done > begin) {
    const double seconds = static_cast<double>(elapsed_ms) / 1000;
    if (progress.bytes_done > stage_begin_bytes_) {
      const auto bytes = static_cast<double>(progress.bytes_done - stage_begin_bytes_);
      parts.push_back({"  " + HumanBytes(bytes / seconds) + "/s", 2});
    } else {
      const auto rate = static_cast<double>(progress.done - stage_begin_done_) / seconds;
      parts.push_back({"  " + GroupDigits(static_cast<int64_t>(rate)) + "/s", 2});
    }
  }
  parts.push_back(
      {"  " + GroupDigits(progress.errors) + (progress.errors == 1 ? " error" : " errors"),
       progress.errors == 0 ? 3 : 0});
  if (elapsed_ms > 0 && done > begin && total > done) {
    const double rest_ms = (total - done) / (done - begin) * static_cast<double>(elapsed_ms);
    parts.push_back({"  ETA " + HumanDuration(static_cast<int64_t>(std::min(rest_ms, 3.6e9)))});
  }
  const std::string stage = SafeLine(progress.stage);
  const std::string rest = Join(std::move(parts), columns - DisplayWidth(stage));
  // Two blanks and two brackets.
  const int64_t bar =
      std::min(kBarColumnsMax, columns - 4 - DisplayWidth(stage) - DisplayWidth(rest));
  if (total <= 0 || bar < kBarColumnsMin) return stage + rest;
  return stage + "  " + Bar(done / total, bar) + rest;
}

}  // namespace intarsia::client
