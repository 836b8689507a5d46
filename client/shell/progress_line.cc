#include "client/shell/progress_line.h"

#include <algorithm>
#include <utility>

#include "client/shell/terminal_text.h"

namespace intarsia::client {
namespace {

constexpr int64_t kColumnsMin = 20;
constexpr int64_t kBarColumns = 24;

std::string Bar(double share) {
  const auto filled =
      static_cast<size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(kBarColumns));
  return "[" + std::string(filled, '#') + std::string(size_t{kBarColumns} - filled, '-') + "]";
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
  out_ << "\r\x1B[K" << CutToWidth(SafeLine(Format(progress, now)), options_.columns - 1)
       << std::flush;
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

  std::string line(progress.stage);
  if (total > 0) line += "  " + Bar(done / total);
  line += "  " + GroupDigits(progress.done);
  if (progress.total > 0) line += "/" + GroupDigits(progress.total);
  line += " " + std::string(progress.unit);
  if (progress.bytes_done > 0) line += "  " + HumanBytes(static_cast<double>(progress.bytes_done));
  if (elapsed_ms > 0 && done > begin) {
    const double seconds = static_cast<double>(elapsed_ms) / 1000;
    if (progress.bytes_done > stage_begin_bytes_) {
      const auto bytes = static_cast<double>(progress.bytes_done - stage_begin_bytes_);
      line += "  " + HumanBytes(bytes / seconds) + "/s";
    } else {
      const auto count = static_cast<double>(progress.done - stage_begin_done_);
      line += "  " + GroupDigits(static_cast<int64_t>(count / seconds)) + "/s";
    }
  }
  line += "  " + GroupDigits(progress.errors) + (progress.errors == 1 ? " error" : " errors");
  if (elapsed_ms > 0 && done > begin && total > done) {
    const double rest_ms = (total - done) / (done - begin) * static_cast<double>(elapsed_ms);
    line += "  ETA " + HumanDuration(static_cast<int64_t>(std::min(rest_ms, 3.6e9)));
  }
  return line;
}

}  // namespace intarsia::client
