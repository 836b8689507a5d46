#include "kernels/device_matrix.h"

#include <limits>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <cublasLt.h>

#include "kernels/cuda_status.h"
#include "kernels/device.h"
#include "kernels/device_pointer.h"
#include "kernels/device_shape.h"
#include "kernels/gemv_rows.h"

namespace intarsia::kernels {
namespace {

Status CublasStatus(cublasStatus_t status, const char* operation) {
  if (status == CUBLAS_STATUS_SUCCESS) return Status::Ok();
  StatusCode code = StatusCode::kInternal;
  if (status == CUBLAS_STATUS_ALLOC_FAILED) code = StatusCode::kResourceExhausted;
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) code = StatusCode::kUnsupported;
  return Status(code, std::string(operation) + ": " + cublasLtGetStatusName(status));
}

// From so many rows on, where products are bound by arithmetic, the first proposal is up to 30 %
// slower than the best of a few, and which one that is only a measurement says.
constexpr int64_t kTimedRowsMin = 256;
constexpr int kTimedPlansMax = 8;
// Each proposal in turn, so that whatever else the device does meets all of them, and the least
// time counts.
constexpr int kTimedRounds = 4;
constexpr int kTimedRuns = 2;

// The height that stands for `num_rows` when a plan is chosen.
int64_t PlannedRows(int64_t num_rows) {
  const int64_t step = num_rows <= 64 ? 8 : num_rows <= 1024 ? 64 : 512;
  return (num_rows + step - 1) / step * step;
}

// An owner of one of cuBLASLt's descriptors.
template <typename Handle, cublasStatus_t (*kDestroy)(Handle)>
class Descriptor {
 public:
  Descriptor() = default;
  ~Descriptor() {
    if (handle_ != nullptr) static_cast<void>(kDestroy(handle_));
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  Handle* target() { return &handle_; }
  Handle get() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};

using Operation = Descriptor<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Descriptor<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Descriptor<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

// What cuBLASLt wants to know of a product. It counts in columns: y^T = W x^T, where a row-major
// matrix is the transpose of a column-major one.
struct Description {
  Operation operation;
  Layout weights;
  Layout x;
  Layout y;

