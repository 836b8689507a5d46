// QualityMetrics: how far an answer is from the one that people wrote.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <string>
#include <string_view>

namespace intarsia::bench {

// Token F1 as SQuAD counts it: lower case, without punctuation and articles.
double TokenF1(std::string_view prediction, std::string_view gold);

}  // namespace intarsia::bench
