// Codes come as blocks, a part at a time, through memory that is given back, and are made rows on
// the device. All work is on one stream, so that memory need not outlast a call.
#include <algorithm>
#include <array>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "index/device_code_scanner.h"
#include "kernels/binary_rows.h"
#include "kernels/binary_scan_cuda.h"
#include "kernels/device.h"
#include "kernels/prospects.h"

namespace intarsia::index {
namespace {

using kernels::BinaryCodeBlocks;
using kernels::BinaryRowsParams;
using kernels::DeviceBuffer;

constexpr int64_t kBlock = kernels::kBinaryBlockCodes;
constexpr int64_t kTile = kernels::kBinaryTileRows;
// Rows brought at a time, whole tiles and blocks.
constexpr int64_t kPartRows = int64_t{1} << 20;
// Each pass over the rows raises the threshold manifold; more passes than this are a fault.
constexpr int kPassesMax = 64;

int64_t TilesOf(int64_t num_rows) { return (num_rows + kTile - 1) / kTile; }

// The memory of so many rows.
struct Sizes {
  int64_t codes = 0;
  int64_t bounds = 0;
  int64_t factors = 0;  // of one kind
};
Sizes SizesOf(const BinaryCodeBlocks& blocks, int64_t num_rows) {
  const BinaryRowsParams params{blocks, TilesOf(num_rows) * kTile, nullptr, nullptr};
  return {.codes = params.rows().code_bytes(),
          .bounds = TilesOf(num_rows) * static_cast<int64_t>(sizeof(kernels::BinaryTileBounds)),
          .factors = TilesOf(num_rows) * kTile * static_cast<int64_t>(sizeof(float))};
}

class DeviceCodeScanner : public CodeScanner {
 public:
  DeviceCodeScanner(int32_t index, kernels::DeviceStream stream)
      : index_(index), stream_(index, std::move(stream)) {}

  int64_t num_rows() const override { return rows_.num_rows; }
  int64_t memory_bytes() const override {
    int64_t bytes = codes_.num_bytes() + bounds_.num_bytes();
    for (const DeviceBuffer& factors : factors_) bytes += factors.num_bytes();
    return bytes;
  }
  int64_t BytesFor(const BinaryCodeBlocks& blocks, int64_t num_rows) const override {
    if (num_rows <= capacity_) return memory_bytes();
    const Sizes sizes = SizesOf(blocks, CapacityFor(num_rows));
    return sizes.codes + sizes.bounds + 3 * sizes.factors;
  }

  Status Extend(const BinaryCodeBlocks& blocks, int64_t num_rows) override {
    const std::scoped_lock lock(mutex_);
    if (num_rows > kernels::kBinaryRowsMax) {
      return Status(StatusCode::kUnsupported,
                    "too many codes for a device: rows=" + std::to_string(num_rows) +
                        " max=" + std::to_string(kernels::kBinaryRowsMax));
    }
    INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(index_));
    // The last tile may have changed, and all of them come anew into new memory.
    int64_t begin = rows_.num_rows / kTile * kTile;
    if (num_rows > capacity_) {
      INTARSIA_RETURN_IF_ERROR(Allocate(blocks, CapacityFor(num_rows)));
      begin = 0;
    }
    for (; begin < num_rows; begin += kPartRows) {
      INTARSIA_RETURN_IF_ERROR(Bring(blocks, begin, std::min(num_rows, begin + kPartRows)));
    }
    BinaryRowsParams all{blocks, num_rows, codes_.as<uint32_t>(),
                         bounds_.as<kernels::BinaryTileBounds>()};
    all.scales = factors_[0].as<float>();
    all.offsets = factors_[1].as<float>();
    all.errors = factors_[2].as<float>();
    rows_ = all.rows();
    return kernels::WaitFor(stream_.get());
  }