  // Of a product of `num_rows` rows, for e4m3 with or without its scales.
  Status Fill(const DeviceMatMulParams& params, int64_t num_rows, Fp8Scaling scaling);
};

template <typename T>
Status SetAttribute(const Operation& operation, cublasLtMatmulDescAttributes_t name,
                    const T& value) {
  return CublasStatus(cublasLtMatmulDescSetAttribute(operation.get(), name, &value, sizeof(value)),
                      "matrix product: attribute");
}

Status MakeLayout(cudaDataType_t type, int64_t num_rows, int64_t num_columns, Layout* layout) {
  return CublasStatus(
      cublasLtMatrixLayoutCreate(layout->target(), type, static_cast<uint64_t>(num_rows),
                                 static_cast<uint64_t>(num_columns), num_rows),
      "matrix product: layout");
}

Status SetFp8Attributes(const DeviceMatMulParams& params, Fp8Scaling scaling,
                        const Operation& operation) {
  const int8_t is_fast = params.fp8_sums == Fp8Sums::kFast ? 1 : 0;
  INTARSIA_RETURN_IF_ERROR(SetAttribute(operation, CUBLASLT_MATMUL_DESC_FAST_ACCUM, is_fast));
  if (scaling == Fp8Scaling::kBehind) return Status::Ok();
  constexpr int32_t kMode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
  INTARSIA_RETURN_IF_ERROR(SetAttribute(operation, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, kMode));
  INTARSIA_RETURN_IF_ERROR(SetAttribute(operation, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, kMode));
  INTARSIA_RETURN_IF_ERROR(
      SetAttribute(operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, params.weights_fp8.scales));
  return SetAttribute(operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, params.x_fp8.scales);
}

Status Description::Fill(const DeviceMatMulParams& params, int64_t num_rows, Fp8Scaling scaling) {
  INTARSIA_RETURN_IF_ERROR(
      CublasStatus(cublasLtMatmulDescCreate(operation.target(), CUBLAS_COMPUTE_32F, CUDA_R_32F),
                   "matrix product: description"));
  INTARSIA_RETURN_IF_ERROR(SetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T));
  if (params.is_fp8()) {
    INTARSIA_RETURN_IF_ERROR(SetFp8Attributes(params, scaling, operation));
  }
  // A bias comes after the scales.
  if (params.bias != nullptr && (!params.is_fp8() || scaling == Fp8Scaling::kInside)) {
    INTARSIA_RETURN_IF_ERROR(
        SetAttribute(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS));
    INTARSIA_RETURN_IF_ERROR(
        SetAttribute(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, params.bias));
  }
  const cudaDataType_t y_type = params.y_type == DeviceType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
  const cudaDataType_t x_type = params.is_fp8() ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
  INTARSIA_RETURN_IF_ERROR(MakeLayout(x_type, params.num_inputs, params.num_outputs, &weights));
  INTARSIA_RETURN_IF_ERROR(MakeLayout(x_type, params.num_inputs, num_rows, &x));
  return MakeLayout(y_type, params.num_outputs, num_rows, &y);
}

struct Plan {
  cublasLtMatmulAlgo_t algorithm{};
  Fp8Scaling scaling = Fp8Scaling::kInside;
};

// What cuBLASLt proposes for so many rows, the most promising first; at least one.
Result<std::vector<Plan>> ListPlans(cublasLtHandle_t handle, const DeviceMatMulParams& params,
                                    int64_t num_rows, Fp8Scaling scaling) {
  Description description;
  INTARSIA_RETURN_IF_ERROR(description.Fill(params, num_rows, scaling));
  Preference preference;
  INTARSIA_RETURN_IF_ERROR(CublasStatus(cublasLtMatmulPreferenceCreate(preference.target()),
                                        "matrix product: preference"));
  const uint64_t workspace_bytes = DeviceMatrixProducts::kWorkspaceBytes;
  INTARSIA_RETURN_IF_ERROR(
      CublasStatus(cublasLtMatmulPreferenceSetAttribute(preference.get(),
                                                        CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                        &workspace_bytes, sizeof(workspace_bytes)),
                   "matrix product: preference"));
  // What the contract asks of pointers; cuBLASLt would otherwise take them to be aligned to 256.
  const uint32_t alignment = kVectorBytes;
  for (const auto name :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    INTARSIA_RETURN_IF_ERROR(CublasStatus(
        cublasLtMatmulPreferenceSetAttribute(preference.get(), name, &alignment, sizeof(alignment)),
        "matrix product: preference"));
  }
  std::vector<cublasLtMatmulHeuristicResult_t> found(
      params.num_rows >= kTimedRowsMin ? kTimedPlansMax : 1);
  int num_found = 0;
  INTARSIA_RETURN_IF_ERROR(CublasStatus(
      cublasLtMatmulAlgoGetHeuristic(handle, description.operation.get(), description.weights.get(),
                                     description.x.get(), description.y.get(), description.y.get(),
                                     preference.get(), static_cast<int>(found.size()), found.data(),
                                     &num_found),
      "matrix product: choice of a plan"));
  if (num_found == 0) {
    return Status(StatusCode::kUnsupported, "matrix product: no algorithm for this shape");
  }
  std::vector<Plan> plans;
  for (int i = 0; i < num_found; ++i) {
    plans.push_back({.algorithm = found[static_cast<size_t>(i)].algo, .scaling = scaling});
  }
  return plans;
}

}  // namespace

struct DeviceMatrixProducts::State {
  // Planned rows, inputs, outputs, type of y, whether there is a bias, whether in e4m3, its sums.
  using Key = std::tuple<int64_t, int64_t, int64_t, DeviceType, bool, bool, Fp8Sums>;

  cublasLtHandle_t handle = nullptr;
  DeviceMatrixOptions options;
  bool has_gemv = false;
  std::mutex mutex;
  std::map<Key, Plan> plans;  // guarded by mutex

  ~State() {
    if (handle != nullptr) static_cast<void>(cublasLtDestroy(handle));
  }

  Result<Plan> PlanFor(const DeviceMatMulParams& params, Stream stream) {
    const int64_t planned_rows = PlannedRows(params.num_rows);
    const Key key(planned_rows, params.num_inputs, params.num_outputs, params.y_type,
                  params.bias != nullptr, params.is_fp8(), params.fp8_sums);
    const std::lock_guard lock(mutex);
    if (const auto found = plans.find(key); found != plans.end()) return found->second;
    Result<std::vector<Plan>> proposed =
        ListPlans(handle, params, planned_rows, options.fp8_scaling);
    if (!proposed.ok() && params.is_fp8() && options.fp8_scaling == Fp8Scaling::kInside) {
      // Scales inside are for Hopper, from cuBLASLt 12.9 on; other libraries refuse the attribute
      // or find no algorithm.
      proposed = ListPlans(handle, params, planned_rows, Fp8Scaling::kBehind);
    }
    if (!proposed.ok()) return proposed.status();
    Plan plan = proposed->front();
    if (proposed->size() > 1 && params.num_rows >= kTimedRowsMin) {
      INTARSIA_ASSIGN_OR_RETURN(plan, FastestPlan(params, *proposed, stream));
    }
    plans.emplace(key, plan);
    return plan;
  }

