// SampleTokens: real text as token ids, as many as a measurement asks for.
//
// Thread safety: may be called concurrently.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/tokenizer.h"

namespace intarsia::bench {

struct SampleTokens {
  std::vector<int32_t> ids;  // as many as asked for
  std::string source;        // for the report: where they come from
};

// The Markdown files below `folder` in order of their paths, from the start again if they do not
// suffice; without any file, random ids of a fixed seed that are not special.
// Errors: those of Tokenizer::Encode.
Result<SampleTokens> ReadSampleTokens(const std::string& folder, int64_t num_tokens,
                                      const model::Tokenizer& tokenizer);

}  // namespace intarsia::bench
