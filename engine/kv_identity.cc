#include "engine/kv_identity.h"

#include "engine/fusion/kv_builder.h"

namespace intarsia::engine {
namespace {

constexpr int64_t kSchemaVersion = 1;

// Raise it when a kernel's change moves the values of K or V by more than its rounding.
constexpr int64_t kNumericsRevision = 1;

std::string_view BytesOf(std::span<const int32_t> tokens) {
  return {reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes()};
}

}  // namespace

Digest KvFamilyOf(const Generator& generator, std::span<const int32_t> header, uint64_t salt) {
  return DigestBuilder()
      .Add("intarsia kv family")
      .Add(kSchemaVersion)
      .Add(generator.info.weights_digest.view())
      .Add(generator.tokenizer->digest().view())
      .Add("no adapter")
      .Add(generator.transformer->config().digest().view())
      .Add(static_cast<int64_t>(PayloadTypeOf(*generator.transformer)))
      .Add(kNumericsRevision)
      .Add(BytesOf(header))
      .Add(static_cast<int64_t>(salt))
      .Finish();
}

Digest KvIdentityOf(const Digest& family, std::span<const int32_t> tokens) {
  return DigestBuilder().Add("intarsia kv").Add(family.view()).Add(BytesOf(tokens)).Finish();
}

}  // namespace intarsia::engine
