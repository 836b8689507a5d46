// AttentionRowsDeviceData: an AttentionRowsCase on a device, in pages, beside its reference.
//
// Requests lie scattered over the pools, whose other pages, and the tokens of a last page beyond
// its request, are NaN, as are outputs before a run.
//
// Thread safety: owned by one thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "base/check.h"
#include "kernels/attention_rows_cuda.h"
#include "kernels/convert.h"
#include "tests/kernels/attention_rows_cases.h"
#include "tests/kernels/device_array.h"

namespace intarsia::kernels {

// Rounds the queries of a case to bf16, and returns their bits.
inline std::vector<uint16_t> RoundQueries(const AttentionRowsCase& problem,
                                          AttentionRowsData* data) {
  std::vector<uint16_t> bits(problem.positions.size() *
                             static_cast<size_t>(problem.num_heads * problem.head_dim));
  for (size_t i = 0; i < bits.size(); ++i) {
    bits[i] = F32ToBf16(data->q()[i]);
    data->q()[i] = Bf16ToF32(bits[i]);
  }
  return bits;
}

// The host's side: the keys of one request or several in pages, and all rows.
class AttentionRowsPages {
 public:
  static constexpr uint16_t kNanBits = 0x7fff;

  // Requests with the same heads; each row of `problems[i]` becomes a row of the whole.
  explicit AttentionRowsPages(const std::vector<AttentionRowsCase>& problems) {
    const AttentionRowsCase& first = problems.front();
    int64_t num_pages = 3;  // that belong to nobody
    for (const AttentionRowsCase& problem : problems) {
      const int64_t request_pages = NumPagesFor(problem.positions.back() + 1);
      num_pages += request_pages;
      table_stride = std::max(table_stride, request_pages);
    }
    const int64_t page_elements = PageElements(first.num_kv_heads, first.head_dim);
    k.assign(static_cast<size_t>(num_pages * page_elements), kNanBits);
    v = k;
    std::vector<int32_t> order(static_cast<size_t>(num_pages));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(71));
    layer = {
        .num_pages = num_pages, .num_kv_heads = first.num_kv_heads, .head_dim = first.head_dim};
    for (const AttentionRowsCase& problem : problems) {
      table.resize(table.size() + static_cast<size_t>(table_stride), 0);
      AddRequest(problem, &order, &table[table.size() - static_cast<size_t>(table_stride)]);
    }
  }

  PagedKvLayer layer;  // its sizes
  int64_t table_stride = 0;
  std::vector<uint16_t> k;
  std::vector<uint16_t> v;
  std::vector<int32_t> table;  // [num_requests, table_stride]
  std::vector<uint16_t> q;
  std::vector<int32_t> positions;
  std::vector<float> expected;  // of the queries as they are in bf16

 private:
  void AddRequest(AttentionRowsCase problem, std::vector<int32_t>* free_pages, int32_t* pages) {
    problem.type = KvType::kBf16;
    AttentionRowsData data(problem);
    const std::vector<uint16_t> queries = RoundQueries(problem, &data);
    q.insert(q.end(), queries.begin(), queries.end());
    positions.insert(positions.end(), problem.positions.begin(), problem.positions.end());
    INTARSIA_CHECK(AttentionRowsReference(data.Params()).ok());
    const std::vector<float> output = data.Output();
    expected.insert(expected.end(), output.begin(), output.end());

    const int64_t num_keys = data.num_keys();
    layer.num_tokens = std::max(layer.num_tokens, num_keys);
    for (int64_t i = 0; i < NumPagesFor(num_keys); ++i) {
      pages[i] = free_pages->back();
      free_pages->pop_back();
    }
    const auto* const host_k = static_cast<const uint16_t*>(data.layer().k);
    const auto* const host_v = static_cast<const uint16_t*>(data.layer().v);
    for (int64_t token = 0; token < num_keys; ++token) {
      for (int64_t head = 0; head < problem.num_kv_heads; ++head) {
        const auto target = static_cast<size_t>(
            PagedKvOffset(layer, pages[token / kPageTokens], head, token % kPageTokens));
        for (int64_t i = 0; i < problem.head_dim; ++i) {
          k[target + static_cast<size_t>(i)] = host_k[KOffset(data.layer(), head, token, i)];
          v[target + static_cast<size_t>(i)] = host_v[VOffset(data.layer(), head, token, i)];
        }
      }
    }
  }
};

