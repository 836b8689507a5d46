// SealRecord and OpenRecord: the envelope around every value of ours in RocksDB.
//
// A value is a version byte, the body and a checksum of both, folded with a checksum of the key, so
// that a flipped bit is noticed and so is a value that stands under another key.
//
// Thread safety: all functions may be called concurrently.
// Format: docs/formats/catalog.md
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace intarsia::storage {

inline constexpr uint8_t kRecordVersion = 1;

std::string SealRecord(std::string_view key, std::string_view body);

// The body, a view into `value`. `family` and `key` name the record in errors.
// Errors: kCorruption if the checksum does not fit, kUnsupported for another version.
Result<std::string_view> OpenRecord(std::string_view family, std::string_view key,
                                    std::string_view value);

// "documents:64000000000000002a": how errors name a record.
std::string RecordName(std::string_view family, std::string_view key);

}  // namespace intarsia::storage
