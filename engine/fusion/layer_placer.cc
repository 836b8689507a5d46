#include "engine/fusion/layer_placer.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>

#include "base/check.h"
#include "base/first_error.h"
#include "kernels/kv_codec.h"
#include "kernels/kv_layout.h"
#include "kernels/propagate.h"
#include "kernels/rope.h"

namespace intarsia::engine {
namespace {

// Tokens that one thread places at a time; whole blocks of the layout, so that two threads never
// write into one.
constexpr int64_t kTokensPerTask = 8 * kernels::kKvBlockTokens;
// Recomputed rows that one thread compares with their caches at a time.
constexpr int64_t kRowsPerTask = 32;

}  // namespace

LayerPlacer::LayerPlacer(const Prompt& prompt, const LayerLoader& loader,
                         const model::Transformer& transformer, model::KvCache* cache)
    : prompt_(prompt),
      loader_(loader),
      transformer_(transformer),
      cache_(cache),
      kv_size_(transformer.config().kv_size()) {}

Result<std::unique_ptr<LayerPlacer>> LayerPlacer::Create(const Prompt& prompt,
                                                         const LayerLoader& loader,
                                                         const model::Transformer& transformer,
                                                         model::KvCache* cache) {
  std::unique_ptr<LayerPlacer> placer(new LayerPlacer(prompt, loader, transformer, cache));
  placer->scratches_.resize(static_cast<size_t>(transformer.pool()->num_threads()));
  for (Scratch& scratch : placer->scratches_) {
    for (AlignedArray<float>* array : {&scratch.k, &scratch.k_rotated, &scratch.v}) {
      INTARSIA_ASSIGN_OR_RETURN(*array,
                                AlignedArray<float>::TryCreate(kTokensPerTask * placer->kv_size_));
    }
  }
  const int64_t num_tokens = prompt.question_begin();
  placer->positions_.resize(static_cast<size_t>(num_tokens));
  std::iota(placer->positions_.begin(), placer->positions_.end(), 0);
  const auto fill = [&](const kernels::RopeTable& table, Angles* angles) {
    angles->rotary_dim = table.rotary_dim();
    angles->cosines = AlignedArray<float>(num_tokens * table.rotary_dim() / 2);
    angles->sines = AlignedArray<float>(num_tokens * table.rotary_dim() / 2);
    return table.Fill(placer->positions_.data(), num_tokens, angles->cosines.data(),
                      angles->sines.data());
  };
  const model::ModelConfig& config = transformer.config();
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    Angles* const angles = config.has_window(layer) ? &placer->angles_windowed_ : &placer->angles_;
    if (angles->rotary_dim == 0) INTARSIA_RETURN_IF_ERROR(fill(transformer.rope(layer), angles));
  }
  return placer;
}

Status LayerPlacer::ReadShifted(int32_t layer, const Run& run, bool is_key, float* target) const {
  const Segment& segment = prompt_.segments()[run.segment];
  const int64_t first = run.begin - segment.begin;
  const int64_t element = (is_key ? 0 : segment.size() * kv_size_) + first * kv_size_;
  const KvPayloadType type = segment.cached->type();
  const uint8_t* const payload = loader_.payload(layer, run.segment);
  kernels::PropagateParams params = {
      .target = target, .num_tokens = run.end - run.begin, .width = kv_size_};
  if (type == KvPayloadType::kBf16) {
    params.cached_bf16 = reinterpret_cast<const uint16_t*>(payload) + element;
  } else if (type == KvPayloadType::kF32) {
    params.cached = reinterpret_cast<const float*>(payload) + element;
  } else {
    // Decoded where it goes, and shifted there while it is in the cache of the core.
    INTARSIA_RETURN_IF_ERROR(
        kernels::DecodeKv({.type = type,
                           .payload = payload,
                           .payload_bytes = loader_.payload_bytes(run.segment),
                           .num_tokens = segment.size(),
                           .width = kv_size_,
                           .half = is_key ? kernels::KvHalf::kKey : kernels::KvHalf::kValue,
                           .begin = first,
                           .count = run.end - run.begin,
                           .target = target}));
    if (run.chunk == nullptr) return Status::Ok();
    params.cached = target;
  }
  if (run.chunk != nullptr) {
    const int64_t num_deltas = static_cast<int64_t>(run.chunk->rows.size()) + 1;
    const PropagationWeights& weights = is_key ? run.chunk->key : run.chunk->value;
    params.weights = weights.weights.data() + first * num_deltas;
    params.deltas = is_key ? run.key_shift : run.value_shift;
    params.num_deltas = num_deltas;
  }
  return kernels::Propagate(params);
}

