// DevicePlacer: puts the cached keys and values of a prompt into its pages on a device, layer by
// layer, and passes on what the rows of a pass show of their shift.
//
// The device's form of LayerPlacer: tables of segments, rows and weights are made once per pass,
// and a layer is two launches, MeasureShift and PlaceKv. Every call enqueues work and returns
// without waiting.
//
// Thread safety: owned by one thread.
// Lifetime: the prompt, the loader, the pages and the stream must outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/fusion/device_loader.h"
#include "engine/fusion/device_span.h"
#include "engine/fusion/device_tables.h"
#include "engine/fusion/prompt.h"
#include "engine/fusion/propagation.h"
#include "kernels/device.h"
#include "kernels/measure_shift.h"
#include "kernels/place_kv.h"
#include "kernels/propagation_weights.h"
#include "model/cuda_forward.h"
#include "model/device_kv.h"

namespace intarsia::engine {

class DevicePlacer {
 public:
  // What all layers share.
  struct Target {
    const model::DeviceKv* kv = nullptr;
    int32_t kv_size = 0;
    int32_t num_layers = 0;
    kernels::Stream stream = nullptr;
    // Another one, on which the weights of a pass are solved for beside its first layer, which
    // nothing shifts in.
    kernels::Stream solving = nullptr;
    PinnedArena* arena = nullptr;  // for tables; its pieces live until the stream is done
  };

  // Errors: kResourceExhausted, and those of MakePlacedSegment.
  static Result<std::unique_ptr<DevicePlacer>> Create(const Prompt& prompt,
                                                      const DeviceLoader& loader,
                                                      const Target& target);
  // The stream is held back until the other one is done with what the placer has.
  ~DevicePlacer();
  DevicePlacer(const DevicePlacer&) = delete;
  DevicePlacer& operator=(const DevicePlacer&) = delete;

  // Begins a pass over `positions`, ascending, which holds those of `rows`, the recomputed
  // candidates, that no earlier pass has kept. Unless `mode` is kOff, enqueues the solve for the
  // weights with which their shift is passed on. kKept: the rows of this pass stay as it leaves
  // them, with what they show of the shift in each layer. Errors: kResourceExhausted, kInternal.
  enum class Rows : uint8_t { kOfThisPass, kKept };
  Status BeginPass(std::span<const int32_t> positions, std::span<const int32_t> rows,
                   PropagationMode mode, Rows kind);

  // Places cached tokens of a layer that are not rows of the pass. kShifted leaves segments alone
  // to which no shift is passed on. `rows` are those of the pass, whose shift is passed on; null:
  // as cached.
  enum class Scope : uint8_t { kAll, kShifted };
  Status Place(int32_t layer, Scope scope, const kernels::RopeDigits& rope,
               const model::CudaRows* rows);

  // The same of all cached tokens as they are, on another stream than the rest. REQUIRES: that
  // stream is held back until BeginPass is done, and the layer is there.
  Status PlaceAhead(int32_t layer, const kernels::RopeDigits& rope, kernels::Stream stream);

  // How far the V of a layer's rows is from their cached V, by position, for the rows of segments
  // that propagation may shift; the others' places are left alone. The rows are those at
  // `positions`. Errors: kResourceExhausted, kInternal.
  Status MeasureDeviation(int32_t layer, std::span<const int32_t> positions,
                          const model::CudaRows& rows, float* deviation);

  bool is_shifting() const { return num_chunks_ > 0; }
  // That the last pass was solved for; 0 if it was not. REQUIRES: both streams have been waited
  // for.
  Result<double> SolveMilliseconds() const { return solve_span_.Milliseconds(); }

 private:
  // Tiles of segments with one type of payload.
  struct TileRun {
    KvPayloadType type = KvPayloadType::kBf16;
    DeviceTables::Offset tiles = 0;
    int32_t num_tiles = 0;
  };

  DevicePlacer(const Prompt& prompt, const DeviceLoader& loader, const Target& target)
      : prompt_(prompt), loader_(loader), target_(target) {}
  std::vector<TileRun> AddTiles(std::span<const uint8_t> wanted);
  Result<kernels::PropagationLayout> LayOut(std::span<const int32_t> rows);
  void AddRows(std::span<const int32_t> positions, std::span<const int32_t> rows,
               const kernels::PropagationLayout& layout);
  Status Solve(const kernels::PropagationLayout& layout, PropagationMode mode);
  // Holds the stream back until the weights are there. Once for each pass is enough.
  Status WaitForWeights();
  Status Measure(int32_t layer, const model::CudaRows& rows);
  // What the rows of the pass at hand, or those kept, show of the shift: of K (0) or V (1).
  uint16_t* Deltas(int half, int32_t layer) const;
  uint16_t* KeptDeltas(int half, int32_t layer) const;
  kernels::PlaceKvParams ParamsOf(int32_t layer, const kernels::RopeDigits& rope) const;
  Status PlaceRuns(std::span<const TileRun> runs, kernels::PlaceKvParams params,
                   kernels::Stream stream) const;

  const Prompt& prompt_;
  const DeviceLoader& loader_;
  const Target target_;
  std::vector<kernels::PlacedSegment> segments_;  // without tokens where nothing is cached

  // Of the pass at hand.
  DeviceTables tables_;
  DeviceTables::Offset segments_at_ = 0;
  DeviceTables::Offset is_row_at_ = 0;
  DeviceTables::Offset chunks_at_ = 0;
  DeviceTables::Offset weigh_tiles_at_ = 0;
  DeviceTables::Offset rows_at_ = 0;       // token of its chunk, of each row
  DeviceTables::Offset pass_rows_at_ = 0;  // row of the pass, or of what is known, of each row
  std::vector<TileRun> all_tiles_;
  std::vector<TileRun> shifted_tiles_;
  int32_t num_chunks_ = 0;  // that a shift is passed on to
  kernels::PropagationOrder order_ = kernels::PropagationOrder::kTwoSided;
  kernels::DeviceBuffer weights_[2];  // K, V
  kernels::DeviceBuffer u_[2];
  kernels::DeviceBuffer deltas_[2];
  kernels::DeviceBuffer solve_workspace_;
  kernels::DeviceBuffer measure_workspace_;
  bool is_keeping_ = false;
  bool is_solving_ = false;  // on the other stream, which nobody has waited for
  std::optional<kernels::DeviceEvent> tables_there_;
  std::optional<kernels::DeviceEvent> solved_;
  DeviceSpan solve_span_;

  // Of the rows that an earlier pass has kept.
  std::vector<int32_t> kept_rows_;        // ascending positions
  kernels::DeviceBuffer kept_deltas_[2];  // [num_layers, deltas of a layer, kv_size]
  int64_t num_kept_deltas_ = 0;           // of a layer
};

}  // namespace intarsia::engine