  // The plan that takes the least time for these very operands. Runs each a few times and waits.
  Result<Plan> FastestPlan(const DeviceMatMulParams& params, std::span<const Plan> proposed,
                           Stream stream) const {
    INTARSIA_ASSIGN_OR_RETURN(DeviceEvent begin, DeviceEvent::Create(EventTiming::kOn));
    INTARSIA_ASSIGN_OR_RETURN(DeviceEvent end, DeviceEvent::Create(EventTiming::kOn));
    Plan best = proposed.front();
    float best_ms = std::numeric_limits<float>::infinity();
    for (int round = 0; round < kTimedRounds; ++round) {
      for (const Plan& plan : proposed) {
        // The first run loads the kernel; one that cannot have just these rows is passed over.
        if (!Run(params, plan, stream).ok()) continue;
        INTARSIA_RETURN_IF_ERROR(begin.Record(stream));
        for (int run = 0; run < kTimedRuns; ++run) {
          INTARSIA_RETURN_IF_ERROR(Run(params, plan, stream));
        }
        INTARSIA_RETURN_IF_ERROR(end.Record(stream));
        INTARSIA_RETURN_IF_ERROR(end.Wait());
        INTARSIA_ASSIGN_OR_RETURN(const float ms, end.MillisecondsSince(begin));
        if (ms >= best_ms) continue;
        best_ms = ms;
        best = plan;
      }
    }
    return best;
  }

  Status Run(const DeviceMatMulParams& params, const Plan& plan, Stream stream) const {
    Description description;
    INTARSIA_RETURN_IF_ERROR(description.Fill(params, params.num_rows, plan.scaling));
    const float one = 1.0F;
    const float zero = 0.0F;
    const bool is_fp8 = params.is_fp8();
    const void* const weights = is_fp8 ? static_cast<const void*>(params.weights_fp8.codes)
                                       : static_cast<const void*>(params.weights);
    const void* const x =
        is_fp8 ? static_cast<const void*>(params.x_fp8.codes) : static_cast<const void*>(params.x);
    INTARSIA_RETURN_IF_ERROR(
        CublasStatus(cublasLtMatmul(handle, description.operation.get(), &one, weights,
                                    description.weights.get(), x, description.x.get(), &zero,
                                    params.y, description.y.get(), params.y, description.y.get(),
                                    &plan.algorithm, params.workspace, kWorkspaceBytes, stream),
                     "matrix product"));
    if (!is_fp8 || plan.scaling == Fp8Scaling::kInside) return Status::Ok();
    return Scale(params, stream);
  }

  Status Scale(const DeviceMatMulParams& params, Stream stream) const {
    return ScaleProductCuda({.y = params.y,
                             .y_type = params.y_type,
                             .row_scales = params.x_fp8.scales,
                             .output_scales = params.weights_fp8.scales,
                             .bias = params.bias,
                             .num_rows = params.num_rows,
                             .num_outputs = params.num_outputs},
                            stream);
  }
};

DeviceMatrixProducts::DeviceMatrixProducts(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
DeviceMatrixProducts::~DeviceMatrixProducts() = default;

Result<std::unique_ptr<DeviceMatrixProducts>> DeviceMatrixProducts::Create(
    const DeviceMatrixOptions& options) {
  auto state = std::make_unique<State>();
  state->options = options;
  INTARSIA_ASSIGN_OR_RETURN(const DeviceShape device, CurrentDeviceShape("cublasLt: device"));
  state->has_gemv = device.capability == 90;
  INTARSIA_RETURN_IF_ERROR(CublasStatus(cublasLtCreate(&state->handle), "cublasLt: start"));
  return std::unique_ptr<DeviceMatrixProducts>(new DeviceMatrixProducts(std::move(state)));
}

Status DeviceMatrixProducts::MultiplyCuda(const DeviceMatMulParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckDeviceMatMul(params));
  if (params.num_rows == 0) return Status::Ok();
  if (reinterpret_cast<uintptr_t>(params.workspace) % 256 != 0 || params.workspace == nullptr) {
    return Status(StatusCode::kInvalidArgument, "matrix product: null or misaligned workspace");
  }
  if (state_->has_gemv && !params.is_fp8() && params.num_rows <= kDeviceGemvRowsMax) {
    return GemvRowsCuda(params, stream);
  }
  INTARSIA_ASSIGN_OR_RETURN(const Plan plan, state_->PlanFor(params, stream));
  return state_->Run(params, plan, stream);
}

}  // namespace intarsia::kernels
