#include "engine/kv_identity.h"

#include <algorithm>

#include "engine/fusion/kv_builder.h"
#include "engine/kv_gate.h"

namespace intarsia::engine {
namespace {

constexpr int64_t kSchemaVersion = 2;

// Raise it when a kernel's change moves the values of K or V by more than its rounding.
constexpr int64_t kNumericsRevision = 1;

// The arithmetic that the values come from: the type of plain caches, and whether products were
// rounded to 8 bits, which moves them by more than that type's rounding.
int64_t ArithmeticOf(const model::Transformer& transformer) {
  constexpr int64_t kInt8Products = 16;
  const auto type = static_cast<int64_t>(PayloadTypeOf(transformer));
  return transformer.compute() == kernels::ComputeType::kInt8 ? type + kInt8Products : type;
}

std::string_view BytesOf(std::span<const int32_t> tokens) {
  return {reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes()};
}

}  // namespace

KvPayloadType KvTypeOf(const storage::CollectionInfo& collection, const storage::ModelInfo& model) {
  const std::string form = storage::OptionOr(collection.options, "kv_dtype", "");
  if (form == "auto") return KvFormOf(model);
  return KvFormNamed(form).value_or(KvPayloadType::kInt8);
}

int64_t KvTtlOf(const storage::CollectionInfo& collection) {
  return std::max<int64_t>(0, storage::NumberOptionOr(collection.options, "kv_ttl", 0));
}

KvFamily KvFamilyOf(const Generator& generator, std::span<const int32_t> header,
                    const storage::CollectionInfo& collection) {
  const KvPayloadType type = KvTypeOf(collection, generator.info);
  Digest digest = DigestBuilder()
                      .Add("intarsia kv family")
                      .Add(kSchemaVersion)
                      .Add(generator.info.weights_digest.view())
                      .Add(generator.tokenizer->digest().view())
                      .Add("no adapter")
                      .Add(generator.transformer->config().digest().view())
                      .Add(ArithmeticOf(*generator.transformer))
                      .Add(static_cast<int64_t>(type))
                      .Add(kNumericsRevision)
                      .Add(BytesOf(header))
                      .Add(static_cast<int64_t>(collection.id))
                      .Finish();
  return {.digest = digest, .type = type};
}

Digest KvIdentityOf(const KvFamily& family, std::span<const int32_t> tokens) {
  return DigestBuilder().Add("intarsia kv").Add(family.digest.view()).Add(BytesOf(tokens)).Finish();
}

}  // namespace intarsia::engine
