#include "index/graph_index.h"

#include <algorithm>
#include <cstring>
#include <set>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "tests/index/clustered_vectors.h"
#include "tests/index/filter_of.h"

namespace intarsia::index {
namespace {

struct Made {
  ClusteredVectors data;
  std::unique_ptr<FlatIndex> flat;
  std::unique_ptr<GraphIndex> graph;
};

Made MakeGraph(int64_t num_rows, int64_t dim, int64_t num_queries, int64_t num_in_graph,
               uint32_t seed = 1) {
  Made made{MakeClusteredVectors(num_rows, dim, num_queries, seed),
            *FlatIndex::Create({.dim = dim}), nullptr};
  EXPECT_TRUE(made.flat->Add(made.data.ids, made.data.rows).ok());
  made.graph = *GraphIndex::Create(made.flat.get(), {});
  EXPECT_TRUE(made.graph->Append(num_in_graph, 1).ok());
  return made;
}

double RecallOf(const Made& made, SlotFilter filter) {
  int64_t num_found = 0;
  int64_t num_wanted = 0;
  for (int64_t i = 0; i < made.data.num_queries; ++i) {
    const SearchParams params{.query = made.data.query(i), .k = 10, .filter = filter};
    const auto exact = made.flat->Search(params);
    const auto found = made.graph->Search(params, {});
    EXPECT_TRUE(exact.ok() && found.ok()) << found.status();
    num_wanted += std::ssize(*exact);
    for (const SearchHit& hit : found->hits) {
      for (const SearchHit& wanted : *exact) {
        if (wanted.id != hit.id) continue;
        ++num_found;
        EXPECT_NEAR(hit.score, wanted.score, 1e-5F);
      }
    }
  }
  return static_cast<double>(num_found) / static_cast<double>(num_wanted);
}

TEST(GraphIndexTest, FindsTheNeighboursWithAndWithoutAFilter) {
  const Made made = MakeGraph(4'000, 64, 30, 4'000);
  EXPECT_GE(RecallOf(made, {}), 0.97);
  for (const size_t step : {2U, 10U, 100U}) {
    std::vector<uint64_t> allowed;
    for (size_t i = 0; i < made.data.ids.size(); i += step) allowed.push_back(made.data.ids[i]);
    const auto filter = FilterOf(*made.flat, allowed);
    EXPECT_GE(RecallOf(made, filter), 0.95) << step;
    const std::set<uint64_t> wanted(allowed.begin(), allowed.end());
    const auto found =
        made.graph->Search({.query = made.data.query(0), .k = 10, .filter = filter}, {});
    for (const SearchHit& hit : found->hits) EXPECT_TRUE(wanted.contains(hit.id));
    EXPECT_FALSE(found->is_short);
  }
}

TEST(GraphIndexTest, ANarrowWalkThatFindsTooFewSaysSo) {
  const Made made = MakeGraph(4'000, 64, 1, 4'000);
  const uint64_t only[] = {made.data.ids[17]};
  const auto filter = FilterOf(*made.flat, only);
  const SearchParams params{.query = made.data.query(0), .k = 10, .filter = filter};
  const auto narrow = made.graph->Search(params, {.breadth = 16, .breadth_max = 64});
  ASSERT_TRUE(narrow.ok());
  EXPECT_TRUE(narrow->is_short);
  EXPECT_EQ(narrow->breadth, 64);
  // A walk past everything knows that there is no more.
  const auto whole = made.graph->Search(params, {.breadth = 16, .breadth_max = 100'000});
  EXPECT_FALSE(whole->is_short);
  ASSERT_EQ(whole->hits.size(), 1U);
  EXPECT_EQ(whole->hits[0].id, made.data.ids[17]);
}

// More vectors that are alike than one has links: nothing leads from them to the others.
TEST(GraphIndexTest, AWalkThatCannotReachEverythingSaysSo) {
  const ClusteredVectors data = MakeClusteredVectors(200, 32, 1, 3);
  auto flat = *FlatIndex::Create({.dim = 32});
  for (size_t i = 0; i < data.ids.size(); ++i) {
    const size_t at = i < 100 ? 0 : i;
    ASSERT_TRUE(flat->Add({&data.ids[i], 1}, std::span(data.rows).subspan(at * 32, 32)).ok());
  }
  auto graph = *GraphIndex::Create(flat.get(), {});
  ASSERT_TRUE(graph->Append(200, 1).ok());
  const SearchParams params{.query = data.query(0), .k = 200};
  const auto found = graph->Search(params, {.breadth = 200, .breadth_max = 1'000});
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->is_short, found->hits.size() < 200);
}

TEST(GraphIndexTest, GrowsByAppending) {
  Made made = MakeGraph(2'000, 64, 20, 700);
  EXPECT_EQ(made.graph->size(), 700);
  ASSERT_TRUE(made.graph->Append(701, 1).ok());
  ASSERT_TRUE(made.graph->Append(701, 1).ok());
  ASSERT_TRUE(made.graph->Append(2'000, 1).ok());
  EXPECT_GE(RecallOf(made, {}), 0.97);
  EXPECT_EQ(made.graph->Append(2'001, 1).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(made.graph->Append(5, 1).code(), StatusCode::kInvalidArgument);
}

TEST(GraphIndexTest, AnEmptyGraphFindsNothing) {
  const Made made = MakeGraph(10, 64, 1, 0);
  const auto found = made.graph->Search({.query = made.data.query(0), .k = 3}, {});
  ASSERT_TRUE(found.ok());
  EXPECT_TRUE(found->hits.empty());
  EXPECT_TRUE(GraphIndex::Load(made.graph->Save(), made.flat.get()).ok());
}

TEST(GraphIndexTest, SavedBytesGiveTheSameGraphAndItCanGrow) {
  const Made made = MakeGraph(1'500, 64, 10, 1'000);
  auto loaded = GraphIndex::Load(made.graph->Save(), made.flat.get());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->size(), 1'000);
  for (int64_t i = 0; i < made.data.num_queries; ++i) {
    const SearchParams params{.query = made.data.query(i), .k = 10};
    EXPECT_EQ((*loaded)->Search(params, {})->hits, made.graph->Search(params, {})->hits);
  }
  ASSERT_TRUE((*loaded)->Append(1'500, 1).ok());
  int64_t num_found = 0;
  for (int64_t i = 0; i < made.data.num_queries; ++i) {
    const SearchParams params{.query = made.data.query(i), .k = 10};
    const auto exact = *made.flat->Search(params);
    const auto found = *(*loaded)->Search(params, {});
    for (const SearchHit& hit : found.hits) {
      num_found += std::count_if(exact.begin(), exact.end(),
                                 [&](const SearchHit& one) { return one.id == hit.id; });
    }
  }
  EXPECT_GE(num_found, 95);
}

TEST(GraphIndexTest, DamagedOrForeignBytesAreRefused) {
  const Made made = MakeGraph(60, 64, 1, 60);
  const std::string bytes = made.graph->Save();
  const auto code = [&](std::string_view damaged, const FlatIndex& rows) {
    return GraphIndex::Load(damaged, &rows).status().code();
  };
  for (size_t i = 0; i < bytes.size(); i += 3) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    ASSERT_EQ(code(damaged, *made.flat), StatusCode::kCorruption) << i;
  }
  for (size_t length = 0; length < bytes.size(); length += 37) {
    ASSERT_EQ(code(bytes.substr(0, length), *made.flat), StatusCode::kCorruption);
  }
  const Made other = MakeGraph(60, 64, 1, 60, 2);
  EXPECT_EQ(code(bytes, *other.flat), StatusCode::kCorruption);
  const Made fewer = MakeGraph(59, 64, 1, 59);
  EXPECT_EQ(code(bytes, *fewer.flat), StatusCode::kCorruption);
}

TEST(GraphIndexTest, AnEmptyGraphThatNamesAnEntryIsRefused) {
  const Made made = MakeGraph(10, 64, 1, 0);
  const std::string whole = made.graph->Save();
  // Behind magic, version, sizes, digest and options; see docs/formats/graph_index.md.
  for (const size_t offset : {48U, 52U}) {
    std::string body = whole.substr(0, whole.size() - 16);
    const int32_t seven = 7;
    std::memcpy(body.data() + offset, &seven, sizeof(seven));
    const Checksum checksum = ChecksumOf(body);
    ByteWriter writer;
    writer.WriteBytes(body);
    writer.Write(checksum.low);
    writer.Write(checksum.high);
    EXPECT_EQ(GraphIndex::Load(writer.bytes(), made.flat.get()).status().code(),
              StatusCode::kCorruption)
        << offset;
  }
}

TEST(GraphIndexTest, BadOptionsAreRefused) {
  const Made made = MakeGraph(10, 64, 1, 10);
  const SearchParams params{.query = made.data.query(0)};
  EXPECT_EQ(made.graph->Search(params, {.breadth = 0}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(made.graph->Search({.query = params.query, .k = 0}, {}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(GraphIndex::Create(made.flat.get(), {.num_links = 1}).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(GraphIndex::Create(made.flat.get(), {.build_breadth = 0}).status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace intarsia::index
