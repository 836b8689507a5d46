// FusedPart: the part of prefill_bench that measures fused prompts, in rounds with a full prefill
// of the same prompt.
//
// Thread safety: owned by one thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/end_to_end/loaded_model.h"

namespace intarsia::bench {

struct FusedPartOptions {
  std::string selector = "attention";
  std::string propagate = "two_sided";
  std::string probes = "with_rows";
  std::vector<double> ratios = {0.0, 0.05, 0.15, 0.30};
  std::vector<std::string> tiers = {"memory", "warm", "cold"};
  int64_t chunk_tokens = 512;
  int64_t question_tokens = 64;
  int64_t room_tokens = 64;  // that could be decoded behind the prompt
  int repetitions = 5;
};

// Measures every tier and ratio with chunks of `context` tokens together; prints a table and
// returns it for a report, null where the model's context is too short. Ends the program with a
// message if a prefill fails.
nlohmann::json MeasureFused(const LoadedModel& model, const FusedPartOptions& options,
                            int64_t context);

}  // namespace intarsia::bench
