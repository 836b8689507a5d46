// PlanWriter, DescribeRetrieval: the lines of EXPLAIN.
//
// Thread safety: owned by one thread.
#pragma once

#include <string>

#include "engine/retriever.h"
#include "query/value.h"

namespace intarsia::engine {

// `value` as printf writes it by `format`, which takes one double.
std::string Format(const char* format, double value);
std::string Ms(double milliseconds);

// A tree of steps, one line each.
class PlanWriter {
 public:
  void Add(int depth, const std::string& text);
  query::ResultSet Take();

 private:
  query::ResultSet result_;
};

enum class PlanTimes : uint8_t { kOmit, kShow };

// How chunks were found, from `depth` on.
void DescribeRetrieval(const RetrieveParams& params, const Retrieval& retrieval, int depth,
                       PlanTimes times, PlanWriter* plan);

}  // namespace intarsia::engine
