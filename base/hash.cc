#include "base/hash.h"

#include <cstring>
#include <utility>

#include <openssl/evp.h>
#include <xxhash.h>
#ifdef INTARSIA_XXHASH_DISPATCH
// From here on XXH3_128bits is the form that asks the CPU and then uses AVX2 or AVX-512; the value
// is the same. The library is built for the oldest CPU, where it hashes a third as fast.
#include <xxh_x86dispatch.h>
#endif

#include "base/check.h"

namespace intarsia {
namespace {

std::string Hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    text.push_back(kDigits[static_cast<uint8_t>(byte) >> 4]);
    text.push_back(kDigits[static_cast<uint8_t>(byte) & 15]);
  }
  return text;
}

}  // namespace

std::string Checksum::ToHex() const {
  char raw[16];
  for (int i = 0; i < 8; ++i) {
    raw[i] = static_cast<char>(high >> (56 - 8 * i));
    raw[8 + i] = static_cast<char>(low >> (56 - 8 * i));
  }
  return Hex(std::string_view(raw, sizeof(raw)));
}

Checksum ChecksumOf(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {.low = hash.low64, .high = hash.high64};
}

std::string Digest::ToHex() const { return Hex(view()); }

Result<Digest> Digest::FromBytes(std::string_view raw) {
  Digest digest;
  if (raw.size() != digest.bytes.size()) {
    return Status(StatusCode::kInvalidArgument,
                  "a digest has 32 bytes: size=" + std::to_string(raw.size()));
  }
  std::memcpy(digest.bytes.data(), raw.data(), raw.size());
  return digest;
}

struct DigestBuilder::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() { INTARSIA_CHECK(EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1); }
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

DigestBuilder::DigestBuilder() : state_(std::make_unique<State>()) {}
DigestBuilder::~DigestBuilder() = default;

DigestBuilder& DigestBuilder::Add(std::string_view field) {
  const uint64_t length = field.size();
  INTARSIA_CHECK(EVP_DigestUpdate(state_->context, &length, sizeof(length)) == 1);
  INTARSIA_CHECK(EVP_DigestUpdate(state_->context, field.data(), field.size()) == 1);
  return *this;
}

DigestBuilder& DigestBuilder::Add(int64_t field) {
  char raw[sizeof(field)];
  std::memcpy(raw, &field, sizeof(field));
  return Add(std::string_view(raw, sizeof(raw)));
}

Digest DigestBuilder::Finish() {
  Digest digest;
  unsigned size = 0;
  INTARSIA_CHECK(EVP_DigestFinal_ex(state_->context, digest.bytes.data(), &size) == 1);
  INTARSIA_CHECK(size == digest.bytes.size());
  return digest;
}

Digest DigestOf(std::string_view bytes) { return DigestBuilder().Add(bytes).Finish(); }

}  // namespace intarsia
