// Where the caches of a fused prefill come from: files that are read beside the computation, and
// caches that turn out to be lost on the way.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/async_reader.h"
#include "base/check.h"
#include "base/file.h"
#include "engine/fusion/fused_prefill.h"
#include "tests/engine/fusion_scene.h"
#include "tests/storage/temporary_directory.h"

namespace intarsia::engine {
namespace {

TEST(FusedCacheReadingTest, ACacheThatIsLostOnTheWayIsComputedInstead) {
  TinyFusionScene tiny("llama");
  for (int32_t layer = 0; layer < 4; ++layer) {
    const DamagedKv damaged(tiny.scene.chunks()[2].cached, layer);
    std::vector<PromptPart> parts = tiny.scene.chunks();
    parts[2].cached = &damaged;
    const Prompt prompt = *Prompt::Create(tiny.scene.header(), parts, tiny.scene.question());
    const FusedContext context = tiny.scene.RunPrompt(prompt, {});
    EXPECT_EQ(context.lost_segments, std::vector<size_t>{3});
    const FusedContext wanted = tiny.scene.RunPrompt(tiny.scene.prompt().WithoutCache(3), {});
    EXPECT_EQ(context.logits, wanted.logits);
    EXPECT_EQ(context.usage.fresh_tokens, wanted.usage.fresh_tokens);
  }
}

// A cache in a file, whose layers come beside the computation, but for one, where the system can do
// that; what a read brings can be spoilt.
class FileKv : public KvSource {
 public:
  FileKv(const MemoryKv& whole, const std::string& path, int32_t spoilt)
      : whole_(whole), room_bytes_(RoomOf(whole)), spoilt_(spoilt) {
    std::string bytes;
    for (const std::vector<uint8_t>& layer : whole.layers()) {
      bytes.append(layer.begin(), layer.end());
      bytes.resize((bytes.size() + kPage - 1) / kPage * kPage);
    }
    INTARSIA_CHECK(FileSystem::Local()->WriteAtomically(path, bytes).ok());
    file_ = FileSystem::Local()->OpenDirect(path);
  }
  KvPayloadType type() const override { return whole_.type(); }
  int64_t num_tokens() const override { return whole_.num_tokens(); }
  Status ReadLayer(int32_t layer, std::span<uint8_t> target) const override {
    return whole_.ReadLayer(layer, target);
  }
  bool StartLayer(int32_t layer, std::span<uint8_t> target, AsyncReader* reader,
                  int64_t tag) const override {
    if (file_ == nullptr || layer == 1) return false;
    INTARSIA_CHECK(std::ssize(target) == room_bytes_);
    reader->Start({.file = file_.get(),
                   .offset = layer * room_bytes_,
                   .num_bytes = room_bytes_,
                   .target = target.data(),
                   .tag = tag});
    return true;
  }
  Status FinishLayer(int32_t layer, std::span<uint8_t> target, int64_t num_read) const override {
    if (layer == spoilt_) return Status(StatusCode::kNotFound, "checksum mismatch");
    INTARSIA_CHECK(num_read == room_bytes_);
    std::vector<uint8_t> wanted(target.size());
    INTARSIA_RETURN_IF_ERROR(whole_.ReadLayer(layer, wanted));
    INTARSIA_CHECK(std::ranges::equal(target, wanted));
    return Status::Ok();
  }

 private:
  static constexpr int64_t kPage = AsyncReader::kAlignment;
  static int64_t RoomOf(const MemoryKv& whole) {
    return (std::ssize(whole.layers()[0]) + kPage - 1) / kPage * kPage;
  }

  const MemoryKv& whole_;
  const int64_t room_bytes_;
  const int32_t spoilt_;
  std::unique_ptr<DirectFile> file_;
};

TEST(FusedCacheReadingTest, CachesThatAreReadBesideTheComputationGiveTheSameBits) {
  TinyFusionScene tiny("llama");
  const storage::TemporaryDirectory directory;
  for (const int32_t spoilt : {-1, 2}) {
    std::vector<PromptPart> parts = tiny.scene.chunks();
    std::vector<std::unique_ptr<FileKv>> files;
    for (size_t i = 0; i < parts.size(); ++i) {
      files.push_back(std::make_unique<FileKv>(dynamic_cast<const MemoryKv&>(*parts[i].cached),
                                               directory / std::to_string(i),
                                               i == 2 ? spoilt : -1));
      parts[i].cached = files.back().get();
    }
    const Prompt prompt = *Prompt::Create(tiny.scene.header(), parts, tiny.scene.question());
    const FusedContext context = tiny.scene.RunPrompt(prompt, {});
    if (!context.lost_segments.empty()) {
      EXPECT_EQ(spoilt, 2);
      EXPECT_EQ(context.lost_segments, std::vector<size_t>{3});
      EXPECT_EQ(context.logits,
                tiny.scene.RunPrompt(tiny.scene.prompt().WithoutCache(3), {}).logits);
    } else {
      EXPECT_EQ(context.logits, tiny.scene.Run({}).logits);
    }
  }
}

}  // namespace
}  // namespace intarsia::engine
