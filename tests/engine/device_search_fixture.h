// DeviceSearchFixture: a collection with codes, searched on a device and by comparing all vectors.
//
// Thread safety: owned by one thread.
#pragma once

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/engine/engine_fixture.h"

namespace intarsia::engine {

class DeviceSearchFixture : public EngineFixture {
 protected:
  // With codes from 100 vectors on.
  void OpenWith(DeviceProvider* devices) {
    EngineOptions options;
    options.vectors.flat_max = 100;
    options.vectors.sampled_max = 64;
    options.devices = devices;
    Open(options);
  }
  static std::string Sql(const std::string& scan, const std::string& where = {}) {
    return "SEARCH 'the harbour in spring' IN many " + where + " LIMIT 10 WITH (scan = '" + scan +
           "', mode = 'vector')";
  }
  // Scores of the best ten by one way, ascending; ties make ids differ.
  std::vector<double> Scores(const std::string& scan, const std::string& where = {}) {
    std::vector<double> scores;
    for (const query::Row& row : Run(Sql(scan, where)).rows) scores.push_back(row[0].AsDouble());
    std::sort(scores.begin(), scores.end());
    return scores;
  }
  // A scan of estimates may miss a hit or two by the bound that was measured, and scores the others
  // as comparing all does.
  void ExpectFindsWhatComparingAllFinds(const std::string& where = {}) {
    const std::vector<double> exact = Scores("flat", where);
    const std::vector<double> found = Scores("device", where);
    std::vector<double> common;
    std::set_intersection(exact.begin(), exact.end(), found.begin(), found.end(),
                          std::back_inserter(common));
    EXPECT_EQ(found.size(), exact.size()) << where;
    EXPECT_GE(common.size() + 2, exact.size()) << where;
  }
  void ExpectFiltersHold() {
    for (const char* where : {"", "WHERE part < 5", "WHERE part = 3", "WHERE part > 100"}) {
      ExpectFindsWhatComparingAllFinds(where);
    }
  }
};

}  // namespace intarsia::engine
