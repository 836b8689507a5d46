#include <cstring>
#include <exception>
#include <vector>

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include "bench/index/byte_product.h"

namespace intarsia::index {

using dnnl::memory;

struct ByteProduct::State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul primitive;
  memory rows, columns, sums;
  std::string implementation;
};

ByteProduct::ByteProduct(int64_t num_rows, int64_t num_inputs, int64_t num_columns) {
  try {
    auto state = std::make_unique<State>();
    const memory::desc rows({num_rows, num_inputs}, memory::data_type::u8, memory::format_tag::ab);
    const memory::desc columns({num_inputs, num_columns}, memory::data_type::s8,
                               memory::format_tag::any);
    const memory::desc sums({num_rows, num_columns}, memory::data_type::s32,
                            memory::format_tag::ab);
    const dnnl::matmul::primitive_desc description({rows, columns, sums}, state->engine);
    state->rows = memory(rows, state->engine);
    state->columns = memory(description.weights_desc(), state->engine);
    state->sums = memory(sums, state->engine);
    std::memset(state->rows.get_data_handle(), 1, rows.get_size());
    std::memset(state->columns.get_data_handle(), 1, description.weights_desc().get_size());
    state->primitive = dnnl::matmul(description);
    state->implementation = description.impl_info_str();
    state_ = std::move(state);
  } catch (const std::exception&) {
    state_ = nullptr;
  }
}
ByteProduct::~ByteProduct() = default;

bool ByteProduct::Run() {
  if (state_ == nullptr) return false;
  try {
    omp_set_num_threads(1);  // of the calling thread
    state_->primitive.execute(state_->stream, {{DNNL_ARG_SRC, state_->rows},
                                               {DNNL_ARG_WEIGHTS, state_->columns},
                                               {DNNL_ARG_DST, state_->sums}});
    state_->stream.wait();
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

std::string ByteProduct::implementation() const {
  return state_ == nullptr ? "" : state_->implementation;
}

}  // namespace intarsia::index
