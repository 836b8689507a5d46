// The worked examples in docs/formats/ are the bytes that this program writes.
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "storage/backup_manifest.h"
#include "storage/commit_mark.h"
#include "storage/directory_format.h"
#include "storage/keys.h"
#include "storage/kv_segments.h"
#include "storage/record.h"
#include "storage/record_codec.h"
#include "tests/base/hex_dump.h"
#include "tests/storage/sample_data.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::storage {
namespace {

void ExpectInPage(const std::string& page, const std::string& example) {
  const std::string text = ReadFile("docs/formats/" + page);
  EXPECT_NE(text.find("```\n" + example + "```"), std::string::npos)
      << "docs/formats/" << page << " should hold\n```\n"
      << example << "```";
}

void ExpectRecordInPage(const std::string& page, const std::string& key, const std::string& body) {
  ExpectInPage(page, Dump(key));
  ExpectInPage(page, Dump(SealRecord(key, body)));
}

DirectoryFormat SampleFormat() {
  DirectoryFormat format;
  for (size_t i = 0; i < format.uuid.size(); ++i) format.uuid[i] = static_cast<uint8_t>(i);
  return format;
}

TEST(FormatsTest, BackupPageIsTrue) {
  const BackupManifest manifest = {
      .format = SampleFormat(),
      .commit = 258,
      .created = 1'700'000'000,
      .files = {{.name = "kv/segment-000001.kv", .num_bytes = 3, .pieces = {ChecksumOf("abc")}}}};
  ExpectInPage("backup.md", Dump(EncodeBackupManifest(manifest)));
}

TEST(FormatsTest, DirectoryPageIsTrue) {
  const DirectoryFormat format = SampleFormat();
  ExpectInPage("directory.md", Dump(EncodeDirectoryFormat(format)));
  ExpectInPage("directory.md", Dump(EncodeCommitMark(format.uuid_view(), 258)));
}

TEST(FormatsTest, CatalogPageIsTrue) {
  const CollectionInfo collection{
      .id = 2,
      .name = "docs",
      .columns = {{.name = "acl", .type = ValueType::kList, .item_type = ValueType::kString}},
      .options = {{"kv_cache", "lazy"}}};
  ExpectRecordInPage("catalog.md", CollectionKey(2), EncodeCollection(collection));
}

TEST(FormatsTest, DocumentsPageIsTrue) {
  Document document;
  document.id = 42;
  document.collection = 2;
  document.source = "a.md";
  document.title = "A";
  document.media_type = "text/markdown";
  document.metadata = {{"lang", Value("en")}, {"years", Value(Value::List{Value(int64_t{2024})})}};
  document.text_digest = DigestOf("hello");
  document.text_bytes = 5;
  document.version = 1;
  document.ingested_at_ms = 1'700'000'000'000;
  document.first_chunk = 9;
  document.num_chunks = 1;
  ExpectRecordInPage("documents.md", DocumentKey(42), Must(EncodeDocument(document)));
}

TEST(FormatsTest, KvSegmentsPageIsTrue) {
  ExpectInPage("kv_segments.md",
               Dump(EncodeSegmentHeader(SampleFormat().uuid_view(), 12).substr(0, 64)));
  const KvEntry entry{
      .identity = DigestOf("identity"),
      .shape = {.num_layers = 2, .num_tokens = 256, .quantizer = 1},
      .segment = 12,
      .extents = {{.offset = 4096, .num_bytes = 5000, .checksum = ChecksumOf("layer 0")},
                  {.offset = 12'288, .num_bytes = 5000, .checksum = ChecksumOf("layer 1")}}};
  ExpectRecordInPage("kv_segments.md", KvEntryKey(entry.identity), EncodeKvEntry(entry));
}

}  // namespace
}  // namespace intarsia::storage
