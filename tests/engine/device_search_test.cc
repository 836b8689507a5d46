// Searches of vectors on a device: the same hits as on the CPU, EXPLAIN says where, and what a
// device cannot do the CPU does.
#include <string>

#include <gtest/gtest.h>

#include "tests/engine/device_search_fixture.h"
#include "tests/engine/fake_devices.h"

namespace intarsia::engine {
namespace {

class DeviceSearchTest : public DeviceSearchFixture {
 protected:
  FakeDevices devices_;
};

TEST_F(DeviceSearchTest, FindsWhatTheCpuFindsWhileTheCollectionChanges) {
  OpenWith(&devices_);
  CreateMany(300);
  ExpectFiltersHold();
  const int64_t num_scans = devices_.state().num_scans;
  EXPECT_GT(num_scans, 0);
  InsertMany(300, 380);
  ExpectFiltersHold();
  Run("DELETE FROM many WHERE part = 3");
  ExpectFiltersHold();
  Run("INSERT INTO many (id, content, part) VALUES ('n4', 'the harbour', 4)");
  ExpectFiltersHold();
  EXPECT_GT(devices_.state().num_scans, num_scans);
}

TEST_F(DeviceSearchTest, ExplainSaysWhereVectorsWereSearched) {
  OpenWith(&devices_);
  CreateMany(300);
  const std::string plan = Plan("EXPLAIN ANALYZE " + Sql("device"));
  EXPECT_TRUE(Has(plan, "RETRIEVE by device scan at cuda:0, rescored: 300 vectors")) << plan;
  EXPECT_TRUE(Has(plan, ", device scan ")) << plan;
  EXPECT_TRUE(Has(plan, "search ")) << plan;
  Run("SET device = 'cpu'");
  const std::string on_cpu = Plan("EXPLAIN " + Sql("auto"));
  EXPECT_FALSE(Has(on_cpu, "device scan")) << on_cpu;
}

TEST_F(DeviceSearchTest, WithoutADeviceTheCpuSearchesAndSaysSoIfItWasAsked) {
  OpenWith(&no_devices_);
  CreateMany(300);
  EXPECT_TRUE(HasNotice(Run(Sql("device")), "no device has the codes of collection many"));
  EXPECT_FALSE(HasNotice(Run(Sql("auto")), "device"));
  ExpectFindsWhatComparingAllFinds();
  EXPECT_FALSE(Has(Plan("EXPLAIN " + Sql("auto")), "device scan"));
  OpenWith(&devices_);
  Run("SET device = 'cpu'");
  EXPECT_TRUE(HasNotice(Run(Sql("device")), "no device has the codes of collection many"));
  EXPECT_EQ(devices_.state().num_scans, 0);
}

TEST_F(DeviceSearchTest, WhatADeviceCannotDoTheCpuDoes) {
  OpenWith(&devices_);
  CreateMany(300);
  int num_documents = 300;
  for (const StatusCode code :
       {StatusCode::kResourceExhausted, StatusCode::kUnsupported, StatusCode::kInternal}) {
    for (Status FakeDeviceState::*failing : {&FakeDeviceState::extend, &FakeDeviceState::scan}) {
      // So that the codes on the device are not all of them.
      InsertMany(num_documents, num_documents + 1);
      ++num_documents;
      devices_.state().*failing = Status(code, "it is broken");
      EXPECT_TRUE(HasNotice(Run(Sql("device")), "because cuda:0 could not: it is broken"));
      ExpectFindsWhatComparingAllFinds();
      devices_.state().*failing = Status::Ok();
      // It is tried again when somebody says so.
      EXPECT_TRUE(HasNotice(Run(Sql("device")), "no device has the codes"));
      Run("SET device = 'auto'");
      EXPECT_TRUE(Run(Sql("device")).notices.empty());
      ExpectFindsWhatComparingAllFinds();
    }
  }
}

TEST_F(DeviceSearchTest, CodesStayWithinTheirBudget) {
  OpenWith(&devices_);
  CreateMany(300);
  Run("SET device.code_bytes_max = 100");
  EXPECT_TRUE(HasNotice(Run(Sql("device")), "device.code_bytes_max allows 100"));
  EXPECT_EQ(devices_.state().num_scans, 0);
  Run("SET device.code_bytes_max = '1MB'");
  EXPECT_TRUE(Run(Sql("device")).notices.empty());
  const int64_t num_scans = devices_.state().num_scans;
  EXPECT_EQ(num_scans, 1);
  // What is there already goes at once when it does not fit any more.
  EXPECT_EQ(devices_.state().num_scanners, 1);
  Run("SET device.code_bytes_max = '2MB'");
  EXPECT_EQ(devices_.state().num_scanners, 1);
  Run("SET device.code_bytes_max = 0");
  EXPECT_EQ(devices_.state().num_scanners, 0);
  EXPECT_TRUE(HasNotice(Run(Sql("device")), "device.code_bytes_max allows 0"));
  EXPECT_EQ(devices_.state().num_scans, num_scans);
  ExpectFindsWhatComparingAllFinds();
}

}  // namespace
}  // namespace intarsia::engine
