#include "base/log.h"

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace intarsia {
namespace {

std::string LoggedBy(void (*action)()) {
  testing::internal::CaptureStderr();
  action();
  return testing::internal::GetCapturedStderr();
}

TEST(LogTest, AWarningIsOneLineOnStandardError) {
  const std::string text = LoggedBy([] { Log(LogLevel::kWarning, "cache is cold: id=42"); });
  EXPECT_NE(text.find("cache is cold: id=42\n"), std::string::npos) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
}

TEST(LogTest, LinesBelowTheLevelAreDropped) {
  EXPECT_EQ(LoggedBy([] {
              Log(LogLevel::kDebug, "hidden");
              Log(LogLevel::kInfo, "hidden");
            }),
            "");
  EXPECT_NE(LoggedBy([] {
              SetLogLevel(LogLevel::kInfo);
              Log(LogLevel::kInfo, "shown");
              SetLogLevel(LogLevel::kWarning);
            }).find("shown"),
            std::string::npos);
  EXPECT_EQ(LoggedBy([] {
              SetLogLevel(LogLevel::kError);
              Log(LogLevel::kWarning, "hidden");
              SetLogLevel(LogLevel::kWarning);
            }),
            "");
}

TEST(LogTest, AMessageIsNoFormatString) {
  const std::string text = LoggedBy([] { Log(LogLevel::kError, "{} {0} %s {{"); });
  EXPECT_NE(text.find("{} {0} %s {{\n"), std::string::npos) << text;
}

TEST(LogTest, LinesOfSeveralThreadsStayWhole) {
  const std::string text = LoggedBy([] {
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([] {
        for (int line = 0; line < 50; ++line) Log(LogLevel::kError, "<begin middle end>");
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  size_t num_whole = 0;
  for (size_t at = 0; (at = text.find("<begin middle end>\n", at)) != std::string::npos; ++at) {
    ++num_whole;
  }
  EXPECT_EQ(num_whole, 200u);
}

}  // namespace
}  // namespace intarsia
