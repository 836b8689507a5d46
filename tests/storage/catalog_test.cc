#include "storage/catalog.h"

#include <gtest/gtest.h>

namespace intarsia::storage {
namespace {

TEST(CatalogTest, AnOptionIsWhatWasSetOrTheFallback) {
  const Options options = {{"kv_cache", "off"}, {"empty", ""}, {"kv_ttl", "-86400"}};
  EXPECT_EQ(OptionOr(options, "kv_cache", "lazy"), "off");
  EXPECT_EQ(OptionOr(options, "empty", "lazy"), "");
  EXPECT_EQ(OptionOr(options, "chunker", "structure"), "structure");
  EXPECT_EQ(NumberOptionOr(options, "kv_ttl", 7), -86'400);
  EXPECT_EQ(NumberOptionOr(options, "overlap", 7), 7);
}

TEST(CatalogTest, WhatIsNoNumberIsTheFallback) {
  for (const char* const text : {"", "many", "12 tokens", " 12", "1.5", "99999999999999999999"}) {
    EXPECT_EQ(NumberOptionOr({{"overlap", text}}, "overlap", 7), 7) << text;
  }
}

}  // namespace
}  // namespace intarsia::storage
