#include "engine/device_codes.h"

#include <utility>

namespace intarsia::engine {

void DeviceCodes::SetBytesMax(int64_t bytes_max) {
  const std::scoped_lock lock(mutex_);
  if (bytes_max == bytes_max_) return;
  bytes_max_ = bytes_max;
  Retry();
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

void DeviceCodeCopy::Drop() {
  const std::scoped_lock lock(mutex_);
  DropLocked();
  failed_at_ = 0;
}

void DeviceCodeCopy::DropLocked() {
  scanner_.reset();
  if (num_bytes_ > 0) devices_->Account(num_bytes_, 0).IgnoreError();  // It always fits.
  num_bytes_ = 0;
}

Result<DeviceCodeCopy::Lease> DeviceCodeCopy::Bring(DeviceCodes* devices, int32_t index,
                                                    const index::BinaryIndex& codes) {
  const std::scoped_lock lock(mutex_);
  devices_ = devices;
  const int64_t attempt = devices->attempt();
  const auto bring = [&]() -> Result<Lease> {
    if (scanner_ != nullptr && index_ != index) DropLocked();
    // A budget that has become smaller is noticed here.
    INTARSIA_RETURN_IF_ERROR(devices->Account(num_bytes_, num_bytes_));
    if (scanner_ != nullptr && scanner_->num_rows() == codes.size()) return Lease{scanner_, false};
    if (scanner_ == nullptr) {
      INTARSIA_ASSIGN_OR_RETURN(scanner_, devices->provider()->MakeCodeScanner(index));
      index_ = index;
    }
    constexpr int64_t kBlock = kernels::kBinaryBlockCodes;
    const kernels::BinaryCodeBlocks blocks =
        codes.CodeBlocks(0, (codes.size() + kBlock - 1) / kBlock);
    const int64_t wanted = scanner_->BytesFor(blocks, codes.size());
    INTARSIA_RETURN_IF_ERROR(devices->Account(num_bytes_, wanted));
    num_bytes_ = wanted;
    INTARSIA_RETURN_IF_ERROR(scanner_->Extend(blocks, codes.size()));
    return Lease{scanner_, true};
  };
  Result<Lease> lease = bring();
  if (!lease.ok()) {
    DropLocked();
    failed_at_ = attempt;
  }
  return lease;
}

void DeviceCodeCopy::Fail(const std::shared_ptr<index::CodeScanner>& scanner) {
  const std::scoped_lock lock(mutex_);
  if (scanner_ != scanner) return;
  failed_at_ = devices_->attempt();
  DropLocked();
}

}  // namespace intarsia::engine
