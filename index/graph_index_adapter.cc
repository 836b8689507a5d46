#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <utility>

#include <faiss/IndexHNSW.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/impl/FaissException.h>
#include <omp.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/hash.h"
#include "index/graph_index.h"
#include "kernels/dot_rows.h"

namespace intarsia::index {
namespace {

constexpr uint32_t kMagic = 0x58444947;  // "GIDX"
constexpr uint32_t kVersion = 2;
constexpr int64_t kChecksumBytes = 16;
constexpr int64_t kBreadthMax = 1'000'000;
// FAISS draws a level for each vector; one in num_links reaches the next.
constexpr int32_t kLevelsMax = 64;

float Dot(const float* a, const float* b, int64_t dim) {
  float score = 0.0F;
  kernels::DotRowsParams params;
  params.query = a;
  params.rows = b;
  params.num_rows = 1;
  params.dim = dim;
  params.scores = &score;
  INTARSIA_CHECK(kernels::DotRows(params).ok());
  return score;
}

// Nearness as FAISS wants it: less is nearer.
class RowDistances : public faiss::DistanceComputer {
 public:
  explicit RowDistances(const FlatIndex& rows) : rows_(rows) {}
  void set_query(const float* query) override { query_ = query; }
  float operator()(idx_t slot) override {
    return -Dot(query_, rows_.row(slot).data(), rows_.dim());
  }
  float symmetric_dis(idx_t a, idx_t b) override {
    return -Dot(rows_.row(a).data(), rows_.row(b).data(), rows_.dim());
  }

 private:
  const FlatIndex& rows_;
  const float* query_ = nullptr;
};

// The vectors behind the graph: those of the FlatIndex, not a copy.
class RowStorage : public faiss::Index {
 public:
  explicit RowStorage(const FlatIndex* rows)
      : faiss::Index(rows->dim(), faiss::METRIC_L2), rows_(rows) {}
  void add(idx_t count, const float* /*vectors*/) override { ntotal += count; }
  void reset() override { ntotal = 0; }
  void search(idx_t, const float*, idx_t, float*, idx_t*,
              const faiss::SearchParameters*) const override {
    FAISS_THROW_MSG("only the graph is searched");
  }
  faiss::DistanceComputer* get_distance_computer() const override {
    return std::make_unique<RowDistances>(*rows_).release();
  }

