// LocalDevices of a program that is built with CUDA.
#include <map>
#include <utility>

#include "engine/device_provider.h"
#include "engine/fusion/device_backend.h"
#include "index/device_code_scanner.h"
#include "kernels/device.h"

namespace intarsia::engine {
namespace {

// Pinned memory takes milliseconds to get and holds the device up when it goes.
constexpr int64_t kSlabBytes = int64_t{64} << 20;

// Pinned memory as it is allocated. A SlabMemory calls it with its lock held.
class PinnedSource : public MemorySource {
 public:
  MemoryBlock Take(int64_t num_bytes) override {
    Result<kernels::PinnedBuffer> buffer = kernels::PinnedBuffer::Allocate(num_bytes);
    // Too little of it, or none: the caller does with ordinary memory.
    if (!buffer.ok()) return {};
    void* const data = buffer->data();
    buffers_.emplace(data, *std::move(buffer));
    return {data, num_bytes};
  }
  void Give(const MemoryBlock& block) override { buffers_.erase(block.data); }

 private:
  std::map<void*, kernels::PinnedBuffer> buffers_;
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
    return std::make_shared<SlabMemory>(std::make_unique<PinnedSource>(), kSlabBytes);
  }
};

}  // namespace

DeviceProvider* LocalDevices() {
  static CudaDevices devices;
  return &devices;
}

}  // namespace intarsia::engine
