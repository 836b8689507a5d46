#include "bench/end_to_end/sample_tokens.h"

#include <algorithm>
#include <filesystem>
#include <random>
#include <system_error>

#include "base/file.h"

namespace intarsia::bench {
namespace {

constexpr int64_t kFileBytesMax = int64_t{16} << 20;

std::vector<std::string> MarkdownFiles(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    if (at->path().extension() == ".md") paths.push_back(at->path().string());
  }
  std::ranges::sort(paths);
  return paths;
}

std::vector<int32_t> RandomIds(int64_t count, const model::Tokenizer& tokenizer) {
  std::mt19937_64 random(1);
  std::vector<int32_t> ids;
  while (std::ssize(ids) < count) {
    const auto id = static_cast<int32_t>(random() % static_cast<uint64_t>(tokenizer.vocab_size()));
    if (!tokenizer.IsSpecial(id)) ids.push_back(id);
  }
  return ids;
}

}  // namespace

Result<SampleTokens> ReadSampleTokens(const std::string& folder, int64_t num_tokens,
                                      const model::Tokenizer& tokenizer) {
  SampleTokens sample;
  for (const std::string& path : MarkdownFiles(folder)) {
    if (std::ssize(sample.ids) >= num_tokens) break;
    const auto text = FileSystem::Local()->ReadAll(path, kFileBytesMax);
    if (!text.ok()) continue;  // Somebody else's file; the next one will do.
    INTARSIA_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                              tokenizer.Encode(*text, model::SpecialTokens::kAsText));
    sample.ids.insert(sample.ids.end(), ids.begin(), ids.end());
  }
  if (sample.ids.empty()) {
    sample.ids = RandomIds(num_tokens, tokenizer);
    sample.source = "random ids";
    return sample;
  }
  sample.source = "text of " + folder;
  for (size_t at = 0; std::ssize(sample.ids) < num_tokens; ++at) {
    sample.ids.push_back(sample.ids[at]);
  }
  sample.ids.resize(static_cast<size_t>(num_tokens));
  return sample;
}

}  // namespace intarsia::bench