 private:
  const FlatIndex* const rows_;
};

Status Damaged(const std::string& what) {
  return Status(StatusCode::kCorruption, "graph index cannot be used, rebuild it: " + what);
}

// Names the ids and vectors of the first `count` slots.
Checksum DigestOfRows(const FlatIndex& rows, int64_t count) {
  if (count == 0) return ChecksumOf({});
  const auto ids = rows.ids().first(static_cast<size_t>(count));
  const Checksum of_ids = ChecksumOf({reinterpret_cast<const char*>(ids.data()), ids.size_bytes()});
  std::vector<uint64_t> sums;
  sums.reserve(static_cast<size_t>(count));
  for (int64_t slot = 0; slot < count; ++slot) sums.push_back(rows.row_checksum(slot));
  const Checksum of_rows =
      ChecksumOf({reinterpret_cast<const char*>(sums.data()), sums.size() * sizeof(uint64_t)});
  return ChecksumOf(of_ids.ToHex() + of_rows.ToHex());
}

Status OptionError(const char* name, int64_t value) {
  return Status(StatusCode::kInvalidArgument,
                std::string("graph option out of range: ") + name + "=" + std::to_string(value));
}

}  // namespace

struct GraphIndex::State {
  State(const FlatIndex* flat, int32_t links)
      : rows(flat), storage(flat), graph(&storage, links), num_links(links) {}
  const FlatIndex* const rows;
  RowStorage storage;
  faiss::IndexHNSW graph;
  const int32_t num_links;
};

GraphIndex::GraphIndex(std::unique_ptr<State> state) : state_(std::move(state)) {}
GraphIndex::~GraphIndex() = default;

Result<std::unique_ptr<GraphIndex>> GraphIndex::Create(const FlatIndex* rows,
                                                       const GraphIndexOptions& options) {
  if (options.num_links < 2 || options.num_links > 256) {
    return OptionError("num_links", options.num_links);
  }
  if (options.build_breadth < 1 || options.build_breadth > 10'000) {
    return OptionError("build_breadth", options.build_breadth);
  }
  try {
    auto state = std::make_unique<State>(rows, options.num_links);
    state->graph.hnsw.efConstruction = options.build_breadth;
    return std::unique_ptr<GraphIndex>(new GraphIndex(std::move(state)));
  } catch (const std::exception& error) {
    return Status(StatusCode::kResourceExhausted, std::string("graph index: ") + error.what());
  }
}

int64_t GraphIndex::size() const { return state_->graph.ntotal; }

int64_t GraphIndex::memory_bytes() const {
  const faiss::HNSW& hnsw = state_->graph.hnsw;
  return static_cast<int64_t>(hnsw.levels.capacity() * sizeof(int) +
                              hnsw.offsets.capacity() * sizeof(size_t) +
                              hnsw.neighbors.capacity() * sizeof(faiss::HNSW::storage_idx_t));
}

Status GraphIndex::Append(int64_t end, int num_threads) {
  const int64_t begin = size();
  if (end < begin || end > state_->rows->size() || end > std::numeric_limits<int32_t>::max()) {
    return Status(StatusCode::kInvalidArgument,
                  "graph index has no such slots to add: size=" + std::to_string(begin) + " end=" +
                      std::to_string(end) + " vectors=" + std::to_string(state_->rows->size()));
  }
  if (end == begin) return Status::Ok();
  try {
    omp_set_num_threads(std::max(1, num_threads));
    // FAISS wants the vectors that it adds behind each other, as they are within a page.
    for (int64_t first = begin; first < end;) {
      const int64_t last = std::min(end, state_->rows->page_end(first));
      const float* const rows = state_->rows->row(first).data();
      for (int64_t slot = first; slot < last; ++slot) static_cast<void>(state_->rows->row(slot));
      INTARSIA_RETURN_IF_ERROR(state_->rows->CheckDamage());
      state_->graph.add(last - first, rows);
      first = last;
    }
    return state_->rows->CheckDamage();
  } catch (const std::exception& error) {
    return Status(StatusCode::kResourceExhausted, std::string("graph index: ") + error.what());
  }
}

Result<GraphSearchResult> GraphIndex::Search(const SearchParams& params,
                                             const GraphSearchOptions& options) const {
  INTARSIA_RETURN_IF_ERROR(state_->rows->CheckParams(params));
  for (const int64_t breadth : {options.breadth, options.breadth_max}) {
    if (breadth < 1 || breadth > kBreadthMax) return OptionError("breadth", breadth);
  }
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<float> query,
                            state_->rows->PrepareQuery(params.query));
  GraphSearchResult result;
  const auto passes = [&](int64_t slot) {
    return params.filter.empty() ||
           ((params.filter[static_cast<size_t>(slot / 64)] >> (slot % 64)) & 1) != 0;
  };
  int64_t breadth = std::max(options.breadth, params.k);
  try {
    while (true) {
      breadth = std::min(breadth, size());
      result.breadth = breadth;
      result.hits.clear();
      if (breadth == 0) return result;
      std::vector<float> distances(static_cast<size_t>(breadth));
      std::vector<faiss::Index::idx_t> slots(static_cast<size_t>(breadth));
      faiss::SearchParametersHNSW walk;
      walk.efSearch = static_cast<int>(breadth);
      state_->graph.search(1, query.data(), breadth, distances.data(), slots.data(), &walk);
      INTARSIA_RETURN_IF_ERROR(state_->rows->CheckDamage());
      TopK best(params.k);
      int64_t num_reached = 0;
      int64_t num_passing = 0;
      for (size_t i = 0; i < slots.size(); ++i) {
        if (slots[i] < 0) continue;
        ++num_reached;
        if (!passes(slots[i])) continue;
        ++num_passing;
        best.Push({state_->rows->ids()[static_cast<size_t>(slots[i])], -distances[i]});
      }
      result.hits = best.Take();
      // Vectors that are alike may link to each other only, so even a walk past everything may miss
      // some.
      result.is_short = num_passing < params.k && num_reached < size();
      // Of what passes, the walk shall see as many as it does without a filter.
      const int64_t wanted = std::min(options.breadth, size());
      const bool is_enough = num_passing >= std::max(params.k, wanted / 4) || breadth == size();
      if (is_enough || breadth >= options.breadth_max) return result;
      breadth = std::min(2 * breadth, std::max(options.breadth_max, params.k));
    }
  } catch (const std::exception& error) {
    return Status(StatusCode::kResourceExhausted, std::string("graph search: ") + error.what());
  }
}

std::string GraphIndex::Save() const {
  const faiss::HNSW& hnsw = state_->graph.hnsw;
  const Checksum digest = DigestOfRows(*state_->rows, size());
  ByteWriter writer;
  writer.Write(kMagic);
  writer.Write(kVersion);
  writer.Write(state_->rows->dim());
  writer.Write(size());
  writer.Write(digest.low);
  writer.Write(digest.high);
  writer.Write(state_->num_links);
  writer.Write(int32_t{hnsw.efConstruction});
  writer.Write(int32_t{hnsw.entry_point});
  writer.Write(int32_t{hnsw.max_level});
  for (const int level : hnsw.levels) writer.Write(int32_t{level});
  for (const faiss::HNSW::storage_idx_t link : hnsw.neighbors) writer.Write(int32_t{link});
  const Checksum checksum = ChecksumOf(writer.bytes());
  writer.Write(checksum.low);
  writer.Write(checksum.high);
  return std::move(writer).TakeBytes();
}

