#include "kernels/attention_cuda_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "base/rounding.h"
#include "kernels/attention_shares.h"

namespace intarsia::kernels {
namespace {

constexpr int64_t kDecodeQueries = 16;
// A tile of the Hopper kernel has 128; up to half of that, a smaller one wastes less.
constexpr int64_t kHopperQueriesMin = 65;
constexpr int32_t kHopper = 90;
// A part of the keys is not shorter than this: merging it would cost more than it saves.
constexpr int64_t kDecodeSplitKeysMin = 128;
constexpr int64_t kPrefillSplitKeysMin = 512;
constexpr int64_t kSplitsMax = 256;
// The Hopper kernel cuts tiles by what they see unless there are half again as many as blocks,
// which even each other out, or so few that each is cut into many parts anyway, or they see too
// little.
constexpr int64_t kEqualPartsMin = 5;
constexpr int64_t kSharedKeysMin = 1024;
constexpr int32_t kLog2OfQueriesMax = 31;
constexpr int64_t kWorkspaceAlignment = 256;
constexpr double kLog2E = 1.4426950408889634;

Status Invalid(std::string message) {
  return Status(StatusCode::kInvalidArgument, "attention on a device: " + std::move(message));
}

bool IsMisaligned(const void* pointer, uintptr_t alignment) {
  return pointer == nullptr || reinterpret_cast<uintptr_t>(pointer) % alignment != 0;
}

int64_t AlignUp(int64_t value) { return RoundUp(value, kWorkspaceAlignment); }

const char* NameOf(AttentionKernel kernel) {
  switch (kernel) {
    case AttentionKernel::kDecode:
      return "decode";
    case AttentionKernel::kPrefill:
      return "prefill";
    case AttentionKernel::kHopper:
      return "hopper";
  }
  return "unknown";
}

// Whether tiles are cut on the device.
bool IsShared(const AttentionProblem& problem, const AttentionConfig& config,
              int64_t tiles_per_sequence) {
  const int64_t num_tiles = tiles_per_sequence * problem.num_kv_heads;
  return config.kernel == AttentionKernel::kHopper && problem.num_sequences == 1 &&
         problem.num_keys >= kSharedKeysMin && tiles_per_sequence <= AttentionShares::kTilesMax &&
         problem.num_kv_heads <= problem.num_multiprocessors &&
         2 * num_tiles < 3 * problem.num_multiprocessors &&
         kEqualPartsMin * num_tiles > problem.num_multiprocessors;
}

Status CheckNumbers(const AttentionRowsCudaParams& params) {
  if (!std::isfinite(params.scale) || params.scale <= 0.0f) {
    return Invalid("scale of the scores must be a number > 0: scale=" +
                   std::to_string(params.scale));
  }
  if (params.window < 0) {
    return Invalid("window is negative: window=" + std::to_string(params.window));
  }
  if (!std::isfinite(params.logit_softcap) || params.logit_softcap < 0.0f) {
    return Invalid("softcap is not a number >= 0: logit_softcap=" +
                   std::to_string(params.logit_softcap));
  }
  return Status::Ok();
}

}  // namespace

std::string AttentionProblem::ToString() const {
  return "sequences=" + std::to_string(num_sequences) +
         " queries=" + std::to_string(queries_per_sequence) + " keys=" + std::to_string(num_keys) +
         " kv_heads=" + std::to_string(num_kv_heads) + " group=" + std::to_string(group_size) +
         " head_dim=" + std::to_string(head_dim) + " sm=" + std::to_string(capability) + "x" +
         std::to_string(num_multiprocessors);
}

std::string AttentionConfig::ToString() const {
  return std::string("kernel=") + NameOf(kernel) + " tile=" + std::to_string(tile_queries) + "x" +
         std::to_string(tile_keys);
}

std::string AttentionLaunch::ToString() const {
  return "tiles=" + std::to_string(tiles_per_sequence) + " splits=" + std::to_string(num_splits) +
         " items=" + std::to_string(num_items) + " workspace=" + std::to_string(workspace_bytes);
}

AttentionConfig ChooseAttentionConfig(const AttentionProblem& problem) {
  if (problem.queries_per_sequence <= kDecodeQueries) {
    return {AttentionKernel::kDecode, kDecodeQueries, 8192 / problem.head_dim};
  }
  if (problem.capability == kHopper && problem.queries_per_sequence >= kHopperQueriesMin) {
    return {AttentionKernel::kHopper, kHopperTileQueries, problem.head_dim > 128 ? 64 : 128};
  }
  return {AttentionKernel::kPrefill, 64, problem.head_dim > 128 ? 32 : 64};
}

AttentionLaunch PlanAttentionLaunch(const AttentionProblem& problem,
                                    const AttentionConfig& config) {
  AttentionLaunch launch;
  launch.tiles_per_sequence = DivideUp(problem.queries_per_sequence, config.tile_queries);
  const int64_t num_tiles =
      launch.tiles_per_sequence * problem.num_kv_heads * problem.num_sequences;
  if (IsShared(problem, config, launch.tiles_per_sequence)) {
    launch.is_shared = true;
    launch.num_items = AttentionShares::kItemsOfBlockMax * problem.num_multiprocessors;
    launch.num_splits = launch.num_items / problem.num_kv_heads;
    const int64_t partial_rows = launch.num_items * config.tile_queries;
    launch.workspace_bytes =
        AlignUp(partial_rows * problem.head_dim * int64_t{sizeof(float)}) +
        AlignUp(partial_rows * int64_t{sizeof(float)}) +
        AlignUp(launch.tiles_per_sequence * static_cast<int64_t>(sizeof(AttentionTileParts)));
    return launch;
  }
  // A block of the Hopper kernel fills a multiprocessor; of the others two fit side by side.
  const int64_t wanted =
      problem.num_multiprocessors * (config.kernel == AttentionKernel::kHopper ? 1 : 2);
  const int64_t keys_min =
      config.kernel == AttentionKernel::kDecode ? kDecodeSplitKeysMin : kPrefillSplitKeysMin;
  launch.num_splits = std::clamp<int64_t>(
      wanted / num_tiles, 1, std::min(kSplitsMax, DivideUp(problem.num_keys, keys_min)));
  launch.num_items = num_tiles * launch.num_splits;
  if (launch.num_splits > 1) {
    const int64_t num_queries =
        problem.num_sequences * problem.num_kv_heads * problem.queries_per_sequence;
    const int64_t partial_rows = launch.num_splits * num_queries;
    launch.workspace_bytes = AlignUp(partial_rows * problem.head_dim * int64_t{sizeof(float)}) +
                             AlignUp(partial_rows * int64_t{sizeof(float)});
  }
  return launch;
}

Status CheckAttentionRowsCuda(const AttentionRowsCudaParams& params) {
  INTARSIA_RETURN_IF_ERROR(CheckPagedKvLayer(params.layer));
  const int32_t head_dim = params.layer.head_dim;
  if (head_dim != 64 && head_dim != 128 && head_dim != 256) {
    return Status(StatusCode::kUnsupported,
                  "attention on a device: head_dim is compiled in for 64, 128 and 256: head_dim=" +
                      std::to_string(head_dim));
  }
  if (params.num_heads < 1 || params.num_heads % params.layer.num_kv_heads != 0) {
    return Invalid("num_heads is not a multiple of num_kv_heads: num_heads=" +
                   std::to_string(params.num_heads) +
                   " num_kv_heads=" + std::to_string(params.layer.num_kv_heads));
  }
  if (params.num_rows < 0 ||
      params.num_rows >= (int64_t{1} << kLog2OfQueriesMax) / params.num_heads) {
    return Invalid("number of rows is out of range: num_rows=" + std::to_string(params.num_rows) +
                   " num_heads=" + std::to_string(params.num_heads));
  }
  INTARSIA_RETURN_IF_ERROR(CheckNumbers(params));
  if (params.page_table_stride < 0) {
    return Invalid("page_table_stride is negative: page_table_stride=" +
                   std::to_string(params.page_table_stride));
  }
  if (params.num_rows == 0) return Status::Ok();
  if (params.max_position < 0 || params.max_position >= params.layer.num_tokens ||
      params.max_position >= std::numeric_limits<int32_t>::max() - 2 * kPageTokens) {
    return Invalid("largest position is outside of the kv layer: max_position=" +
                   std::to_string(params.max_position) +
                   " num_tokens=" + std::to_string(params.layer.num_tokens));
  }
  if (IsMisaligned(params.q, 16) || IsMisaligned(params.positions, alignof(int32_t))) {
    return Invalid("q or positions is null or misaligned");
  }
  return Status::Ok();
}

Status CheckAttentionOutput(const AttentionRowsCudaParams& params) {
  if (IsMisaligned(params.output, 16)) return Invalid("output is null or misaligned");
  if (reinterpret_cast<uintptr_t>(params.lse) % alignof(float) != 0) {
    return Invalid("lse is misaligned");
  }
  return Status::Ok();
}

Status CheckAttentionWorkspace(const AttentionRowsCudaParams& params, int64_t num_bytes) {
  if (num_bytes == 0) return Status::Ok();
  if (params.workspace_bytes < num_bytes || IsMisaligned(params.workspace, kWorkspaceAlignment)) {
    return Invalid("workspace is null, misaligned or too small: want=" + std::to_string(num_bytes) +
                   " got=" + std::to_string(params.workspace_bytes));
  }
  return Status::Ok();
}

Status CheckAttentionMassCuda(const AttentionMassCudaParams& params) {
  const AttentionRowsCudaParams& rows = params.rows;
  INTARSIA_RETURN_IF_ERROR(CheckAttentionRowsCuda(rows));
  if (rows.page_table_stride != 0 || rows.num_rows > kMassRowsMax) {
    return Invalid("attention mass takes up to " + std::to_string(kMassRowsMax) +
                   " rows of one request: num_rows=" + std::to_string(rows.num_rows));
  }
  if (rows.num_rows == 0) return Status::Ok();
  if (IsMisaligned(params.weights, alignof(float)) || IsMisaligned(params.mass, alignof(float))) {
    return Invalid("weights or mass is null or misaligned");
  }
  if (params.num_keys <= rows.max_position) {
    return Invalid("attention mass is shorter than what is attended to: num_keys=" +
                   std::to_string(params.num_keys) +
                   " max_position=" + std::to_string(rows.max_position));
  }
  return Status::Ok();
}

AttentionProblem DescribeAttention(const AttentionRowsCudaParams& params, int32_t capability,
                                   int32_t num_multiprocessors) {
  const int32_t group_size = params.num_heads / params.layer.num_kv_heads;
  const bool is_batch = params.page_table_stride != 0;
  int64_t num_keys = params.max_position + 1;
  if (params.window > 0) {
    // The rows of a tile see different keys; those of a batch tile are one row.
    num_keys = std::min<int64_t>(num_keys, int64_t{params.window} + 2 * kPageTokens);
  }
  return {.num_sequences = is_batch ? params.num_rows : 1,
          .queries_per_sequence = (is_batch ? 1 : params.num_rows) * group_size,
          .num_keys = num_keys,
          .num_kv_heads = params.layer.num_kv_heads,
          .group_size = group_size,
          .head_dim = params.layer.head_dim,
          .capability = capability,
          .num_multiprocessors = num_multiprocessors};
}

AttentionArguments MakeAttentionArguments(const AttentionRowsCudaParams& params,
                                          const AttentionProblem& problem,
                                          const AttentionLaunch& launch) {
  AttentionArguments arguments;
  arguments.layer = params.layer;
  arguments.q = params.q;
  arguments.positions = params.positions;
  arguments.output = params.output;
  arguments.lse = params.lse;
  arguments.page_table_stride = params.page_table_stride;
  arguments.num_rows = static_cast<int32_t>(params.num_rows);
  arguments.num_heads = params.num_heads;
  arguments.group_size = problem.group_size;
  arguments.queries_per_sequence = static_cast<int32_t>(problem.queries_per_sequence);
  arguments.rows_per_sequence = arguments.queries_per_sequence / problem.group_size;
  arguments.tiles_per_sequence = static_cast<int32_t>(launch.tiles_per_sequence);
  arguments.num_splits = static_cast<int32_t>(launch.num_splits);
  arguments.num_items = static_cast<int32_t>(launch.num_items);
  arguments.window = params.window;
  if (params.logit_softcap > 0.0f) {
    const double cap = params.logit_softcap;
    arguments.score_factor = static_cast<float>(2.0 * kLog2E * params.scale / cap);
    arguments.cap_log2 = static_cast<float>(cap * kLog2E);
  } else {
    arguments.score_factor = static_cast<float>(kLog2E * params.scale);
  }
  if (launch.num_splits > 1) {
    const int64_t partial_rows = launch.is_shared
                                     ? launch.num_items * kHopperTileQueries
                                     : launch.num_splits * params.num_rows * params.num_heads;
    auto* const workspace = static_cast<unsigned char*>(params.workspace);
    const int64_t lse_offset =
        AlignUp(partial_rows * params.layer.head_dim * int64_t{sizeof(float)});
    arguments.partial_output = static_cast<float*>(params.workspace);
    arguments.partial_lse = reinterpret_cast<float*>(workspace + lse_offset);
    if (launch.is_shared) {
      arguments.tile_parts = reinterpret_cast<AttentionTileParts*>(
          workspace + lse_offset + AlignUp(partial_rows * int64_t{sizeof(float)}));
    }
  }
  return arguments;
}

}  // namespace intarsia::kernels
