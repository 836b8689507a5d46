// Searches of vectors on a device: the same hits as on the CPU, EXPLAIN says where, and what a
// device cannot do the CPU does.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/engine/engine_fixture.h"
#include "tests/engine/fake_devices.h"

namespace intarsia::engine {
namespace {

class DeviceSearchTest : public EngineFixture {
 protected:
  // With codes from 100 vectors on.
  void OpenWith(DeviceProvider* devices) {
    EngineOptions options;
    options.vectors.flat_max = 100;
    options.vectors.sampled_max = 64;
    options.devices = devices;
    Open(options);
  }
  void CreateMany(int count) {
    CreateDocs();
    Run("CREATE COLLECTION many (part INT)");
    Insert(0, count);
  }
  void Insert(int begin, int end) {
    std::string values;
    const std::vector<std::string> words = TinyWords();
    for (int i = begin; i < end; ++i) {
      const auto at = static_cast<size_t>(i);
      values += (i > begin ? ", (" : "(") + ("'n" + std::to_string(i)) + "', '" +
                words[at % words.size()] + " " + words[(at * 7 / 3) % words.size()] + " " +
                words[(at / words.size()) % words.size()] + "', " + std::to_string(i % 10) + ")";
    }
    Run("INSERT INTO many (id, content, part) VALUES " + values);
  }
  static std::string Sql(const std::string& scan, const std::string& where = {}) {
    return "SEARCH 'the harbour in spring' IN many " + where + " LIMIT 10 WITH (scan = '" + scan +
           "', mode = 'vector')";
  }
  // Scores of the best ten by one way; ties make ids differ.
  std::vector<double> Scores(const std::string& scan, const std::string& where = {}) {
    std::vector<double> scores;
    for (const query::Row& row : Run(Sql(scan, where)).rows) scores.push_back(row[0].AsDouble());
    return scores;
  }
  std::string Plan(const std::string& sql) {
    std::string plan;
    for (const query::Row& row : Run(sql).rows) plan += row[0].AsString() + "\n";
    return plan;
  }
  static bool Has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }

  FakeDevices devices_;
};

TEST_F(DeviceSearchTest, FindsWhatTheCpuFindsWhileTheCollectionChanges) {
  OpenWith(&devices_);
  CreateMany(300);
  const auto expect_same = [this] {
    for (const char* where : {"", "WHERE part < 5", "WHERE part = 3", "WHERE part > 100"}) {
      EXPECT_EQ(Scores("device", where), Scores("flat", where)) << where;
    }
  };
  expect_same();
  const int64_t num_scans = devices_.state().num_scans;
  EXPECT_GT(num_scans, 0);
  Insert(300, 380);
  expect_same();
  Run("DELETE FROM many WHERE part = 3");
  expect_same();
  Run("INSERT INTO many (id, content, part) VALUES ('n4', 'the harbour', 4)");
  expect_same();
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
  EXPECT_EQ(Scores("device"), Scores("flat"));
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
      Insert(num_documents, num_documents + 1);
      ++num_documents;
      const std::vector<double> expected = Scores("flat");
      devices_.state().*failing = Status(code, "it is broken");
      EXPECT_TRUE(HasNotice(Run(Sql("device")), "because cuda:0 could not: it is broken"));
      EXPECT_EQ(Scores("device"), expected);
      devices_.state().*failing = Status::Ok();
      // It is tried again when somebody says so.
      EXPECT_TRUE(HasNotice(Run(Sql("device")), "no device has the codes"));
      Run("SET device = 'auto'");
      EXPECT_TRUE(Run(Sql("device")).notices.empty());
      EXPECT_EQ(Scores("device"), expected);
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
  EXPECT_GT(num_scans, 0);
  // What is there already goes when it does not fit any more.
  Run("SET device.code_bytes_max = 0");
  EXPECT_TRUE(HasNotice(Run(Sql("device")), "device.code_bytes_max allows 0"));
  EXPECT_EQ(devices_.state().num_scans, num_scans);
  EXPECT_EQ(Scores("device"), Scores("flat"));
}

}  // namespace
}  // namespace intarsia::engine
