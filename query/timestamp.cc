#include <array>
#include <chrono>
#include <cstdio>
#include <string>

#include "query/value.h"

namespace intarsia::query {
namespace {

constexpr int64_t kMicrosPerSecond = 1'000'000;
// 0001-01-01T00:00:00Z and the last microsecond of 9999-12-31.
constexpr int64_t kFirst = -62'135'596'800 * kMicrosPerSecond;
constexpr int64_t kLast = 253'402'300'800 * kMicrosPerSecond - 1;

// Reads fixed-width fields from the front of a text; one that does not fit fails for good.
class FieldReader {
 public:
  explicit FieldReader(std::string_view text) : text_(text) {}

  int64_t ReadDigits(size_t count) {
    int64_t value = 0;
    for (size_t i = 0; i < count; ++i) {
      const char digit = i < text_.size() ? text_[i] : '\0';
      if (digit < '0' || digit > '9') failed_ = true;
      value = value * 10 + (digit - '0');
    }
    if (failed_) return 0;
    text_.remove_prefix(count);
    return value;
  }

  bool Accept(char wanted) {
    if (failed_ || text_.empty() || text_.front() != wanted) return false;
    text_.remove_prefix(1);
    return true;
  }

  void Expect(char wanted) {
    if (!Accept(wanted)) failed_ = true;
  }

  // One to six digits as a fraction of a second, in microseconds.
  int64_t ReadFraction() {
    int64_t micros = 0;
    int64_t num_digits = 0;
    while (!text_.empty() && text_.front() >= '0' && text_.front() <= '9') {
      micros = micros * 10 + (text_.front() - '0');
      text_.remove_prefix(1);
      if (++num_digits > 6) failed_ = true;
      if (failed_) return 0;
    }
    if (num_digits == 0) failed_ = true;
    for (; num_digits < 6; ++num_digits) micros *= 10;
    return micros;
  }

  void Fail() { failed_ = true; }
  bool failed() const { return failed_; }
  bool at_end() const { return text_.empty(); }

 private:
  std::string_view text_;
  bool failed_ = false;
};

// The time of day in microseconds, zero if there is none.
int64_t ReadTimeOfDay(FieldReader* reader) {
  const int64_t hour = reader->ReadDigits(2);
  reader->Expect(':');
  const int64_t minute = reader->ReadDigits(2);
  int64_t second = 0;
  int64_t micros = 0;
  if (reader->Accept(':')) {
    second = reader->ReadDigits(2);
    if (reader->Accept('.')) micros = reader->ReadFraction();
  }
  if (hour > 23 || minute > 59 || second > 59) reader->Fail();
  return ((hour * 60 + minute) * 60 + second) * kMicrosPerSecond + micros;
}

// What the zone adds to UTC, in microseconds.
int64_t ReadZone(FieldReader* reader) {
  if (reader->Accept('Z') || reader->at_end()) return 0;
  const bool is_west = reader->Accept('-');
  if (!is_west) reader->Expect('+');
  const int64_t hours = reader->ReadDigits(2);
  if (!reader->at_end()) reader->Accept(':');
  const int64_t minutes = reader->at_end() ? 0 : reader->ReadDigits(2);
  if (hours > 18 || minutes > 59) reader->Fail();
  const int64_t offset = (hours * 60 + minutes) * 60 * kMicrosPerSecond;
  return is_west ? -offset : offset;
}

}  // namespace

Result<Timestamp> ParseTimestamp(std::string_view text) {
  FieldReader reader(text);
  const auto year = static_cast<int>(reader.ReadDigits(4));
  reader.Expect('-');
  const auto month = static_cast<unsigned>(reader.ReadDigits(2));
  reader.Expect('-');
  const auto day = static_cast<unsigned>(reader.ReadDigits(2));
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month),
                                         std::chrono::day(day)};
  int64_t micros = 0;
  if (!reader.failed() && !reader.at_end()) {
    if (!reader.Accept('T')) reader.Expect(' ');
    micros = ReadTimeOfDay(&reader) - ReadZone(&reader);
  }
  if (!reader.failed() && date.ok()) {
    const int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
    micros += days * 86'400 * kMicrosPerSecond;
  }
  if (reader.failed() || !reader.at_end() || !date.ok() || micros < kFirst || micros > kLast) {
    return Status(StatusCode::kInvalidArgument,
                  "not a timestamp (want YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ): " +
                      std::string(text.substr(0, 64)));
  }
  return Timestamp{micros};
}

std::string FormatTimestamp(Timestamp timestamp) {
  const std::chrono::sys_time<std::chrono::microseconds> time{
      std::chrono::microseconds(timestamp.micros)};
  const auto days = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date{days};
  const std::chrono::hh_mm_ss clock{time - days};
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%04d-%02u-%02uT%02d:%02d:%02d",
                static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()), static_cast<int>(clock.hours().count()),
                static_cast<int>(clock.minutes().count()),
                static_cast<int>(clock.seconds().count()));
  std::string text = buffer.data();
  if (const int64_t fraction = clock.subseconds().count(); fraction != 0) {
    std::snprintf(buffer.data(), buffer.size(), ".%06d", static_cast<int>(fraction));
    text += buffer.data();
    text.erase(text.find_last_not_of('0') + 1);
  }
  return text + "Z";
}

}  // namespace intarsia::query
