#include "storage/record.h"

#include "base/bytes.h"
#include "base/hash.h"

namespace intarsia::storage {
namespace {

constexpr int64_t kChecksumBytes = 16;

Checksum Fold(std::string_view key, std::string_view sealed) {
  const Checksum of_key = ChecksumOf(key);
  const Checksum of_value = ChecksumOf(sealed);
  return {.low = of_key.low ^ of_value.low, .high = of_key.high ^ of_value.high};
}

}  // namespace

std::string SealRecord(std::string_view key, std::string_view body) {
  std::string sealed;
  sealed.reserve(1 + body.size() + kChecksumBytes);
  sealed.push_back(static_cast<char>(kRecordVersion));
  sealed.append(body);
  const Checksum checksum = Fold(key, sealed);
  ByteWriter tail;
  tail.Write(checksum.low);
  tail.Write(checksum.high);
  sealed.append(tail.bytes());
  return sealed;
}

Result<std::string_view> OpenRecord(std::string_view family, std::string_view key,
                                    std::string_view value) {
  if (static_cast<int64_t>(value.size()) < 1 + kChecksumBytes) {
    return Status(StatusCode::kCorruption, "record is too short: " + RecordName(family, key) +
                                               " size=" + std::to_string(value.size()));
  }
  const std::string_view sealed = value.substr(0, value.size() - kChecksumBytes);
  ByteReader tail(value.substr(sealed.size()));
  const auto low = tail.Read<uint64_t>();
  const auto high = tail.Read<uint64_t>();
  const Checksum want{.low = low, .high = high};
  if (const Checksum got = Fold(key, sealed); got != want) {
    return Status(StatusCode::kCorruption, "record checksum mismatch: " + RecordName(family, key) +
                                               " want=" + want.ToHex() + " got=" + got.ToHex());
  }
  if (const auto version = static_cast<uint8_t>(sealed[0]); version != kRecordVersion) {
    return Status(StatusCode::kUnsupported,
                  "record is of another version: " + RecordName(family, key) + " version=" +
                      std::to_string(version) + " known=" + std::to_string(kRecordVersion));
  }
  return sealed.substr(1);
}

std::string RecordName(std::string_view family, std::string_view key) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string name(family);
  name += ':';
  for (const char byte : key) {
    name += kDigits[static_cast<uint8_t>(byte) >> 4];
    name += kDigits[static_cast<uint8_t>(byte) & 15];
  }
  return name;
}

}  // namespace intarsia::storage
