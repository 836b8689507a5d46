// FormatAnswer: the row of an ANSWER as a person reads it.
//
//   Refunds are accepted for 30 days after delivery [1].
//
//   [1] policies/refunds.md  bytes 1043-1120 (chars 1041-1118)  "within 30 days of delivery"
//   retrieval 6 ms · first token 180 ms · 61 tokens · prompt 812: 700 reused, 91 recomputed, 21 new
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <string>

#include "query/value.h"

namespace intarsia::client {

// Whether this is the result of an ANSWER: one row with the columns answer and citations.
bool IsAnswer(const query::ResultSet& result);

enum class AnswerText : uint8_t {
  kShow,
  kAlreadyShown,  // It was streamed; what comes next begins on a new line.
};

// `columns_max` of the terminal, 0: as wide as need be. REQUIRES: IsAnswer(result).
std::string FormatAnswer(const query::ResultSet& result, AnswerText text, int64_t columns_max);

}  // namespace intarsia::client
