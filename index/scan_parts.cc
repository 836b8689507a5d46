#include "index/scan_parts.h"

#include "base/check.h"
#include "kernels/dot_rows.h"

namespace intarsia::index {

int64_t Rescorer::Run(std::span<const Prospect> prospects) {
  std::array<int64_t, kBatch> slots{};
  size_t done = 0;
  while (done < prospects.size() && prospects[done].limit >= best_.threshold()) {
    size_t count = 0;
    for (; count < slots.size() && done + count < prospects.size(); ++count) {
      slots[count] = prospects[done + count].slot;
    }
    Add({slots.data(), count});
    done += count;
  }
  return static_cast<int64_t>(done);
}

void Rescorer::Add(std::span<const int64_t> slots) {
  std::array<const float*, kBatch> pointers{};
  for (size_t i = 0; i < slots.size(); ++i) pointers[i] = rows_.row(slots[i]).data();
  std::array<float, kBatch> scores{};
  kernels::DotRowsParams params;
  params.query = query_.data();
  params.row_pointers = pointers.data();
  params.num_rows = static_cast<int64_t>(slots.size());
  params.dim = rows_.dim();
  params.scores = scores.data();
  INTARSIA_CHECK(kernels::DotRows(params).ok());
  for (size_t i = 0; i < slots.size(); ++i) {
    best_.Push({rows_.ids()[static_cast<size_t>(slots[i])], scores[i]});
  }
}

}  // namespace intarsia::index
