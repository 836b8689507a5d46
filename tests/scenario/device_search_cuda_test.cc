// SEARCH on the device of this machine, beside comparing all vectors.
#include <string>

#include <gtest/gtest.h>

#include "tests/engine/device_search_fixture.h"

namespace intarsia::engine {
namespace {

class DeviceSearchCudaTest : public DeviceSearchFixture {
 protected:
  void SetUp() override {
    if (!LocalDevices()->Check(0).ok()) GTEST_SKIP() << "no device";
    machine_ = LocalDevices();
    OpenWith(LocalDevices());
  }
};

TEST_F(DeviceSearchCudaTest, FindsWhatTheCpuFindsWhileTheCollectionChanges) {
  CreateMany(700);
  ExpectFiltersHold();
  InsertMany(700, 900);
  ExpectFiltersHold();
  Run("DELETE FROM many WHERE part = 3");
  ExpectFiltersHold();
  const std::string plan = Plan("EXPLAIN ANALYZE " + Sql("device"));
  EXPECT_TRUE(Has(plan, "device scan at cuda:0, rescored")) << plan;
  EXPECT_TRUE(Run(Sql("device")).notices.empty());
}

}  // namespace
}  // namespace intarsia::engine
