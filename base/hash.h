// Checksum and Digest: XXH3-128 to detect damage, SHA-256 to name things.
//
// A checksum guards bytes against disks and bugs; it is fast and not secure. A digest is an
// identity: two different inputs never share one, also where somebody tries to make them.
//
// Thread safety: functions may be called concurrently; a DigestBuilder is owned by one thread.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace intarsia {

struct Checksum {
  uint64_t low = 0;
  uint64_t high = 0;
  // NOLINTNEXTLINE(modernize-use-nullptr): the check takes the compiler's own 0 for one of ours.
  auto operator<=>(const Checksum&) const = default;

  // 32 hexadecimal digits.
  std::string ToHex() const;
};

// XXH3-128 with seed 0 of `bytes`.
Checksum ChecksumOf(std::string_view bytes);

struct Digest {
  std::array<uint8_t, 32> bytes{};
  // NOLINTNEXTLINE(modernize-use-nullptr): the check takes the compiler's own 0 for one of ours.
  auto operator<=>(const Digest&) const = default;

  // 64 hexadecimal digits.
  std::string ToHex() const;
  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  // Errors: kInvalidArgument unless `raw` has 32 bytes.
  static Result<Digest> FromBytes(std::string_view raw);
};

// For hash tables by digest, whose bytes are as good as random already.
struct DigestHash {
  size_t operator()(const Digest& digest) const {
    size_t hash = 0;
    std::memcpy(&hash, digest.bytes.data(), sizeof(hash));
    return hash;
  }
};

// Builds a Digest over fields. Each is prefixed by its length, so that ("ab", "c") and ("a", "bc")
// differ.
class DigestBuilder {
 public:
  DigestBuilder();
  ~DigestBuilder();
  DigestBuilder(const DigestBuilder&) = delete;
  DigestBuilder& operator=(const DigestBuilder&) = delete;

  DigestBuilder& Add(std::string_view field);
  DigestBuilder& Add(int64_t field);

  // The digest of the fields so far. Call it once, last.
  Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The digest of one field.
Digest DigestOf(std::string_view bytes);

}  // namespace intarsia
