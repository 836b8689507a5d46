#include <algorithm>
#include <array>
#include <cstddef>

#include "query/options.h"

namespace intarsia::query {
namespace {

using T = OptionType;

constexpr double kBytesMax = 1LL << 50;
constexpr double kSeedMax = 4294967295.0;
constexpr double kSecondsMax = 100.0 * 366 * 86'400;

constexpr std::array<std::string_view, 5> kScans = {"auto", "flat", "binary", "graph", "device"};
constexpr std::array<std::string_view, 3> kModes = {"hybrid", "vector", "text"};
constexpr std::array<std::string_view, 3> kRankFusions = {"rrf", "relative", "linear"};

constexpr std::array<std::string_view, 5> kComputes = {"auto", "bf16", "f32", "fp8", "int8"};
constexpr std::array<std::string_view, 3> kGates = {"quick", "full", "off"};
constexpr std::array<OptionSpec, 4> kCreateModel = {{
    {"compute", T::kChoice, "auto",
     "How products with many rows are computed; auto: bf16 where the CPU has it, else f32. fp8 is "
     "for devices, and auto on the CPU.",
     0, 0, kComputes},
    {"context_tokens", T::kInteger, "", "Longest prompt and answer together; default: the file's.",
     128, 1 << 20},
    {"dim", T::kInteger, "", "Expected dimensions of an embedding; another number is an error.", 1,
     65536},
    {"kv_gate", T::kChoice, "quick",
     "Whether it is measured in which form attention caches may be kept: with 3 prompts, 12 or "
     "none.",
     0, 0, kGates},
}};

constexpr std::array<std::string_view, 2> kChunkers = {"structure", "fixed"};
constexpr std::array<std::string_view, 2> kTextIndexes = {"bm25", "off"};
// Those of index::TextAnalyzer::Languages(), and none.
constexpr std::array<std::string_view, 16> kLanguages = {
    "danish",    "dutch",      "english",  "finnish", "french",  "german",  "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "turkish",   "none"};
constexpr std::array<std::string_view, 3> kKvPolicies = {"lazy", "eager", "off"};
constexpr std::array<std::string_view, 5> kKvTypes = {"int8", "bf16", "int4", "rot4", "auto"};
constexpr OptionSpec kTtl = {
    "kv_ttl", T::kDuration,
    "0",      "How long attention caches are used after they were written; 0: without end.",
    0,        kSecondsMax,
    {},       "cache_ttl"};
constexpr std::array<OptionSpec, 10> kCreateCollection = {{
    {"embedding", T::kName, "", "Embedding model; default: that of SET DEFAULT EMBEDDING."},
    {"chunker", T::kChoice, "structure", "How documents are cut into chunks.", 0, 0, kChunkers},
    {"chunk_tokens", T::kInteger, "",
     "Most tokens of one chunk; default: 384, or 32 fewer than the embedding model reads if that "
     "is less.",
     16, 65536},
    {"overlap", T::kInteger, "0", "Tokens that a chunk repeats from the one before.", 0, 32768},
    {"min_tokens", T::kInteger, "32", "Smaller sections are merged; chunker 'structure' only.", 0,
     65536},
    {"text_index", T::kChoice, "bm25", "Whether words are indexed, for text and hybrid searches.",
     0, 0, kTextIndexes},
    {"language", T::kChoice, "english", "Whose endings are cut from words; none: no endings.", 0, 0,
     kLanguages},
    {"kv_cache", T::kChoice, "lazy",
     "When attention caches are written: behind the first answer that needs one, at ingest, or "
     "never.",
     0, 0, kKvPolicies},
    {"kv_dtype", T::kChoice, "int8",
     "How attention caches are kept: int8 takes half of bf16, int4 and rot4 a quarter; auto: as "
     "CHECK MODEL chose.",
     0, 0, kKvTypes},
    kTtl,
}};

constexpr std::array<OptionSpec, 1> kAlterCollection = {kTtl};

constexpr std::array<std::string_view, 4> kFormats = {"auto", "text", "markdown", "html"};
constexpr std::array<std::string_view, 3> kOnConflict = {"overwrite", "skip", "fail"};
constexpr std::array<std::string_view, 2> kOnError = {"skip", "fail"};
constexpr std::array<OptionSpec, 4> kCopy = {{
    {"format", T::kChoice, "auto", "Format of the files; auto goes by name and content.", 0, 0,
     kFormats},
    {"on_conflict", T::kChoice, "overwrite", "What to do with a document that is there already.", 0,
     0, kOnConflict},
    {"on_error", T::kChoice, "skip", "What to do with a file that cannot be read.", 0, 0, kOnError},
    {"file_bytes_max", T::kBytes, "67108864", "Larger files are errors.", 1, kBytesMax},
}};

// `left` with `right` behind it.
template <size_t kLeft, size_t kRight>
constexpr std::array<OptionSpec, kLeft + kRight> Join(const std::array<OptionSpec, kLeft>& left,
                                                      const std::array<OptionSpec, kRight>& right) {
  std::array<OptionSpec, kLeft + kRight> joined{};
  std::copy(left.begin(), left.end(), joined.begin());
  std::copy(right.begin(), right.end(), joined.begin() + kLeft);
  return joined;
}

// How chunks are found, by SEARCH and for ANSWER.
constexpr std::array<OptionSpec, 10> kRetrieval = {{
    {"mode", T::kChoice, "hybrid", "What finds chunks: vectors, words or both.", 0, 0, kModes},
    {"rank_fusion", T::kChoice, "rrf", "How a hybrid search joins its two rankings.", 0, 0,
     kRankFusions},
    {"rrf_k", T::kDouble, "60", "Constant of rrf; with a larger one the first ranks weigh less.", 1,
     1e6},
    {"text_weight", T::kDouble, "1", "Weight of the words in a hybrid search.", 0, 1e6},
    {"vector_weight", T::kDouble, "1", "Weight of the vectors in a hybrid search.", 0, 1e6},
    {"text_top", T::kInteger, "100", "Chunks that words give to a hybrid search, at least.", 1,
     1'000'000},
    {"vector_top", T::kInteger, "100", "Chunks that vectors give to a hybrid search, at least.", 1,
     1'000'000},
    {"rerank", T::kName, "off",
     "Model that reads the question with the best chunks and ranks them again; 'auto': the default "
     "RERANK model, else the default generator.",
     0, 0},
    {"rerank_top", T::kInteger, "20", "Chunks that are ranked again.", 1, 1000},
    {"scan", T::kChoice, "auto", "How vectors are searched.", 0, 0, kScans},
}};
constexpr std::array<OptionSpec, 1> kSnippet = {{
    {"snippet_chars", T::kInteger, "160", "Length of the snippet; 0: all of the chunk.", 0, 10000},
}};
constexpr auto kSearch = Join(kRetrieval, kSnippet);

constexpr std::array<std::string_view, 3> kPresets = {"default", "fast", "careful"};
constexpr std::array<std::string_view, 7> kSelectors = {
    "attention", "design", "prefix", "deviation", "stride", "none", "full"};
constexpr std::array<std::string_view, 3> kPropagations = {"two_sided", "causal", "off"};
constexpr std::array<std::string_view, 3> kProbes = {"with_rows", "with_question",
                                                     "with_question_only"};
constexpr std::array<std::string_view, 3> kOrders = {"score", "reverse", "document"};
constexpr std::array<std::string_view, 2> kNoEvidence = {"refuse", "answer"};
constexpr std::array<std::string_view, 3> kReuses = {"chunks", "prefix", "none"};
constexpr std::array<OptionSpec, 1> kPassages = {{
    {"k", T::kInteger, "8", "Chunks that the answer is made from.", 1, 256},
}};
constexpr std::array<OptionSpec, 16> kGeneration = {{
    {"order", T::kChoice, "score", "Order of the chunks in the prompt.", 0, 0, kOrders},
    {"on_no_evidence", T::kChoice, "refuse", "What to do if no chunk supports an answer.", 0, 0,
     kNoEvidence},
    {"min_score", T::kDouble, "0.25",
     "If the nearest vector has a lower cosine, there is no evidence.", -1, 1},
    {"max_tokens", T::kInteger, "300", "Longest answer.", 1, 32768},
    {"temperature", T::kDouble, "0", "0: always the likeliest token.", 0, 10},
    {"top_p", T::kDouble, "1", "Sample among the likeliest tokens of this total probability.",
     0.001, 1},
    {"top_k", T::kInteger, "0", "Sample among this many tokens; 0: all.", 0, 100000},
    {"seed", T::kInteger, "0", "Chance of sampling; the same seed gives the same answer.", 0,
     kSeedMax},
    {"reuse", T::kChoice, "chunks",
     "Which caches are used: every chunk's by fusion, an exact prefix's, or none.", 0, 0, kReuses},
    {"preset", T::kChoice, "default",
     "Sets ratio: fast 0.05 and selector design, default 0.15, careful 0.30.", 0, 0, kPresets},
    {"selector", T::kChoice, "attention", "Which cached tokens are computed again.", 0, 0,
     kSelectors, "fusion"},
    {"ratio", T::kDouble, "0.15", "Share of the cached tokens that is computed again.", 0, 1},
    {"propagate", T::kChoice, "two_sided", "Passes the measured shift on to kept tokens.", 0, 0,
     kPropagations},
    {"probes", T::kChoice, "with_rows",
     "When the evenly spaced rows are computed; with_question also shifts what attention ranks by.",
     0, 0, kProbes},
    {"probe_share", T::kDouble, "0.03",
     "Share of the cached tokens that are evenly spaced rows, at most half of ratio.", 0, 0.5},
    {"question_depth", T::kDouble, "1",
     "Share of the layers that the question passes before rows are chosen.", 0.01, 1},
}};
constexpr auto kAnswer = Join(Join(kPassages, kRetrieval), kGeneration);

constexpr std::array<OptionSpec, 1> kBackup = {{
    {"base", T::kText, "", "An earlier backup, whose unchanged files the new one shares."},
}};

constexpr std::array<OptionSpec, 1> kDelete = {{
    {"secure", T::kBoolean, "false",
     "Removes every trace from the files at once, and searches them to prove it."},
}};

constexpr std::array<OptionSpec, 11> kSettings = {{
    {"search.limit", T::kInteger, "10", "Rows of a SEARCH without LIMIT.", 1, 10000},
    {"search.scan", T::kChoice, "auto", "How vectors are searched if a statement does not say.", 0,
     0, kScans},
    {"search.mode", T::kChoice, "hybrid", "What finds chunks if a statement does not say.", 0, 0,
     kModes},
    {"kv.write_behind", T::kBoolean, "true",
     "Whether missing caches are written behind an answer."},
    {"kv.disk_bytes_max", T::kBytes, "17179869184", "Disk for attention caches.", 0, kBytesMax},
    {"kv.memory_bytes_max", T::kBytes, "1073741824",
     "Memory for attention caches that are used often; 0: none.", 0, kBytesMax},
    {"device", T::kName, "auto",
     "Where prompts are run, answers generated and many vectors searched: 'cpu', 'cuda:0' (or "
     "another number), or 'auto': "
     "on the first CUDA device if there is one."},
    {"device.kv_bytes_max", T::kBytes, "0",
     "Memory on a device for the keys and values of a model's prompts; 0: for two of its longest, "
     "at most a quarter of what is free.",
     0, kBytesMax},
    {"device.cache_bytes_max", T::kBytes, "1073741824",
     "Memory on a device for a model's attention caches that are used often; 0: none.", 0,
     kBytesMax},
    {"device.code_bytes_max", T::kBytes, "2147483648",
     "Memory on a device for the codes of vectors of all collections; 0: searches never use one.",
     0, kBytesMax},
    {"statement_timeout_ms", T::kInteger, "0", "A statement that runs longer is stopped; 0: never.",
     0, 86'400'000},
}};

}  // namespace

std::span<const OptionSpec> OptionsOf(OptionTable table) {
  switch (table) {
    case OptionTable::kCreateModel:
      return kCreateModel;
    case OptionTable::kCreateCollection:
      return kCreateCollection;
    case OptionTable::kAlterCollection:
      return kAlterCollection;
    case OptionTable::kCopy:
      return kCopy;
    case OptionTable::kSearch:
      return kSearch;
    case OptionTable::kAnswer:
      return kAnswer;
    case OptionTable::kBackup:
      return kBackup;
    case OptionTable::kDelete:
      return kDelete;
    case OptionTable::kSettings:
      return kSettings;
  }
  return {};
}

}  // namespace intarsia::query
