#include "kernels/device_matrix.h"

#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>

#include <cublasLt.h>

#include "kernels/cuda_status.h"
#include "kernels/device_pointer.h"
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

  Status Fill(const DeviceMatMulParams& params, int64_t num_rows);
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

Status Description::Fill(const DeviceMatMulParams& params, int64_t num_rows) {
  INTARSIA_RETURN_IF_ERROR(
      CublasStatus(cublasLtMatmulDescCreate(operation.target(), CUBLAS_COMPUTE_32F, CUDA_R_32F),
                   "matrix product: description"));
  INTARSIA_RETURN_IF_ERROR(SetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T));
  if (params.bias != nullptr) {
    INTARSIA_RETURN_IF_ERROR(
        SetAttribute(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS));
    INTARSIA_RETURN_IF_ERROR(
        SetAttribute(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, params.bias));
  }
  const cudaDataType_t y_type = params.y_type == DeviceType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
  INTARSIA_RETURN_IF_ERROR(
      MakeLayout(CUDA_R_16BF, params.num_inputs, params.num_outputs, &weights));
  INTARSIA_RETURN_IF_ERROR(MakeLayout(CUDA_R_16BF, params.num_inputs, num_rows, &x));
  return MakeLayout(y_type, params.num_outputs, num_rows, &y);
}

Result<cublasLtMatmulAlgo_t> ChoosePlan(cublasLtHandle_t handle, const DeviceMatMulParams& params,
                                        int64_t num_rows) {
  Description description;
  INTARSIA_RETURN_IF_ERROR(description.Fill(params, num_rows));
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
  cublasLtMatmulHeuristicResult_t found{};
  int num_found = 0;
  INTARSIA_RETURN_IF_ERROR(CublasStatus(
      cublasLtMatmulAlgoGetHeuristic(handle, description.operation.get(), description.weights.get(),
                                     description.x.get(), description.y.get(), description.y.get(),
                                     preference.get(), 1, &found, &num_found),
      "matrix product: choice of a plan"));
  if (num_found == 0) {
    return Status(StatusCode::kUnsupported, "matrix product: no algorithm for this shape");
  }
  return found.algo;
}

}  // namespace

struct DeviceMatrixProducts::State {
  // Planned rows, inputs, outputs, type of y, whether there is a bias.
  using Key = std::tuple<int64_t, int64_t, int64_t, DeviceType, bool>;

  cublasLtHandle_t handle = nullptr;
  std::mutex mutex;
  std::map<Key, cublasLtMatmulAlgo_t> plans;  // guarded by mutex

  ~State() {
    if (handle != nullptr) static_cast<void>(cublasLtDestroy(handle));
  }

  Result<cublasLtMatmulAlgo_t> PlanFor(const DeviceMatMulParams& params) {
    const int64_t planned_rows = PlannedRows(params.num_rows);
    const Key key(planned_rows, params.num_inputs, params.num_outputs, params.y_type,
                  params.bias != nullptr);
    const std::lock_guard lock(mutex);
    if (const auto found = plans.find(key); found != plans.end()) return found->second;
    INTARSIA_ASSIGN_OR_RETURN(const cublasLtMatmulAlgo_t plan,
                              ChoosePlan(handle, params, planned_rows));
    plans.emplace(key, plan);
    return plan;
  }
};

DeviceMatrixProducts::DeviceMatrixProducts(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
DeviceMatrixProducts::~DeviceMatrixProducts() = default;

Result<std::unique_ptr<DeviceMatrixProducts>> DeviceMatrixProducts::Create() {
  auto state = std::make_unique<State>();
  INTARSIA_RETURN_IF_ERROR(CublasStatus(cublasLtCreate(&state->handle), "cublasLt: start"));
  return std::unique_ptr<DeviceMatrixProducts>(new DeviceMatrixProducts(std::move(state)));
}

Status DeviceMatrixProducts::MultiplyCuda(const DeviceMatMulParams& params, Stream stream) {
  INTARSIA_RETURN_IF_ERROR(CheckDeviceMatMul(params));
  if (params.num_rows == 0) return Status::Ok();
  if (reinterpret_cast<uintptr_t>(params.workspace) % 256 != 0 || params.workspace == nullptr) {
    return Status(StatusCode::kInvalidArgument, "matrix product: null or misaligned workspace");
  }
  if (params.num_rows <= kDeviceGemvRowsMax) return GemvRowsCuda(params, stream);
  INTARSIA_ASSIGN_OR_RETURN(const cublasLtMatmulAlgo_t plan, state_->PlanFor(params));
  Description description;
  INTARSIA_RETURN_IF_ERROR(description.Fill(params, params.num_rows));
  const float one = 1.0F;
  const float zero = 0.0F;
  return CublasStatus(
      cublasLtMatmul(state_->handle, description.operation.get(), &one, params.weights,
                     description.weights.get(), params.x, description.x.get(), &zero, params.y,
                     description.y.get(), params.y, description.y.get(), &plan, params.workspace,
                     kWorkspaceBytes, stream),
      "matrix product");
}

}  // namespace intarsia::kernels
