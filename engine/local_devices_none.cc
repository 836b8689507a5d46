// LocalDevices of a program that is built without CUDA.
#include "engine/device_provider.h"

namespace intarsia::engine {
namespace {

class NoDevices : public DeviceProvider {
 public:
  bool is_built() const override { return false; }
  Status Check(int32_t) const override {
    return Status(StatusCode::kUnsupported,
                  "this program is built without CUDA; build it with the preset cuda");
  }
  Result<std::unique_ptr<FusionBackend>> Load(const model::GgufFile&,
                                              const DeviceModelOptions& options) override {
    return Check(options.index);
  }
  Result<std::unique_ptr<index::CodeScanner>> MakeCodeScanner(int32_t index) override {
    return Check(index);
  }
  std::shared_ptr<MemorySource> PinnedMemory() override { return nullptr; }
};

}  // namespace

DeviceProvider* LocalDevices() {
  static NoDevices devices;
  return &devices;
}

}  // namespace intarsia::engine