Status LayerPlacer::PlaceRun(int32_t layer, const Run& run, Scratch* scratch) const {
  const model::ModelConfig& config = transformer_.config();
  INTARSIA_RETURN_IF_ERROR(ReadShifted(layer, run, /*is_key=*/true, scratch->k.data()));
  INTARSIA_RETURN_IF_ERROR(ReadShifted(layer, run, /*is_key=*/false, scratch->v.data()));
  const Angles& angles = config.has_window(layer) ? angles_windowed_ : angles_;
  const int64_t offset = run.begin * (angles.rotary_dim / 2);
  INTARSIA_RETURN_IF_ERROR(kernels::ApplyRope({.x = scratch->k.data(),
                                               .cosines = angles.cosines.data() + offset,
                                               .sines = angles.sines.data() + offset,
                                               .y = scratch->k_rotated.data(),
                                               .num_tokens = run.end - run.begin,
                                               .num_heads = config.num_kv_heads,
                                               .head_dim = config.head_dim,
                                               .rotary_dim = angles.rotary_dim,
                                               .pairing = config.rope_pairing},
                                              /*pool=*/nullptr));
  return kernels::StoreKv({.layer = cache_->layer(layer),
                           .positions = positions_.data() + run.begin,
                           .k = scratch->k_rotated.data(),
                           .v = scratch->v.data(),
                           .num_tokens = run.end - run.begin});
}

Status LayerPlacer::PlaceAroundKept(int32_t layer, Run run, Scratch* scratch) const {
  const int64_t end = run.end;
  for (auto kept = std::ranges::lower_bound(kept_, run.begin);; ++kept) {
    const bool is_last = kept == kept_.end() || *kept >= end;
    run.end = is_last ? end : *kept;
    if (run.begin < run.end) INTARSIA_RETURN_IF_ERROR(PlaceRun(layer, run, scratch));
    if (is_last) return Status::Ok();
    run.begin = *kept + 1;
  }
}

// A task is a range of positions and takes from each run what lies within it.
Status LayerPlacer::PlaceRuns(int32_t layer, const std::vector<Run>& runs) {
  ThreadPool* const pool = transformer_.pool();
  const int64_t num_tasks = (prompt_.question_begin() + kTokensPerTask - 1) / kTokensPerTask;
  FirstError error(pool->num_threads());
  pool->ParallelFor(num_tasks, [&](int64_t item, int worker) {
    // The last chunks are often those with the most rows and therefore the most work.
    const int64_t task = num_tasks - 1 - item;
    for (const Run& whole : runs) {
      Run run = whole;
      run.begin = std::max(whole.begin, task * kTokensPerTask);
      run.end = std::min(whole.end, (task + 1) * kTokensPerTask);
      if (run.begin >= run.end) continue;
      error.Set(worker, PlaceAroundKept(layer, run, &scratches_[static_cast<size_t>(worker)]));
    }
  });
  return error.Get();
}

Status LayerPlacer::Place(int32_t layer, Scope scope, const Propagation* propagation,
                          const LayerShift* shift) {
  std::vector<Run> runs;
  size_t next_chunk = 0;
  for (size_t index = 0; index < prompt_.segments().size(); ++index) {
    const Segment& segment = prompt_.segments()[index];
    if (segment.cached == nullptr) continue;
    Run run = {.segment = index, .begin = segment.begin, .end = segment.end};
    const bool is_shifted = propagation != nullptr && next_chunk < propagation->chunks().size() &&
                            propagation->chunks()[next_chunk].segment == index;
    if (is_shifted) {
      run.chunk = &propagation->chunks()[next_chunk];
      run.key_shift = shift->key[next_chunk].data();
      run.value_shift = shift->value[next_chunk].data();
      ++next_chunk;
    }
    if (is_shifted || scope == Scope::kAll) runs.push_back(run);
  }
  return PlaceRuns(layer, runs);
}

void LayerPlacer::Keep(int32_t layer, const Propagation& propagation, LayerShift shift) {
  if (kept_rows_.empty()) {
    for (const ChunkPropagation& chunk : propagation.chunks()) {
      kept_rows_.push_back(chunk.rows);
      kept_.insert(kept_.end(), chunk.rows.begin(), chunk.rows.end());
    }
    kept_shifts_.resize(static_cast<size_t>(transformer_.config().num_layers));
  }
  kept_shifts_[static_cast<size_t>(layer)] = std::move(shift);
}

const float* LayerPlacer::KeptDelta(int32_t layer, const MeasuredRows& measured,
                                    int32_t position) const {
  if (kept_rows_.empty()) return nullptr;
  const LayerShift& shift = kept_shifts_[static_cast<size_t>(layer)];
  if (shift.key.empty()) return nullptr;  // the pass that keeps them is measuring them now
  const std::vector<int32_t>& rows = kept_rows_[measured.chunk_index];
  const auto at = std::ranges::lower_bound(rows, position);
  if (at == rows.end() || *at != position) return nullptr;
  return (measured.is_key ? shift.key : shift.value)[measured.chunk_index].data() +
         (at - rows.begin()) * kv_size_;
}

