#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "engine/fusion/device_decoder.h"
#include "engine/fusion/fused_prefill.h"
#include "kernels/paged_kv.h"

namespace intarsia::engine {

// An error here was or will be seen by whoever uses the device next.
DeviceDecoder::~DeviceDecoder() { Finish().IgnoreError(); }

Result<std::unique_ptr<DeviceDecoder>> DeviceDecoder::Create(
    const model::CudaTransformer& transformer, const model::DeviceKvPool& pages) {
  INTARSIA_RETURN_IF_ERROR(kernels::UseDevice(transformer.device()));
  INTARSIA_ASSIGN_OR_RETURN(kernels::DeviceStream stream,
                            kernels::DeviceStream::Create(kernels::StreamPriority::kHigh));
  std::unique_ptr<DeviceDecoder> decoder(new DeviceDecoder(std::move(stream)));
  // As many tokens as the pool has room for.
  const int64_t num_tokens_max =
      std::min(pages.num_pages() * kernels::kPageTokens, model::kCudaPositionsMax);
  INTARSIA_ASSIGN_OR_RETURN(
      decoder->decoder_,
      model::CudaDecoder::Create(
          transformer, pages,
          {.batch_max = 1,
           .num_tokens_max = num_tokens_max,
           .first_observed_layer = FirstObservedLayer(transformer.config().num_layers)},
          decoder->stream_.get()));
  return decoder;
}

Result<FusedStep> DeviceDecoder::Step(const model::DeviceKv& kv, int32_t token, int64_t position,
                                      const model::Sampler& sampler, const CancelToken* cancel) {
  if (cancel != nullptr) INTARSIA_RETURN_IF_ERROR(cancel->Check());
  if (position < 0 || position >= kv.capacity()) {
    return Status(StatusCode::kInvalidArgument,
                  "there is no room for a token at position " + std::to_string(position));
  }
  const Next wanted = {.kv = &kv, .token = token, .position = position, .rule = sampler.rule()};
  if (next_ != wanted) {
    const std::array<model::CudaDecodeRow, 1> rows = {
        model::CudaDecodeRow{.kv = &kv,
                             .token = token,
                             .position = static_cast<int32_t>(position),
                             .rule = sampler.rule()}};
    INTARSIA_RETURN_IF_ERROR(decoder_->Begin(rows));
  }
  next_.reset();
  INTARSIA_RETURN_IF_ERROR(decoder_->Step());
  INTARSIA_ASSIGN_OR_RETURN(const std::span<const int32_t> drawn, decoder_->Wait());
  if (drawn.front() < 0) return model::NoFiniteLogitError();
  next_ = Next{.kv = &kv, .token = drawn.front(), .position = position + 1, .rule = sampler.rule()};
  return FusedStep{.next_token = drawn.front(), .attention = decoder_->attention()};
}

Status DeviceDecoder::Finish() {
  next_.reset();
  return kernels::WaitFor(stream_.get());
}

}  // namespace intarsia::engine