  Result<CodeScanResult> Scan(const CodeScanParams& params) override {
    const std::scoped_lock lock(mutex_);
    INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(index_));
    const kernels::Stream stream = stream_.get();
    const int64_t candidates_max = std::min(params.candidates_max, kernels::kProspectCandidatesMax);
    if (params.k > candidates_max) {
      return Status(StatusCode::kUnsupported,
                    "too many hits for a scan on a device: k=" + std::to_string(params.k));
    }
    const int64_t plane_words = 4 * rows_.num_words;
    INTARSIA_ASSIGN_OR_RETURN(const DeviceBuffer planes,
                              DeviceBuffer::Allocate(plane_words * 8, stream));
    INTARSIA_RETURN_IF_ERROR(
        kernels::CopyToDevice(planes.data(), params.query.planes, plane_words * 8, stream));
    INTARSIA_ASSIGN_OR_RETURN(const DeviceBuffer filter, BringFilter(params.filter));
    INTARSIA_ASSIGN_OR_RETURN(const DeviceBuffer outcome,
                              DeviceBuffer::Allocate(sizeof(kernels::ProspectOutcome), stream));
    INTARSIA_ASSIGN_OR_RETURN(const DeviceBuffer found,
                              DeviceBuffer::Allocate(candidates_max * 8, stream));
    kernels::BinaryScanCudaParams scan;
    scan.rows = rows_;
    scan.filter = filter.as<uint32_t>();
    scan.query_planes = planes.as<uint64_t>();
    scan.half_step = params.query.half_step;
    scan.base = params.query.base;
    scan.error_bound = params.query.error_bound;
    scan.lists = {.num_queries = 1,
                  .k = params.k,
                  .candidates_max = candidates_max,
                  .outcomes = outcome.as<kernels::ProspectOutcome>(),
                  .rows = found.as<int32_t>(),
                  .limits = found.as<float>() + candidates_max};
    INTARSIA_ASSIGN_OR_RETURN(
        const DeviceBuffer workspace,
        DeviceBuffer::Allocate(kernels::ProspectWorkspaceBytes(scan.lists), stream));
    scan.workspace = workspace.data();
    INTARSIA_ASSIGN_OR_RETURN(const kernels::ProspectOutcome left, Run(scan));
    return Fetch(scan.lists, left);
  }

 private:
  // The first time exactly, later with room, so that adding stays linear.
  int64_t CapacityFor(int64_t num_rows) const {
    return capacity_ == 0 ? num_rows : num_rows + num_rows / 4;
  }

  Status Allocate(const BinaryCodeBlocks& blocks, int64_t num_rows) {
    // First gone, then there: both need not fit.
    rows_ = {};
    capacity_ = 0;
    codes_ = {};
    bounds_ = {};
    for (DeviceBuffer& factors : factors_) factors = {};
    const Sizes sizes = SizesOf(blocks, num_rows);
    const kernels::Stream stream = stream_.get();
    INTARSIA_ASSIGN_OR_RETURN(codes_, DeviceBuffer::Allocate(sizes.codes, stream));
    INTARSIA_ASSIGN_OR_RETURN(bounds_, DeviceBuffer::Allocate(sizes.bounds, stream));
    for (DeviceBuffer& factors : factors_) {
      INTARSIA_ASSIGN_OR_RETURN(factors, DeviceBuffer::Allocate(sizes.factors, stream));
    }
    capacity_ = TilesOf(num_rows) * kTile;
    return Status::Ok();
  }

  // Rows [begin, end); begin is that of a tile.
  Status Bring(const BinaryCodeBlocks& blocks, int64_t begin, int64_t end) {
    const kernels::Stream stream = stream_.get();
    BinaryRowsParams part{blocks, end - begin, nullptr, nullptr};
    part.num_blocks = (end - begin + kBlock - 1) / kBlock;
    const int64_t plane_bytes = part.num_blocks * kBlock * blocks.num_words * 8;
    std::array<DeviceBuffer, 2> planes;
    for (int64_t i = 0; i < blocks.num_planes; ++i) {
      const auto at = static_cast<size_t>(i);
      INTARSIA_ASSIGN_OR_RETURN(planes[at], DeviceBuffer::Allocate(plane_bytes, stream));
      INTARSIA_RETURN_IF_ERROR(kernels::CopyToDevice(
          planes[at].data(), blocks.planes[i] + begin * blocks.num_words, plane_bytes, stream));
      part.planes[i] = planes[at].as<uint64_t>();
    }
    const std::array<const float*, 3> sources = {blocks.scales, blocks.offsets, blocks.errors};
    for (size_t i = 0; i < sources.size(); ++i) {
      INTARSIA_RETURN_IF_ERROR(
          kernels::CopyToDevice(factors_[i].as<float>() + begin, sources[i] + begin,
                                (end - begin) * static_cast<int64_t>(sizeof(float)), stream));
    }
    part.scales = factors_[0].as<float>() + begin;
    part.offsets = factors_[1].as<float>() + begin;
    part.errors = factors_[2].as<float>() + begin;
    part.codes = codes_.as<uint32_t>() + begin * part.rows().row_words();
    part.bounds = bounds_.as<kernels::BinaryTileBounds>() + begin / kTile;
    return kernels::BinaryRowsCuda(part, stream);
  }