Status LayerPlacer::MeasureRows(const model::LayerRows& rows, const MeasuredRows& measured) const {
  const ChunkPropagation& chunk = *measured.chunk;
  const float* const computed = measured.is_key ? rows.k : rows.v;
  auto found = rows.positions.begin();
  for (int64_t s = measured.begin; s < measured.end; ++s) {
    const int32_t position = chunk.rows[static_cast<size_t>(s)];
    if (const float* known = KeptDelta(rows.layer, measured, position); known != nullptr) {
      std::copy_n(known, kv_size_, measured.deltas + s * kv_size_);
      continue;
    }
    found = std::lower_bound(found, rows.positions.end(), position);
    INTARSIA_CHECK(found != rows.positions.end() && *found == position);
    float* const delta = measured.deltas + s * kv_size_;
    const Run run = {.segment = chunk.segment, .begin = position, .end = position + 1};
    INTARSIA_RETURN_IF_ERROR(ReadShifted(rows.layer, run, measured.is_key, delta));
    const float* const fresh = computed + (found - rows.positions.begin()) * kv_size_;
    for (int64_t i = 0; i < kv_size_; ++i) delta[i] = fresh[i] - delta[i];
  }
  return Status::Ok();
}

Result<LayerShift> LayerPlacer::Measure(const Propagation& propagation,
                                        const model::LayerRows& rows) const {
  const std::span<const ChunkPropagation> chunks = propagation.chunks();
  LayerShift shift;
  std::vector<MeasuredRows> pieces;  // attention likes some chunks, so they differ in rows
  for (size_t index = 0; index < chunks.size(); ++index) {
    const ChunkPropagation& chunk = chunks[index];
    const int64_t num_rows = std::ssize(chunk.rows);
    for (const bool is_key : {true, false}) {
      AlignedArray<float>& deltas = (is_key ? shift.key : shift.value).emplace_back();
      INTARSIA_ASSIGN_OR_RETURN(deltas, AlignedArray<float>::TryCreate((num_rows + 1) * kv_size_));
      for (int64_t begin = 0; begin < num_rows; begin += kRowsPerTask) {
        pieces.push_back({.chunk = &chunk,
                          .chunk_index = index,
                          .is_key = is_key,
                          .begin = begin,
                          .end = std::min(num_rows, begin + kRowsPerTask),
                          .deltas = deltas.data()});
      }
    }
  }
  ThreadPool* const pool = transformer_.pool();
  FirstError error(pool->num_threads());
  pool->ParallelFor(std::ssize(pieces), [&](int64_t item, int worker) {
    error.Set(worker, MeasureRows(rows, pieces[static_cast<size_t>(item)]));
  });
  INTARSIA_RETURN_IF_ERROR(error.Get());
  // Keys, then values, of all chunks: what each adds to g.
  std::vector<std::vector<float>> sums(2 * chunks.size());
  pool->ParallelFor(std::ssize(sums), [&](int64_t item, int) {
    const bool is_key = item < std::ssize(chunks);
    const size_t index = static_cast<size_t>(item) % chunks.size();
    const float* delta = (is_key ? shift.key : shift.value)[index].data();
    std::vector<float> sum(static_cast<size_t>(kv_size_));
    for (const float u : (is_key ? chunks[index].key : chunks[index].value).u) {
      for (float& value : sum) value += u * *delta++;
    }
    sums[static_cast<size_t>(item)] = std::move(sum);
  });
  const bool is_causal = propagation.mode() == PropagationMode::kCausal;
  for (const bool is_key : {true, false}) {
    std::vector<AlignedArray<float>>& shifts = is_key ? shift.key : shift.value;
    const size_t first = is_key ? 0 : chunks.size();
    std::vector<float> g(static_cast<size_t>(kv_size_));
    const auto add = [&](size_t index) {
      for (size_t i = 0; i < g.size(); ++i) g[i] += sums[first + index][i];
    };
    // The causal g of a chunk holds the chunks before it.
    for (size_t index = 0; index < chunks.size() && !is_causal; ++index) add(index);
    for (size_t index = 0; index < chunks.size(); ++index) {
      std::ranges::copy(g, shifts[index].data() + shifts[index].size() - kv_size_);
      if (is_causal) add(index);
    }
  }
  return shift;
}

std::vector<float> LayerPlacer::ValueDeviation(int32_t layer, const model::LayerRows& rows) const {
  std::vector<float> deviation(static_cast<size_t>(prompt_.num_tokens()));
  std::vector<float> cached(static_cast<size_t>(kv_size_));
  for (size_t row = 0; row < rows.positions.size(); ++row) {
    const int64_t position = rows.positions[row];
    for (size_t index = 0; index < prompt_.segments().size(); ++index) {
      const Segment& segment = prompt_.segments()[index];
      if (segment.cached == nullptr || position < segment.begin || position >= segment.end)
        continue;
      const Run run = {.segment = index, .begin = position, .end = position + 1};
      INTARSIA_CHECK(ReadShifted(layer, run, /*is_key=*/false, cached.data()).ok());
      const float* const fresh = rows.v + static_cast<int64_t>(row) * kv_size_;
      float sum = 0.0f;
      for (int64_t i = 0; i < kv_size_; ++i) {
        const float difference = fresh[i] - cached[static_cast<size_t>(i)];
        sum += difference * difference;
      }
      deviation[static_cast<size_t>(position)] = sum;
    }
  }
  return deviation;
}

}  // namespace intarsia::engine
