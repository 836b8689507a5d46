// KvSource: where the cached keys and values of a run of tokens come from.
//
// The payload of one layer is K [num_tokens, kv_size] before RoPE and after QK norm, and V
// [num_tokens, kv_size], as kernels/kv_codec.h lays them out. It fits any position: placing rotates
// K.
//
// Thread safety: ReadLayer may be called concurrently for distinct targets.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/async_reader.h"
#include "base/hash.h"
#include "base/status.h"
#include "kernels/kv_codec.h"

namespace intarsia::engine {

using kernels::KvPayloadType;

class KvSource {
 public:
  virtual ~KvSource() = default;

  virtual KvPayloadType type() const = 0;
  virtual int64_t num_tokens() const = 0;
  // Reads one layer's payload: KvPayloadBytes(type(), num_tokens(), kv_size) bytes.
  // Errors: kNotFound if the cache is gone or its bytes are wrong, which is a miss and nothing
  // else; kIo; kInvalidArgument for a target of another size.
  virtual Status ReadLayer(int32_t layer, std::span<uint8_t> target) const = 0;
  // The payload where it lies in memory, aligned to 4 bytes and valid as long as the source; empty
  // if it has to be read. Either all layers are resident or none.
  virtual std::span<const uint8_t> Resident(int32_t /*layer*/) const { return {}; }

  // Begins to read a layer beside the caller into `target`, which holds what ReadLayer wants and
  // ends with a whole page; false if ReadLayer should read it. See storage::KvStore::StartLayer.
  virtual bool StartLayer(int32_t /*layer*/, std::span<uint8_t> /*target*/, AsyncReader* /*reader*/,
                          int64_t /*tag*/) const {
    return false;
  }
  // Takes over what a read that StartLayer began has brought. Errors: those of ReadLayer.
  virtual Status FinishLayer(int32_t layer, std::span<uint8_t> target, int64_t /*num_read*/) const {
    return ReadLayer(layer, target);
  }

  // One layer's payload where it already lies, 64-byte aligned and valid as long as this source:
  // on the device that computes, or in pinned memory, which it copies from by itself. Null where it
  // must be read. What these return was checked when it was put there.
  virtual const uint8_t* DeviceLayer(int32_t /*layer*/) const { return nullptr; }
  virtual const uint8_t* PinnedLayer(int32_t /*layer*/) const { return nullptr; }
  // Where on the device the payload is to be put when it is copied there, so that it can stay;
  // null: wherever the copier likes. 64-byte aligned, for all layers or none.
  virtual uint8_t* DeviceTarget(int32_t /*layer*/) const { return nullptr; }

  // What the cache is known by; null for one that nobody else has.
  virtual const Digest* identity() const { return nullptr; }
};

// A cache in memory, as the forward pass that computed it left it.
class MemoryKv : public KvSource {
 public:
  // `layers` are payloads, one a layer.
  MemoryKv(KvPayloadType type, int64_t num_tokens, std::vector<std::vector<uint8_t>> layers)
      : type_(type), num_tokens_(num_tokens), layers_(std::move(layers)) {}

  KvPayloadType type() const override { return type_; }
  int64_t num_tokens() const override { return num_tokens_; }
  Status ReadLayer(int32_t layer, std::span<uint8_t> target) const override;
  std::span<const uint8_t> Resident(int32_t layer) const override {
    if (layer < 0 || layer >= std::ssize(layers_)) return {};
    return layers_[static_cast<size_t>(layer)];
  }
  const std::vector<std::vector<uint8_t>>& layers() const { return layers_; }

 private:
  const KvPayloadType type_;
  const int64_t num_tokens_;
  const std::vector<std::vector<uint8_t>> layers_;
};

}  // namespace intarsia::engine