class AttentionRowsDeviceData {
 public:
  // Rows of one request.
  explicit AttentionRowsDeviceData(const AttentionRowsCase& problem)
      : AttentionRowsDeviceData({problem}, /*num_tables=*/1) {}
  // Requests of one row each.
  explicit AttentionRowsDeviceData(const std::vector<AttentionRowsCase>& problems)
      : AttentionRowsDeviceData(problems, static_cast<int64_t>(problems.size())) {}

  AttentionRowsCudaParams Params() const {
    AttentionRowsCudaParams params{.layer = pages_.layer,
                                   .page_table_stride = page_table_stride_,
                                   .q = q_.data(),
                                   .positions = positions_.data(),
                                   .num_rows = static_cast<int64_t>(pages_.positions.size()),
                                   .max_position = pages_.layer.num_tokens - 1,
                                   .num_heads = problem_.num_heads,
                                   .scale = 1.0F / std::sqrt(static_cast<float>(problem_.head_dim)),
                                   .window = problem_.window,
                                   .logit_softcap = problem_.logit_softcap,
                                   .output = output_.data(),
                                   .lse = lse_.data()};
    params.layer.k_pages = k_.data();
    params.layer.v_pages = v_.data();
    params.layer.page_table = table_.data();
    if (workspace_ != nullptr) {
      params.workspace = workspace_->data();
      params.workspace_bytes = workspace_bytes_;
    }
    return params;
  }

  // After the stream has been waited for.
  std::vector<float> Output() const {
    const std::vector<uint16_t> bits = output_.CopyToHost();
    std::vector<float> output(bits.size());
    Bf16ToF32(bits.data(), static_cast<int64_t>(bits.size()), output.data());
    return output;
  }
  void WriteQuery(size_t index, uint16_t bits) {
    INTARSIA_CHECK(CopyAndWait(q_.data() + index, &bits, sizeof(bits)).ok());
  }
  std::vector<float> LogSumExps() const { return lse_.CopyToHost(); }
  const std::vector<float>& expected() const { return pages_.expected; }

  // Whether nothing was written beside the outputs.
  bool GuardsAreIntact() const {
    return output_.GuardsAreIntact() && lse_.GuardsAreIntact() && workspace_->GuardsAreIntact();
  }

 private:
  AttentionRowsDeviceData(const std::vector<AttentionRowsCase>& problems, int64_t num_tables)
      : problem_(problems.front()),
        pages_(problems),
        page_table_stride_(num_tables > 1 ? pages_.table_stride : 0),
        k_(pages_.k),
        v_(pages_.v),
        table_(pages_.table),
        q_(pages_.q),
        positions_(pages_.positions),
        output_(std::vector<uint16_t>(pages_.q.size(), AttentionRowsPages::kNanBits)),
        lse_(std::vector<float>(pages_.positions.size() * static_cast<size_t>(problem_.num_heads),
                                std::numeric_limits<float>::quiet_NaN())) {
    const Result<int64_t> workspace_bytes = AttentionRowsWorkspaceBytes(Params());
    INTARSIA_CHECK(workspace_bytes.ok());
    workspace_bytes_ = *workspace_bytes;
    workspace_ = std::make_unique<DeviceArray<uint8_t>>(
        std::vector<uint8_t>(static_cast<size_t>(workspace_bytes_), uint8_t{0xff}));
  }

  const AttentionRowsCase problem_;
  const AttentionRowsPages pages_;
  const int64_t page_table_stride_;
  const DeviceArray<uint16_t> k_;
  const DeviceArray<uint16_t> v_;
  const DeviceArray<int32_t> table_;
  DeviceArray<uint16_t> q_;
  const DeviceArray<int32_t> positions_;
  const DeviceArray<uint16_t> output_;
  const DeviceArray<float> lse_;
  int64_t workspace_bytes_ = 0;
  std::unique_ptr<DeviceArray<uint8_t>> workspace_;
};

}  // namespace intarsia::kernels
