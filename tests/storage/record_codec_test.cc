#include "storage/record_codec.h"

#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/keys.h"
#include "storage/record.h"
#include "tests/storage/sample_data.h"

namespace intarsia::storage {
namespace {

Document FullDocument() {
  Document document;
  document.id = 42;
  document.collection = 7;
  document.source = "a/b.md";
  document.title = "B";
  document.media_type = "text/markdown";
  document.metadata = {{"tags", Value(Value::List{Value("x"), Value(true)})}, {"n", Value(1.5)}};
  document.text_digest = DigestOf("text");
  document.text_bytes = 4;
  document.version = 3;
  document.ingested_at_ms = -1;
  document.first_chunk = 9;
  document.num_chunks = 2;
  return document;
}

KvEntry FullEntry() {
  return {.identity = DigestOf("identity"),
          .shape = {.num_layers = 2, .num_tokens = 256, .quantizer = 1},
          .segment = 12,
          .extents = {{.offset = 4096, .num_bytes = 5000, .checksum = {1, 2}},
                      {.offset = 12'288, .num_bytes = 1, .checksum = {3, 4}}}};
}

// Each body with the function that decodes it.
struct Sample {
  std::string name;
  std::string body;
  std::function<Status(std::string_view)> decode;
};

std::vector<Sample> Samples() {
  ModelInfo model = SampleModel("e5", ModelType::kEmbedding);
  CollectionInfo collection = SampleCollection("docs");
  const CollectionStats stats{.generation = 5, .vectors = {{1, 384, 10}}};
  const Chunk chunk{.id = 1, .byte_end = 9, .heading_path = {"a", "b"}, .chunker = "c"};
  return {
      {"model", EncodeModel(model), [](auto body) { return DecodeModel(body).status(); }},
      {"collection", EncodeCollection(collection),
       [](auto body) { return DecodeCollection(body).status(); }},
      {"stats", EncodeStats(stats), [](auto body) { return DecodeStats(body).status(); }},
      {"document", Must(EncodeDocument(FullDocument())),
       [](auto body) { return DecodeDocument(body).status(); }},
      {"chunk", EncodeChunk(chunk), [](auto body) { return DecodeChunk(body).status(); }},
      {"kv entry", EncodeKvEntry(FullEntry()),
       [](auto body) { return DecodeKvEntry(Digest(), body).status(); }},
      {"kv use", EncodeKvUse({.last_use = 1, .num_uses = 2, .stored_at = 3, .collection = 4}),
       [](auto body) { return DecodeKvUse(body).status(); }},
      {"ids", EncodeNextIds(NextIds()), [](auto body) { return DecodeNextIds(body).status(); }},
      {"number", EncodeNumber(7), [](auto body) { return DecodeNumber(body).status(); }},
  };
}

TEST(RecordCodecTest, DecodingGivesBackWhatWasEncoded) {
  EXPECT_EQ(Must(DecodeDocument(Must(EncodeDocument(FullDocument())))), FullDocument());
  EXPECT_EQ(Must(DecodeKvEntry(FullEntry().identity, EncodeKvEntry(FullEntry()))), FullEntry());
  const CollectionStats stats{.generation = 5,
                              .num_documents = 1,
                              .num_chunks = 2,
                              .text_bytes = 3,
                              .vectors = {{1, 384, 10}, {2, 8, 1}}};
  EXPECT_EQ(Must(DecodeStats(EncodeStats(stats))), stats);
  const std::vector<float> vector = {1.0F, -2.5F};
  EXPECT_EQ(Must(DecodeVector(EncodeVector(vector))), vector);
  EXPECT_TRUE(Must(DecodeVector("")).empty());
}

TEST(RecordCodecTest, UsesThatEarlierProgramsWroteAreRead) {
  const KvUseRecord use = {.last_use = 1, .num_uses = 2, .stored_at = 3, .collection = 4};
  EXPECT_EQ(Must(DecodeKvUse(EncodeKvUse(use))), use);
  const KvUseRecord earlier = {.last_use = 1, .num_uses = 2};
  EXPECT_EQ(Must(DecodeKvUse(EncodeKvUse(use).substr(0, 16))), earlier);
}

TEST(RecordCodecTest, EveryTruncationAndEveryExcessIsCorruption) {
  for (const Sample& sample : Samples()) {
    ASSERT_TRUE(sample.decode(sample.body).ok()) << sample.name;
    for (size_t size = 0; size < sample.body.size(); ++size) {
      if (sample.name == "kv use" && size == 16) continue;  // Whole for earlier programs.
      EXPECT_EQ(sample.decode(sample.body.substr(0, size)).code(), StatusCode::kCorruption)
          << sample.name << " " << size;
    }
    EXPECT_EQ(sample.decode(sample.body + '\0').code(), StatusCode::kCorruption) << sample.name;
  }
  EXPECT_EQ(DecodeVector("abc").status().code(), StatusCode::kCorruption);
}

TEST(RecordCodecTest, FlippedBodiesDecodeToAnErrorOrAValueButNeverRunAway) {
  for (const Sample& sample : Samples()) {
    for (size_t bit = 0; bit < sample.body.size() * 8; ++bit) {
      std::string body = sample.body;
      body[bit / 8] = static_cast<char>(body[bit / 8] ^ (1 << (bit % 8)));
      sample.decode(body).IgnoreError();  // The address sanitizer is the judge.
    }
  }
}

TEST(RecordTest, EveryFlippedBitOfARecordIsCorruptionWithTheKeysName) {
  const std::string key = DocumentKey(42);
  const std::string record = SealRecord(key, "the body of a record");
  EXPECT_EQ(Must(OpenRecord("documents", key, record)), "the body of a record");
  for (size_t bit = 0; bit < record.size() * 8; ++bit) {
    std::string flipped = record;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const Status status = OpenRecord("documents", key, flipped).status();
    ASSERT_EQ(status.code(), StatusCode::kCorruption) << bit;
    ASSERT_NE(status.message().find("documents:64000000000000002a"), std::string_view::npos);
  }
  EXPECT_EQ(OpenRecord("documents", DocumentKey(43), record).status().code(),
            StatusCode::kCorruption);
  EXPECT_EQ(OpenRecord("documents", key, record.substr(0, 16)).status().code(),
            StatusCode::kCorruption);
}

TEST(KeysTest, KeysSortByTheirNumbersAndPrefixesEndWhereTheNextBegins) {
  EXPECT_LT(DocumentKey(255), DocumentKey(256));
  EXPECT_LT(DocumentKey(0xffffffff), DocumentKey(0x100000000));
  EXPECT_EQ(KeyAfterPrefix("ab"), "ac");
  EXPECT_EQ(KeyAfterPrefix("a\xff\xff"), "b");
  EXPECT_EQ(IdInKey(ListingKey(3, 77), 9), 77U);
}

}  // namespace
}  // namespace intarsia::storage
