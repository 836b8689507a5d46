// LayerPlacer: puts cached keys and values at their place in a prompt, layer by layer.
//
// One walk over the tokens of a layer decodes the payload, adds what propagation predicts, rotates
// K to its position and stores both in the order that attention reads.
//
// Thread safety: owned by one thread, which shares the work with the pool.
// Lifetime: the prompt, the loader, the transformer and the cache must outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/aligned_array.h"
#include "base/result.h"
#include "engine/fusion/layer_loader.h"
#include "engine/fusion/prompt.h"
#include "engine/fusion/propagation.h"
#include "model/transformer.h"

namespace intarsia::engine {

// The shift of one layer that the recomputed rows have shown, ready to be passed on.
struct LayerShift {
  // Per chunk of the Propagation: [m + 1, kv_size], the last row being g.
  std::vector<AlignedArray<float>> key;
  std::vector<AlignedArray<float>> value;
};

class LayerPlacer {
 public:
  // Errors: those of RopeTable::Fill, kResourceExhausted.
  static Result<std::unique_ptr<LayerPlacer>> Create(const Prompt& prompt,
                                                     const LayerLoader& loader,
                                                     const model::Transformer& transformer,
                                                     model::KvCache* cache);

  // Places the cached segments of `layer`, which must be loaded. With a `shift`, those of
  // `propagation` get it; both are null without. kShifted leaves all other segments alone.
  enum class Scope : uint8_t { kAll, kShifted };
  Status Place(int32_t layer, Scope scope, const Propagation* propagation, const LayerShift* shift);

  // What the rows of a layer, which must be loaded, show: new minus cached at each recomputed
  // position, with the sums g. The rows hold every recomputed position that is not kept.
  // Errors: kResourceExhausted.
  Result<LayerShift> Measure(const Propagation& propagation, const model::LayerRows& rows) const;

  // The recomputed rows of `propagation` stay as the pass at hand leaves them: Place does not touch
  // them any more, and Measure knows what they have shown in this layer.
  void Keep(int32_t layer, const Propagation& propagation, LayerShift shift);

  // Squared distance of the rows' V from the cached V, [num_tokens] by position; 0 elsewhere.
  std::vector<float> ValueDeviation(int32_t layer, const model::LayerRows& rows) const;

 private:
  LayerPlacer(const Prompt& prompt, const LayerLoader& loader,
              const model::Transformer& transformer, model::KvCache* cache);

  struct Angles {
    AlignedArray<float> cosines;  // [num_tokens, rotary_dim / 2]
    AlignedArray<float> sines;
    int32_t rotary_dim = 0;
  };
  // What a task works in: tokens of one segment at a time.
  struct Scratch {
    AlignedArray<float> k;
    AlignedArray<float> k_rotated;
    AlignedArray<float> v;
  };
  // The tokens of a segment within a task, and how they are shifted.
  struct Run {
    size_t segment = 0;
    int64_t begin = 0;  // positions
    int64_t end = 0;
    const ChunkPropagation* chunk = nullptr;  // null: as cached
    const float* key_shift = nullptr;         // [m + 1, kv_size]
    const float* value_shift = nullptr;
  };

  // Recomputed rows [begin, end) of a chunk, and where the deltas of all its rows go.
  struct MeasuredRows {
    const ChunkPropagation* chunk = nullptr;
    size_t chunk_index = 0;
    bool is_key = false;
    int64_t begin = 0;
    int64_t end = 0;
    float* deltas = nullptr;
  };

  Status PlaceRuns(int32_t layer, const std::vector<Run>& runs);
  // The pieces of a run between kept rows.
  Status PlaceAroundKept(int32_t layer, Run run, Scratch* scratch) const;
  Status PlaceRun(int32_t layer, const Run& run, Scratch* scratch) const;
  // What a kept row has shown, [kv_size]; null for a row that is not kept.
  const float* KeptDelta(int32_t layer, const MeasuredRows& measured, int32_t position) const;
  // Writes new minus cached of some of a chunk's recomputed rows.
  Status MeasureRows(const model::LayerRows& rows, const MeasuredRows& measured) const;
  // Cached K or V of a run as f32, plus its shift.
  Status ReadShifted(int32_t layer, const Run& run, bool is_key, float* target) const;

  // Immutable after construction.
  const Prompt& prompt_;
  const LayerLoader& loader_;
  const model::Transformer& transformer_;
  model::KvCache* const cache_;
  const int32_t kv_size_;
  Angles angles_;
  Angles angles_windowed_;          // empty for models without windows
  std::vector<int32_t> positions_;  // 0, 1, 2, ...

  std::vector<int32_t> kept_;                    // positions, ascending
  std::vector<std::vector<int32_t>> kept_rows_;  // the same by chunk of the propagation
  std::vector<LayerShift> kept_shifts_;          // by layer; empty for the first one

  std::vector<Scratch> scratches_;  // by worker
};

}  // namespace intarsia::engine
