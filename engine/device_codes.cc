#include "engine/device_codes.h"

#include <ranges>
#include <utility>

namespace intarsia::engine {

// Its mutex is taken before that of DeviceCodes.
struct CodesOnDevice {
  std::mutex mutex;
  // Guarded by mutex.
  DeviceCodes* devices = nullptr;  // null until codes are brought
  int32_t index = 0;
  int64_t num_bytes = 0;  // accounted for
  std::shared_ptr<index::CodeScanner> scanner;

  // With the mutex held.
  void Drop();
};

void CodesOnDevice::Drop() {
  scanner.reset();
  if (num_bytes > 0) devices->Account(num_bytes, 0).IgnoreError();  // It always fits.
  num_bytes = 0;
}

void DeviceCodes::SetBytesMax(int64_t bytes_max) {
  std::vector<std::shared_ptr<CodesOnDevice>> copies;
  {
    const std::scoped_lock lock(mutex_);
    if (bytes_max == bytes_max_) return;
    bytes_max_ = bytes_max;
    Retry();
    std::erase_if(copies_, [](const auto& copy) { return copy.expired(); });
    for (const auto& copy : copies_) copies.push_back(copy.lock());
  }
  for (const std::shared_ptr<CodesOnDevice>& copy : std::views::reverse(copies)) {
    if (copy == nullptr) continue;
    // What is being brought just now notices by itself.
    const std::unique_lock lock(copy->mutex, std::try_to_lock);
    if (lock.owns_lock() && !Account(copy->num_bytes, copy->num_bytes).ok()) copy->Drop();
  }
}

void DeviceCodes::Add(const std::shared_ptr<CodesOnDevice>& codes) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(copies_, [](const auto& copy) { return copy.expired(); });
  copies_.emplace_back(codes);
}

Status DeviceCodes::Account(int64_t before, int64_t after) {
  const std::scoped_lock lock(mutex_);
  const int64_t wanted = bytes_used_ - before + after;
  // What is given back always fits.
  if (after > 0 && wanted > bytes_max_) {
    return {StatusCode::kResourceExhausted,
            "codes of all collections would take " + std::to_string(wanted) +
                " bytes there; device.code_bytes_max allows " + std::to_string(bytes_max_)};
  }
  bytes_used_ = wanted;
  return Status::Ok();
}

DeviceCodeCopy::DeviceCodeCopy() : there_(std::make_shared<CodesOnDevice>()) {}

void DeviceCodeCopy::Drop() {
  const std::scoped_lock lock(there_->mutex);
  there_->Drop();
  failed_at_ = 0;
}

Result<DeviceCodeCopy::Lease> DeviceCodeCopy::Bring(DeviceCodes* devices, int32_t index,
                                                    const index::BinaryIndex& codes) {
  CodesOnDevice& there = *there_;
  const std::scoped_lock lock(there.mutex);
  if (there.devices == nullptr) devices->Add(there_);
  there.devices = devices;
  const int64_t attempt = devices->attempt();
  const auto bring = [&]() -> Result<Lease> {
    if (there.scanner != nullptr && there.index != index) there.Drop();
    // A budget that has become smaller meanwhile is noticed here.
    INTARSIA_RETURN_IF_ERROR(devices->Account(there.num_bytes, there.num_bytes));
    if (there.scanner != nullptr && there.scanner->num_rows() == codes.size()) {
      return Lease{there.scanner, false};
    }
    if (there.scanner == nullptr) {
      INTARSIA_ASSIGN_OR_RETURN(there.scanner, devices->provider()->MakeCodeScanner(index));
      there.index = index;
    }
    constexpr int64_t kBlock = kernels::kBinaryBlockCodes;
    const kernels::BinaryCodeBlocks blocks =
        codes.CodeBlocks(0, (codes.size() + kBlock - 1) / kBlock);
    const int64_t wanted = there.scanner->BytesFor(blocks, codes.size());
    INTARSIA_RETURN_IF_ERROR(devices->Account(there.num_bytes, wanted));
    there.num_bytes = wanted;
    INTARSIA_RETURN_IF_ERROR(there.scanner->Extend(blocks, codes.size()));
    return Lease{there.scanner, true};
  };
  Result<Lease> lease = bring();
  if (!lease.ok()) {
    there.Drop();
    failed_at_ = attempt;
  }
  return lease;
}

void DeviceCodeCopy::Fail(const std::shared_ptr<index::CodeScanner>& scanner) {
  const std::scoped_lock lock(there_->mutex);
  if (there_->scanner != scanner) return;
  failed_at_ = there_->devices->attempt();
  there_->Drop();
}

}  // namespace intarsia::engine
