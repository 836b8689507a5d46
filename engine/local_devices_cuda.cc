// LocalDevices of a program that is built with CUDA.
#include "engine/device_provider.h"
#include "engine/fusion/device_backend.h"
#include "kernels/device.h"

namespace intarsia::engine {
namespace {

class CudaDevices : public DeviceProvider {
 public:
  bool is_built() const override { return true; }
  Status Check(int32_t index) const override { return kernels::UseDevice(index); }
  Result<std::unique_ptr<FusionBackend>> Load(const model::GgufFile& file,
                                              const DeviceModelOptions& options) override {
    INTARSIA_ASSIGN_OR_RETURN(std::unique_ptr<DeviceBackend> backend,
                              DeviceBackend::Load(file, options));
    return std::unique_ptr<FusionBackend>(std::move(backend));
  }
};

}  // namespace

DeviceProvider* LocalDevices() {
  static CudaDevices devices;
  return &devices;
}

}  // namespace intarsia::engine
