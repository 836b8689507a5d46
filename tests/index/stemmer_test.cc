#include "index/stemmer.h"

#include <gtest/gtest.h>

namespace intarsia::index {
namespace {

TEST(StemmerTest, EndingsFallAndStemsStay) {
  const auto stemmer = Stemmer::Create("english");
  ASSERT_TRUE(stemmer.ok());
  EXPECT_EQ(stemmer->Stem("building"), stemmer->Stem("builds"));
  EXPECT_NE(stemmer->Stem("building"), stemmer->Stem("bills"));
  EXPECT_EQ(stemmer->Stem(""), "");
  EXPECT_EQ(stemmer->Stem("5432"), "5432");
  EXPECT_EQ(stemmer->Stem("größe"), "größe");
}

TEST(StemmerTest, UnknownLanguageSaysWhich) {
  const auto stemmer = Stemmer::Create("klingon");
  EXPECT_EQ(stemmer.status().code(), StatusCode::kUnsupported);
  EXPECT_NE(stemmer.status().message().find("klingon"), std::string_view::npos);
}

}  // namespace
}  // namespace intarsia::index