  // A bit a row; empty without a filter.
  Result<DeviceBuffer> BringFilter(SlotFilter filter) const {
    if (filter.empty()) return DeviceBuffer();
    const kernels::Stream stream = stream_.get();
    const int64_t num_bytes = TilesOf(rows_.num_rows) * kTile / 8;
    INTARSIA_ASSIGN_OR_RETURN(DeviceBuffer bits, DeviceBuffer::Allocate(num_bytes, stream));
    INTARSIA_RETURN_IF_ERROR(kernels::CopyToDevice(bits.data(), filter.data(), num_bytes, stream));
    return bits;
  }

  // Passes until one is complete.
  Result<kernels::ProspectOutcome> Run(const kernels::BinaryScanCudaParams& scan) const {
    const kernels::Stream stream = stream_.get();
    kernels::ProspectOutcome outcome;
    for (int pass = 0; pass < kPassesMax; ++pass) {
      INTARSIA_RETURN_IF_ERROR(kernels::BinaryScanCuda(
          scan, pass == 0 ? kernels::ProspectPass::kFirst : kernels::ProspectPass::kNext, stream));
      INTARSIA_RETURN_IF_ERROR(
          kernels::CopyToHost(&outcome, scan.lists.outcomes, sizeof(outcome), stream));
      INTARSIA_RETURN_IF_ERROR(kernels::WaitFor(stream));
      if (outcome.is_complete != 0) return outcome;
    }
    return Status(StatusCode::kInternal, "a scan of codes on a device does not end");
  }

  Result<CodeScanResult> Fetch(const kernels::ProspectLists& lists,
                               const kernels::ProspectOutcome& outcome) const {
    const kernels::Stream stream = stream_.get();
    if (outcome.num_prospects < 0 || outcome.num_prospects > lists.candidates_max) {
      return Status(StatusCode::kInternal, "a scan of codes on a device left no list");
    }
    std::vector<int32_t> rows(static_cast<size_t>(outcome.num_prospects));
    std::vector<float> limits(rows.size());
    const auto num_bytes = static_cast<int64_t>(rows.size()) * 4;
    INTARSIA_RETURN_IF_ERROR(kernels::CopyToHost(rows.data(), lists.rows, num_bytes, stream));
    INTARSIA_RETURN_IF_ERROR(kernels::CopyToHost(limits.data(), lists.limits, num_bytes, stream));
    INTARSIA_RETURN_IF_ERROR(kernels::WaitFor(stream));
    CodeScanResult result;
    result.is_truncated = outcome.is_truncated != 0;
    for (size_t i = 0; i < rows.size(); ++i) result.prospects.push_back({rows[i], limits[i]});
    std::sort(result.prospects.begin(), result.prospects.end(), IsMorePromising);
    return result;
  }

  const int32_t index_;
  std::mutex mutex_;
  // Guarded by mutex_, but for num_rows() and memory_bytes(), which nobody asks for meanwhile.
  kernels::OwnerStream stream_;  // first, because the buffers go back on it
  int64_t capacity_ = 0;         // rows
  DeviceBuffer codes_;
  DeviceBuffer bounds_;
  std::array<DeviceBuffer, 3> factors_;  // scales, offsets, errors
  kernels::BinaryRows rows_;             // of what is here
};

}  // namespace

Result<std::unique_ptr<CodeScanner>> MakeDeviceCodeScanner(int32_t index) {
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(index));
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceStream stream,
                            kernels::DeviceStream::Create(kernels::StreamPriority::kNormal));
  return std::unique_ptr<CodeScanner>(
      std::make_unique<DeviceCodeScanner>(index, std::move(stream)));
}

}  // namespace intarsia::index
