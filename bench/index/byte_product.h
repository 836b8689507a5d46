// ByteProduct: oneDNN's product of unsigned with signed bytes, on one thread.
//
// What a scan of a batch would call to use AMX where there is AMX: codes unpacked to bytes are the
// rows, queries the columns. Beside the scan's own kernel it says whether that would be worth it.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace intarsia::index {

class ByteProduct {
 public:
  // Of [num_rows, num_inputs] with [num_inputs, num_columns].
  ByteProduct(int64_t num_rows, int64_t num_inputs, int64_t num_columns);
  ~ByteProduct();
  ByteProduct(const ByteProduct&) = delete;
  ByteProduct& operator=(const ByteProduct&) = delete;

  // Multiplies what its memory holds. False if oneDNN cannot.
  bool Run();
  // The code that oneDNN chose, which names the instructions; empty if it has none.
  std::string implementation() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace intarsia::index
