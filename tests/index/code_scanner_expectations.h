// What every CodeScanner must do: searches through it give what comparing all vectors gives, on
// random vectors with random filters, while vectors are added.
//
// Thread safety: none; for tests.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "index/binary_index.h"
#include "index/code_scanner.h"
#include "index/flat_index.h"
#include "tests/index/clustered_vectors.h"

namespace intarsia::index {

using MakeScanner = std::function<std::unique_ptr<CodeScanner>()>;

inline kernels::BinaryCodeBlocks AllBlocks(const BinaryIndex& codes) {
  constexpr int64_t kBlock = kernels::kBinaryBlockCodes;
  return codes.CodeBlocks(0, (codes.size() + kBlock - 1) / kBlock);
}

// A slot passes with probability 1 / `one_in`.
inline std::vector<uint64_t> RandomFilter(int64_t num_slots, uint64_t one_in,
                                          std::mt19937_64* random) {
  std::vector<uint64_t> words(static_cast<size_t>((num_slots + 63) / 64));
  for (int64_t slot = 0; slot < num_slots; ++slot) {
    const bool passes = (*random)() % one_in == 0;
    words[static_cast<size_t>(slot / 64)] |= static_cast<uint64_t>(passes) << (slot % 64);
  }
  return words;
}

// With a bound so wide that nothing near can be left out, however floats are rounded.
inline void ExpectSearchesAreExact(const MakeScanner& make, int64_t dim, int32_t bits,
                                   uint32_t seed) {
  SCOPED_TRACE("dim " + std::to_string(dim) + " bits " + std::to_string(bits));
  const ClusteredVectors data = MakeClusteredVectors(2'600, dim, 12, seed);
  std::mt19937_64 random(seed);
  const auto flat = *FlatIndex::Create({.dim = dim});
  std::unique_ptr<BinaryIndex> codes;
  const std::unique_ptr<CodeScanner> scanner = make();
  ASSERT_NE(scanner, nullptr);
  // Ends in the middle of blocks and tiles, and within and beyond what there was room for.
  for (const int64_t end : {1, 40, 41, 1'000, 1'003, 2'600}) {
    const auto begin = static_cast<size_t>(flat->size());
    const auto count = static_cast<size_t>(end) - begin;
    const auto width = static_cast<size_t>(dim);
    ASSERT_TRUE(flat->Add(std::span(data.ids).subspan(begin, count),
                          std::span(data.rows).subspan(begin * width, count * width))
                    .ok());
    if (codes == nullptr) {
      codes = *BinaryIndex::Build(*flat, {.bits = bits}, nullptr);
    } else {
      ASSERT_TRUE(codes->Append(*flat, nullptr).ok());
    }
    const auto search = [&](const SearchParams& params) {
      return codes->Search(*flat, params, {.error_bound = 12.0F, .scanner = scanner.get()});
    };
    EXPECT_EQ(search({.query = data.query(0)}).status().code(), StatusCode::kInvalidArgument);
    const int64_t wanted = scanner->BytesFor(AllBlocks(*codes), end);
    ASSERT_TRUE(scanner->Extend(AllBlocks(*codes), end).ok());
    EXPECT_EQ(scanner->num_rows(), end);
    EXPECT_GT(wanted, 0);
    for (int64_t i = 0; i < data.num_queries; ++i) {
      std::vector<uint64_t> filter;
      if (i % 4 != 0) filter = RandomFilter(end, i % 4 == 1 ? 2 : i % 4 == 2 ? 30 : 5'000, &random);
      const SearchParams params{.query = data.query(i), .k = i % 3 == 0 ? 1 : 10, .filter = filter};
      const auto exact = flat->Search(params);
      const auto found = search(params);
      ASSERT_TRUE(exact.ok() && found.ok()) << found.status();
      EXPECT_EQ(found->hits, *exact) << "rows " << end << " query " << i;
      EXPECT_FALSE(found->is_truncated);
    }
  }
}

inline void ExpectCandidatesAreLimited(const MakeScanner& make) {
  const ClusteredVectors data = MakeClusteredVectors(5'000, 64, 1, 3);
  const auto flat = *FlatIndex::Create({.dim = 64});
  ASSERT_TRUE(flat->Add(data.ids, data.rows).ok());
  const auto codes = *BinaryIndex::Build(*flat, {.bits = 1}, nullptr);
  const std::unique_ptr<CodeScanner> scanner = make();
  ASSERT_TRUE(scanner->Extend(AllBlocks(*codes), codes->size()).ok());
  const auto few =
      codes->Search(*flat, {.query = data.query(0), .k = 10},
                    {.error_bound = 3.0F, .candidates_max = 20, .scanner = scanner.get()});
  ASSERT_TRUE(few.ok()) << few.status();
  EXPECT_EQ(few->num_prospects, 20);
  EXPECT_TRUE(few->is_truncated);
  EXPECT_EQ(few->hits.size(), 10U);
  EXPECT_EQ(few->num_scanned, 5'000);
}

}  // namespace intarsia::index
