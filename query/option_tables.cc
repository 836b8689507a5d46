#include <array>

#include "query/options.h"

namespace intarsia::query {
namespace {

using T = OptionType;

constexpr double kBytesMax = 1LL << 50;
constexpr double kSeedMax = 4294967295.0;

constexpr std::array<std::string_view, 2> kPoolings = {"mean", "cls"};
constexpr std::array<OptionSpec, 5> kCreateModel = {{
    {"context_tokens", T::kInteger, "", "Longest prompt and answer together; default: the file's.",
     128, 1 << 20},
    {"dim", T::kInteger, "", "Expected dimensions of an embedding; another number is an error.", 1,
     65536},
    {"pooling", T::kChoice, "mean", "How an embedder makes one vector of a text.", 0, 0, kPoolings},
    {"query_prefix", T::kText, "", "Put before a question that is embedded."},
    {"document_prefix", T::kText, "", "Put before a chunk that is embedded."},
}};

constexpr std::array<std::string_view, 6> kChunkers = {"structure", "fixed",      "semantic",
                                                       "intent",    "perplexity", "margin"};
constexpr std::array<std::string_view, 2> kTextIndexes = {"bm25", "off"};
constexpr std::array<std::string_view, 4> kVectorIndexes = {"auto", "binary", "graph", "flat"};
constexpr std::array<std::string_view, 3> kMetrics = {"cosine", "dot", "l2"};
constexpr std::array<std::string_view, 3> kKvPolicies = {"lazy", "eager", "off"};
constexpr std::array<std::string_view, 3> kKvCodecs = {"int8", "compact", "bf16"};
constexpr std::array<OptionSpec, 11> kCreateCollection = {{
    {"embedding", T::kName, "", "Embedding model; default: that of SET DEFAULT EMBEDDING."},
    {"chunker", T::kChoice, "structure", "How documents are cut into chunks.", 0, 0, kChunkers},
    {"chunk_tokens", T::kInteger, "512", "Most tokens of one chunk.", 16, 8192},
    {"overlap", T::kInteger, "64", "Tokens that neighbouring chunks share.", 0, 4096},
    {"text_index", T::kChoice, "bm25", "Index for search by words.", 0, 0, kTextIndexes},
    {"language", T::kText, "english", "Language whose word endings the text index takes off."},
    {"vector_index", T::kChoice, "auto", "Index for search by meaning.", 0, 0, kVectorIndexes},
    {"metric", T::kChoice, "cosine", "How near two embeddings are.", 0, 0, kMetrics},
    {"kv_cache", T::kChoice, "lazy",
     "When attention caches are written: behind the first answer "
     "that needs one, at ingest, or never.",
     0, 0, kKvPolicies},
    {"kv_codec", T::kChoice, "int8", "How attention caches are stored.", 0, 0, kKvCodecs},
    {"kv_bytes_max", T::kBytes, "",
     "Disk for attention caches of this collection; default: no "
     "bound of its own.",
     0, kBytesMax},
}};

constexpr std::array<std::string_view, 8> kFormats = {"auto", "txt",   "markdown", "html",
                                                      "csv",  "jsonl", "tsv",      "code"};
constexpr std::array<std::string_view, 3> kOnConflict = {"overwrite", "skip", "fail"};
constexpr std::array<std::string_view, 2> kOnError = {"skip", "fail"};
constexpr std::array<std::string_view, 3> kCleanups = {"none", "incremental", "full"};
constexpr std::array<OptionSpec, 8> kCopy = {{
    {"format", T::kChoice, "auto", "Format of the files; auto goes by name and content.", 0, 0,
     kFormats},
    {"on_conflict", T::kChoice, "overwrite", "A document that is there already.", 0, 0,
     kOnConflict},
    {"on_error", T::kChoice, "skip", "A file that cannot be read.", 0, 0, kOnError},
    {"cleanup", T::kChoice, "none", "full removes documents that the source no longer has.", 0, 0,
     kCleanups},
    {"id", T::kName, "", "Field of a record that is the document's id."},
    {"content", T::kName, "", "Field of a record that is the document's text."},
    {"title", T::kName, "", "Field of a record that is the document's title."},
    {"threads", T::kInteger, "0", "Threads for reading; 0: as many as the machine has.", 0, 1024},
}};

constexpr std::array<std::string_view, 3> kModes = {"hybrid", "text", "vector"};
constexpr std::array<OptionSpec, 4> kSearch = {{
    {"mode", T::kChoice, "hybrid", "Search by words, by meaning, or both.", 0, 0, kModes},
    {"candidates", T::kInteger, "100", "Rows that each index hands to the fusion of ranks.", 1,
     10000},
    {"rrf_k", T::kInteger, "60", "Constant of reciprocal rank fusion.", 1, 1000},
    {"snippet_chars", T::kInteger, "160", "Length of the snippet; 0: none.", 0, 10000},
}};

constexpr std::array<std::string_view, 3> kPresets = {"default", "fast", "careful"};
constexpr std::array<std::string_view, 6> kSelectors = {"attention", "prefix", "deviation",
                                                        "stride",    "none",   "full"};
constexpr std::array<std::string_view, 3> kPropagations = {"two_sided", "causal", "off"};
constexpr std::array<std::string_view, 4> kOrders = {"score", "ends_first", "cache", "document"};
constexpr std::array<std::string_view, 2> kNoEvidence = {"refuse", "answer"};
constexpr std::array<OptionSpec, 18> kAnswer = {{
    {"k", T::kInteger, "8", "Chunks that the answer is made from.", 1, 256},
    {"mode", T::kChoice, "hybrid", "Search by words, by meaning, or both.", 0, 0, kModes},
    {"candidates", T::kInteger, "100", "Rows that each index hands to the fusion of ranks.", 1,
     10000},
    {"order", T::kChoice, "score", "Order of the chunks in the prompt.", 0, 0, kOrders},
    {"on_no_evidence", T::kChoice, "refuse", "What to do if no chunk supports an answer.", 0, 0,
     kNoEvidence},
    {"max_tokens", T::kInteger, "300", "Longest answer.", 1, 32768},
    {"context_tokens", T::kInteger, "0", "Longest context from chunks; 0: what the model takes.", 0,
     1 << 20},
    {"temperature", T::kDouble, "0", "0: always the likeliest token.", 0, 5},
    {"top_p", T::kDouble, "1", "Sample among the likeliest tokens of this total probability.", 0,
     1},
    {"top_k", T::kInteger, "0", "Sample among this many tokens; 0: all.", 0, 100000},
    {"seed", T::kInteger, "0", "Chance of sampling; the same seed gives the same answer.", 0,
     kSeedMax},
    {"preset", T::kChoice, "default", "Sets ratio: fast 0.05, default 0.15, careful 0.30.", 0, 0,
     kPresets},
    {"selector", T::kChoice, "attention", "Which cached tokens are computed again.", 0, 0,
     kSelectors, "fusion"},
    {"ratio", T::kDouble, "0.15", "Share of the cached tokens that is computed again.", 0, 1},
    {"probes", T::kDouble, "0.03", "Share that is spaced evenly, to measure the shift.", 0, 1},
    {"propagate", T::kChoice, "two_sided", "Passes the measured shift on to kept tokens.", 0, 0,
     kPropagations},
    {"use_cache", T::kBoolean, "true", "Whether stored attention caches may be used."},
    {"citations", T::kBoolean, "true", "Whether the answer carries citations."},
}};

constexpr std::array<OptionSpec, 9> kSettings = {{
    {"device", T::kText, "cpu", "Where models run: 'cpu', or 'cuda:0' with a GPU."},
    {"threads", T::kInteger, "0", "Threads for one statement; 0: as many as the machine has.", 0,
     1024},
    {"statement_timeout_ms", T::kInteger, "0", "A statement that runs longer is stopped; 0: never.",
     0, 86'400'000},
    {"result_cache", T::kBoolean, "off", "Whether an answer given before is given again."},
    {"kv.memory_bytes_max", T::kBytes, "1073741824", "Memory for attention caches.", 0, kBytesMax},
    {"kv.disk_bytes_max", T::kBytes, "17179869184", "Disk for attention caches.", 0, kBytesMax},
    {"kv.compute_ahead", T::kBoolean, "on", "Whether caches are written behind answers."},
    {"search.ef", T::kInteger, "64", "Candidates that the graph index keeps while searching.", 1,
     10000},
    {"search.limit", T::kInteger, "10", "Rows of a SEARCH without LIMIT.", 1, 10000},
}};

}  // namespace

std::span<const OptionSpec> OptionsOf(OptionTable table) {
  switch (table) {
    case OptionTable::kCreateModel:
      return kCreateModel;
    case OptionTable::kCreateCollection:
      return kCreateCollection;
    case OptionTable::kCopy:
      return kCopy;
    case OptionTable::kSearch:
      return kSearch;
    case OptionTable::kAnswer:
      return kAnswer;
    case OptionTable::kSettings:
      return kSettings;
  }
  return {};
}

}  // namespace intarsia::query
