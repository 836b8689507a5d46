// Bound: latency. Reads keys four or eight times, some ten thousand of them, from the second-level
// cache.
// Design: a block a query; the key of a rank is searched a byte at a time.
#include <algorithm>
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/kernel_launch.cuh"
#include "kernels/prospect_workspace.cuh"
#include "kernels/tensor_core.cuh"

namespace intarsia::kernels {
namespace {

struct ProspectTraits {
  static constexpr int kThreads = 1024;
  static constexpr int64_t kCapacityMin = 32'768;
  static constexpr int64_t kCapacityFactor = 8;  // of what is kept in the end
  static constexpr int64_t kSeedsMin = 1'024;
  static constexpr int64_t kSeedsMax = 16'384;
  static constexpr int64_t kSeedsFactor = 4;  // of k, so that few of the k best share a part
  static constexpr int64_t kSeedsMaxForK = 65'536;
  static constexpr int64_t kPartsPerSeed = 64;
};

struct SelectShared {
  int bins[kRadixBins];
  int bin;
  int wanted;
  int num;
};

// The `wanted`-th largest of `count` keys, 0 if there are fewer. All threads call it.
template <typename Key>
__device__ Key KeyOfRank(const Key* keys, int count, int wanted, SelectShared* shared) {
  if (count < wanted) return 0;
  constexpr int kTop = static_cast<int>(sizeof(Key)) * 8 - 8;
  const int thread = static_cast<int>(threadIdx.x);
  Key prefix = 0;
  __syncthreads();
  if (thread == 0) shared->wanted = wanted;
  for (int shift = kTop; shift >= 0; shift -= 8) {
    if (thread < kRadixBins) shared->bins[thread] = 0;
    __syncthreads();
    for (int i = thread; i < count; i += ProspectTraits::kThreads) {
      const Key key = keys[i];
      // Shifting by all bits is undefined, so the first round compares nothing.
      if (shift == kTop || key >> (shift + 8) == prefix >> (shift + 8)) {
        atomicAdd(&shared->bins[static_cast<int>(key >> shift & 0xffu)], 1);
      }
    }
    __syncthreads();
    if (thread < 32) FindBin(shared->bins, &shared->bin, &shared->wanted);
    __syncthreads();
    prefix |= static_cast<Key>(shared->bin) << shift;
  }
  return prefix;
}

// Grid: num_queries. Block: kThreads.
__global__ void __launch_bounds__(ProspectTraits::kThreads)
    StartKernel(const __grid_constant__ ProspectWorkspace workspace) {
  auto* const shared = reinterpret_cast<SelectShared*>(DynamicShared());
  const int64_t query = blockIdx.x;
  const uint32_t floor =
      KeyOfRank(workspace.seeds + query * workspace.num_seeds, workspace.num_seeds,
                static_cast<int>(workspace.lists.k), shared);
  if (threadIdx.x == 0) {
    ProspectState& state = workspace.states[query];
    state.threshold = uint64_t{floor} << 32;
    state.count = 0;
    state.is_complete = 0;
    state.is_truncated = 0;
  }
}

// The number of entries that are not below `threshold`. All threads call it.
__device__ int CountFrom(const uint64_t* entries, int count, uint64_t threshold,
                         SelectShared* shared) {
  __syncthreads();
  if (threadIdx.x == 0) shared->num = 0;
  __syncthreads();
  int own = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += ProspectTraits::kThreads) {
    own += entries[i] >= threshold ? 1 : 0;
  }
  if (own > 0) atomicAdd(&shared->num, own);
  __syncthreads();
  return shared->num;
}

// Grid: num_queries. Block: kThreads.
__global__ void __launch_bounds__(ProspectTraits::kThreads)
    FinishKernel(const __grid_constant__ ProspectWorkspace workspace) {
  auto* const shared = reinterpret_cast<SelectShared*>(DynamicShared());
  const int64_t query = blockIdx.x;
  const auto candidates_max = static_cast<int>(workspace.lists.candidates_max);
  ProspectState& state = workspace.states[query];
  if (state.is_complete != 0) return;
  const uint64_t* const entries = workspace.entries + query * workspace.capacity;
  const bool is_complete = state.count <= static_cast<uint32_t>(workspace.capacity);
  const int num_kept = is_complete ? static_cast<int>(state.count) : workspace.capacity;
  const uint32_t floor = KeyOfRank(workspace.lowers + query * workspace.capacity, num_kept,
                                   static_cast<int>(workspace.lists.k), shared);
  uint64_t threshold = state.threshold;
  if (uint64_t{floor} << 32 > threshold) threshold = uint64_t{floor} << 32;
  bool is_truncated = state.is_truncated != 0;
  if (CountFrom(entries, num_kept, threshold, shared) > candidates_max) {
    threshold = KeyOfRank(entries, num_kept, candidates_max, shared);
    is_truncated = true;
  }
  __syncthreads();  // all have read the state and the number
  if (threadIdx.x == 0) shared->num = 0;
  __syncthreads();
  if (is_complete) {
    int32_t* const rows = workspace.lists.rows + query * candidates_max;
    float* const limits = workspace.lists.limits + query * candidates_max;
    for (int i = static_cast<int>(threadIdx.x); i < num_kept; i += ProspectTraits::kThreads) {
      const uint64_t entry = entries[i];
      if (entry < threshold) continue;
      const int at = atomicAdd(&shared->num, 1);
      rows[at] = static_cast<int32_t>(~static_cast<uint32_t>(entry));
      limits[at] = ScoreOf(static_cast<uint32_t>(entry >> 32));
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    state.threshold = threshold;
    state.count = 0;
    state.is_complete = is_complete ? 1 : 0;
    state.is_truncated = is_truncated ? 1 : 0;
    workspace.lists.outcomes[query] = {shared->num, state.is_complete, state.is_truncated, 0};
  }
}

int64_t CapacityOf(const ProspectLists& lists) {
  return std::max(ProspectTraits::kCapacityMin,
                  ProspectTraits::kCapacityFactor * lists.candidates_max);
}

int64_t SeedsMaxOf(const ProspectLists& lists) {
  return std::max(ProspectTraits::kSeedsMax,
                  std::min(ProspectTraits::kSeedsFactor * lists.k, ProspectTraits::kSeedsMaxForK));
}

Status LaunchBlocks(const char* operation, void (*kernel)(ProspectWorkspace),
                    const ProspectWorkspace& workspace, Stream stream) {
  return LaunchKernel(operation, kernel,
                      {.num_blocks = static_cast<unsigned>(workspace.lists.num_queries),
                       .num_threads = ProspectTraits::kThreads,
                       .shared_bytes = static_cast<int>(sizeof(SelectShared)),
                       .stream = stream},
                      workspace);
}

}  // namespace

int64_t ProspectWorkspaceBytes(const ProspectLists& lists) {
  const int64_t query_bytes =
      static_cast<int64_t>(sizeof(ProspectState)) + 12 * CapacityOf(lists) + 4 * SeedsMaxOf(lists);
  return (lists.num_queries * query_bytes + 255) / 256 * 256;
}

ProspectWorkspace MakeProspectWorkspace(const ProspectLists& lists, int64_t num_rows,
                                        int64_t num_parts, void* memory) {
  ProspectWorkspace workspace;
  workspace.lists = lists;
  const int64_t capacity = CapacityOf(lists);
  // With fewer rows than are kept, a threshold saves nothing.
  int64_t num_seeds = 0;
  if (num_rows > capacity) {
    num_seeds = std::clamp(num_parts / ProspectTraits::kPartsPerSeed, ProspectTraits::kSeedsMin,
                           ProspectTraits::kSeedsMax);
    num_seeds = std::max(
        num_seeds, std::min(ProspectTraits::kSeedsFactor * lists.k, ProspectTraits::kSeedsMaxForK));
    num_seeds = std::min(num_seeds, num_parts);
  }
  workspace.capacity = static_cast<int32_t>(capacity);
  workspace.num_seeds = static_cast<int32_t>(num_seeds);
  workspace.states = static_cast<ProspectState*>(memory);
  workspace.entries = reinterpret_cast<uint64_t*>(workspace.states + lists.num_queries);
  workspace.lowers = reinterpret_cast<uint32_t*>(workspace.entries + lists.num_queries * capacity);
  workspace.seeds = workspace.lowers + lists.num_queries * capacity;
  return workspace;
}

Status StartProspects(const ProspectWorkspace& workspace, Stream stream) {
  return LaunchBlocks("prospects start launch", StartKernel, workspace, stream);
}

Status FinishProspects(const ProspectWorkspace& workspace, Stream stream) {
  return LaunchBlocks("prospects finish launch", FinishKernel, workspace, stream);
}

}  // namespace intarsia::kernels
