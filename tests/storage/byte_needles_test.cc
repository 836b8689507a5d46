// Pieces of texts, found wherever they stand in other bytes.
#include "storage/byte_needles.h"

#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia::storage {
namespace {

std::string RandomBytes(std::mt19937* random, size_t size) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>((*random)());
  return bytes;
}

std::vector<int64_t> PlacesOf(const ByteNeedles& needles, std::string_view bytes) {
  std::vector<int64_t> places;
  needles.Find(bytes, [&](int64_t offset) {
    places.push_back(offset);
    return true;
  });
  return places;
}

TEST(ByteNeedlesTest, EveryRunOf31BytesIsFoundAtEveryPlace) {
  std::mt19937 random(1);
  const std::string text = RandomBytes(&random, 1'000);
  ByteNeedles needles;
  EXPECT_EQ(needles.Add(text, 1), 62);
  needles.Build();
  EXPECT_EQ(needles.num_pieces(), 62);
  const std::string before = RandomBytes(&random, 37);
  for (size_t begin = 0; begin + 31 <= 992; ++begin) {
    const std::string bytes = before + text.substr(begin, 31) + before;
    const std::vector<int64_t> places = PlacesOf(needles, bytes);
    const size_t want = before.size() + (16 - begin % 16) % 16;
    ASSERT_EQ(places.size(), 1U) << begin;
    ASSERT_EQ(places[0], static_cast<int64_t>(want)) << begin;
  }
  EXPECT_TRUE(PlacesOf(needles, RandomBytes(&random, 100'000)).empty());
}

TEST(ByteNeedlesTest, FindsWhatAPlainSearchFinds) {
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    // Few letters, so that pieces overlap and repeat.
    const auto draw = [&](size_t size) {
      std::string text(size, 'a');
      for (char& c : text) c = static_cast<char>('a' + random() % 5);
      return text;
    };
    const std::string text = draw(16 + random() % 64);
    std::string bytes = draw(random() % 300);
    for (int i = 0; i < 3; ++i) bytes.insert(random() % (bytes.size() + 1), text);
    ByteNeedles needles;
    needles.Add(text, 1);
    needles.Build();
    std::vector<int64_t> want;
    for (size_t at = 0; at + 16 <= bytes.size(); ++at) {
      bool is_piece = false;
      for (size_t begin = 0; begin + 16 <= text.size(); begin += 16) {
        const std::string piece = text.substr(begin, 16);
        const bool is_varied = std::set<char>(piece.begin(), piece.end()).size() >= 4;
        is_piece = is_piece || (is_varied && bytes.compare(at, 16, piece) == 0);
      }
      if (is_piece) want.push_back(static_cast<int64_t>(at));
    }
    ASSERT_EQ(PlacesOf(needles, bytes), want) << text << "\n" << bytes;
  }
}

TEST(ByteNeedlesTest, DroppedPiecesAreNotLookedFor) {
  ByteNeedles needles;
  needles.Add("the first piece.the second piece", 1);
  needles.Add("the first piece.", 1);
  needles.Build();
  EXPECT_EQ(needles.num_pieces(), 2);
  needles.Drop("here stands the first piece. here again: the first piece.");
  EXPECT_EQ(needles.num_pieces(), 1);
  EXPECT_EQ(needles.num_dropped(), 1);
  EXPECT_TRUE(PlacesOf(needles, "the first piece.").empty());
  EXPECT_EQ(PlacesOf(needles, "x the second piece x").size(), 1U);
  int64_t num_visits = 0;
  needles.Find("the second piecethe second piece", [&](int64_t) { return ++num_visits > 5; });
  EXPECT_EQ(num_visits, 1);
}

TEST(ByteNeedlesTest, WhatProvesNothingIsLeftOut) {
  ByteNeedles needles;
  EXPECT_EQ(needles.Add("fifteen bytes..", 1), 0);
  EXPECT_EQ(needles.Add(std::string(1'000, '\0'), 1), 0);
  EXPECT_EQ(needles.Add("-=-=-=-=-=-=-=-=", 1), 0);
  EXPECT_EQ(needles.Add("", 1), 0);
  needles.Build();
  EXPECT_EQ(needles.num_pieces(), 0);
  EXPECT_TRUE(PlacesOf(needles, std::string(1'000, '\0')).empty());
  ByteNeedles sparse;
  std::mt19937 random(3);
  EXPECT_EQ(sparse.Add(RandomBytes(&random, 160), 3), 4);
}

}  // namespace
}  // namespace intarsia::storage
