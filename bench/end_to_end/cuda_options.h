// CudaOptions: the options of a device's model as arguments of a benchmark.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "kernels/device_matrix.h"
#include "model/cuda_transformer.h"

namespace intarsia::bench {

// Adds --compute, --fp8-rows-min and --fp8-sums, which set `options`.
inline void AddCudaOptions(CLI::App* app, model::CudaTransformerOptions* options) {
  app->add_option_function<std::string>(
         "--compute",
         [options](const std::string& name) {
           options->compute = name == "fp8" ? model::CudaCompute::kFp8 : model::CudaCompute::kBf16;
         },
         "products of layers")
      ->check(CLI::IsMember({"bf16", "fp8"}));
  app->add_option("--fp8-rows-min", options->fp8_rows_min,
                  "passes with fewer rows are in bf16; 0: none, and no weights in bf16")
      ->check(CLI::Range(0, 1 << 20));
  app->add_option_function<std::string>(
         "--fp8-products",
         [options](const std::string& name) {
           options->fp8_products =
               name == "all" ? model::Fp8Products::kAll : model::Fp8Products::kAllButQkv;
         },
         "which products of a layer: all, or not those of queries, keys and values")
      ->check(CLI::IsMember({"all", "not-qkv"}));
  app->add_option_function<std::string>(
         "--fp8-sums",
         [options](const std::string& name) {
           options->fp8_sums = name == "fast" ? kernels::Fp8Sums::kFast : kernels::Fp8Sums::kF32;
         },
         "sums of products in fp8")
      ->check(CLI::IsMember({"f32", "fast"}));
}

inline std::string ToString(const model::CudaTransformerOptions& options) {
  if (options.compute == model::CudaCompute::kBf16) return "products in bf16";
  const bool is_all = options.fp8_products == model::Fp8Products::kAll;
  return std::string(is_all ? "products" : "products but q, k and v") + " in fp8 from " +
         std::to_string(options.fp8_rows_min) + " rows on, sums " +
         (options.fp8_sums == kernels::Fp8Sums::kFast ? "fast" : "in f32");
}

}  // namespace intarsia::bench