namespace {

// Reads levels and links into an empty graph. Each link must lead to a vector that has the layer.
Status ReadLinks(ByteReader* reader, int64_t count, faiss::HNSW* hnsw) {
  if (count > reader->remaining() / 4) return Damaged("it ends within its levels");
  for (int64_t slot = 0; slot < count; ++slot) {
    const auto level = reader->Read<int32_t>();
    if (level < 1 || level > std::min<int64_t>(kLevelsMax, hnsw->max_level + 1) ||
        level >= std::ssize(hnsw->cum_nneighbor_per_level)) {
      return Damaged("a level is out of range: slot=" + std::to_string(slot));
    }
    hnsw->levels.push_back(level);
    hnsw->offsets.push_back(hnsw->offsets.back() +
                            static_cast<size_t>(hnsw->cum_nb_neighbors(level)));
  }
  if (static_cast<int64_t>(hnsw->offsets.back()) != reader->remaining() / 4 ||
      reader->remaining() % 4 != 0) {
    return Damaged("the number of its links is another one");
  }
  hnsw->neighbors.reserve(hnsw->offsets.back());
  for (int64_t slot = 0; slot < count; ++slot) {
    for (int layer = 0; layer < hnsw->levels[static_cast<size_t>(slot)]; ++layer) {
      for (int i = 0; i < hnsw->nb_neighbors(layer); ++i) {
        const auto link = reader->Read<int32_t>();
        if (link < -1 || link >= count ||
            (link >= 0 && hnsw->levels[static_cast<size_t>(link)] <= layer)) {
          return Damaged("a link leads nowhere: slot=" + std::to_string(slot));
        }
        hnsw->neighbors.push_back(link);
      }
    }
  }
  const bool has_entry =
      hnsw->entry_point >= 0 && hnsw->entry_point < count &&
      hnsw->levels[static_cast<size_t>(hnsw->entry_point)] == hnsw->max_level + 1;
  // A graph of no vectors has none, or what is added would be linked to it.
  const bool is_empty = count == 0 && hnsw->entry_point == -1 && hnsw->max_level == -1;
  if (!has_entry && !is_empty) return Damaged("its entry is out of range");
  return reader->status();
}

}  // namespace

Result<std::unique_ptr<GraphIndex>> GraphIndex::Load(std::string_view bytes,
                                                     const FlatIndex* rows) {
  if (static_cast<int64_t>(bytes.size()) < kChecksumBytes) return Damaged("it ends too early");
  const std::string_view body = bytes.substr(0, bytes.size() - kChecksumBytes);
  ByteReader tail(bytes.substr(body.size()), "graph index");
  Checksum want;
  want.low = tail.Read<uint64_t>();
  want.high = tail.Read<uint64_t>();
  if (ChecksumOf(body) != want) return Damaged("checksum mismatch");
  ByteReader reader(body, "graph index");
  if (reader.Read<uint32_t>() != kMagic) return Damaged("it does not begin as one");
  if (reader.Read<uint32_t>() != kVersion) return Damaged("its version is not known");
  const auto dim = reader.Read<int64_t>();
  const auto count = reader.Read<int64_t>();
  Checksum digest;
  digest.low = reader.Read<uint64_t>();
  digest.high = reader.Read<uint64_t>();
  GraphIndexOptions options;
  options.num_links = reader.Read<int32_t>();
  options.build_breadth = reader.Read<int32_t>();
  const auto entry_point = reader.Read<int32_t>();
  const auto max_level = reader.Read<int32_t>();
  INTARSIA_RETURN_IF_ERROR(reader.status());
  if (dim != rows->dim() || count < 0 || count > rows->size() ||
      DigestOfRows(*rows, count) != digest) {
    return Damaged("it is about other vectors");
  }
  if (max_level < -1 || max_level >= kLevelsMax) return Damaged("its height is out of range");
  auto created = Create(rows, options);
  if (!created.ok()) return Damaged(std::string(created.status().message()));
  try {
    State& state = *(*created)->state_;
    state.graph.hnsw.entry_point = entry_point;
    state.graph.hnsw.max_level = max_level;
    INTARSIA_RETURN_IF_ERROR(ReadLinks(&reader, count, &state.graph.hnsw));
    state.storage.ntotal = count;
    state.graph.ntotal = count;
    return *std::move(created);
  } catch (const std::exception& error) {
    return Status(StatusCode::kResourceExhausted, std::string("graph index: ") + error.what());
  }
}

}  // namespace intarsia::index
