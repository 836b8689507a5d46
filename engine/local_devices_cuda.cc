// LocalDevices of a program that is built with CUDA.
#include <utility>

#include "engine/device_provider.h"
#include "engine/fusion/buffer_source.h"
#include "engine/fusion/device_backend.h"
#include "index/device_code_scanner.h"
#include "kernels/device.h"

namespace intarsia::engine {
namespace {

// Pinned memory takes milliseconds to get and holds the device up when it goes.
constexpr int64_t kSlabBytes = int64_t{64} << 20;

struct AllocatePinned {
  Result<kernels::PinnedBuffer> operator()(int64_t num_bytes) const {
    return kernels::PinnedBuffer::Allocate(num_bytes);
  }
};

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
  Result<std::unique_ptr<index::CodeScanner>> MakeCodeScanner(int32_t index) override {
    return index::MakeDeviceCodeScanner(index);
  }
  std::shared_ptr<MemorySource> PinnedMemory() override {
    return std::make_shared<SlabMemory>(
        std::make_unique<BufferSource<AllocatePinned>>(AllocatePinned()), kSlabBytes);
  }
};

}  // namespace

DeviceProvider* LocalDevices() {
  static CudaDevices devices;
  return &devices;
}

}  // namespace intarsia::engine
