#include "client/shell/progress_line.h"

#include <sstream>
#include <string>

#include <gtest/gtest.h>

namespace intarsia::client {
namespace {

class ProgressLineTest : public ::testing::Test {
 protected:
  ProgressLine Make(int64_t columns) {
    ProgressLineOptions options;
    options.columns = columns;
    options.now_ms = [this] { return now_ms_; };
    return ProgressLine(&out_, options);
  }

  static engine::Progress At(int64_t done) {
    return {.stage = "embed", .unit = "documents", .done = done, .total = 100};
  }

  std::string TakeOutput() {
    std::string text = out_.str();
    out_.str("");
    return text;
  }

  std::ostringstream out_;
  int64_t now_ms_ = 1'000;
};

TEST_F(ProgressLineTest, QuickStatementsShowNothing) {
  ProgressLine line = Make(100);
  line.Report(At(1));
  now_ms_ += 1'900;
  line.Report(At(50));
  line.Clear();
  EXPECT_EQ(TakeOutput(), "");
}

TEST_F(ProgressLineTest, SlowStatementsShowCountRateAndTimeLeft) {
  ProgressLine line = Make(120);
  line.Report(At(0));
  now_ms_ += 2'000;
  line.Report(At(50));
  EXPECT_EQ(
      TakeOutput(),
      "\r\x1B[Kembed  [############------------]  50/100 documents  25/s  0 errors  ETA 2.0 s");
  line.Clear();
  EXPECT_EQ(TakeOutput(), "\r\x1B[K");
  line.Clear();
  EXPECT_EQ(TakeOutput(), "");
}

TEST_F(ProgressLineTest, AtMostTenLinesASecond) {
  ProgressLine line = Make(100);
  now_ms_ += 2'000;
  int num_lines = 0;
  for (int i = 0; i < 1'000; ++i, ++now_ms_) {
    line.Report(At(i / 10));
    if (!TakeOutput().empty()) ++num_lines;
  }
  EXPECT_EQ(num_lines, 10);
}

TEST_F(ProgressLineTest, BytesDecideWhereTheyAreKnown) {
  ProgressLine line = Make(200);
  engine::Progress progress = At(0);
  progress.bytes_total = 4'000'000;
  line.Report(progress);
  now_ms_ += 2'000;
  progress.bytes_done = 1'000'000;
  progress.done = 1;
  progress.errors = 1;
  line.Report(progress);
  EXPECT_EQ(
      TakeOutput(),
      "\r\x1B[Kembed  [######------------------]  1/100 documents  1.0 MB  500 kB/s  1 error  "
      "ETA 6.0 s");
}

TEST_F(ProgressLineTest, UnknownTotalHasNoBar) {
  ProgressLine line = Make(100);
  line.Report({.stage = "read", .unit = "files"});
  now_ms_ += 2'500;
  line.Report({.stage = "read", .unit = "files", .done = 5});
  EXPECT_EQ(TakeOutput(), "\r\x1B[Kread  5 files  2/s  0 errors");
}

TEST_F(ProgressLineTest, TheTimeLeftIsShownOnANarrowTerminalToo) {
  engine::Progress progress = At(0);
  ProgressLine wide = Make(80);
  ProgressLine small = Make(60);
  ProgressLine narrow = Make(50);
  for (ProgressLine* line : {&wide, &small, &narrow}) line->Report(progress);
  now_ms_ += 2'000;
  progress.done = 50;
  progress.bytes_done = 200'000;
  wide.Report(progress);
  EXPECT_EQ(
      TakeOutput(),
      "\r\x1B[Kembed  [######-------]  50/100 documents  200 kB  100 kB/s  0 errors  ETA 2.0 s");
  small.Report(progress);
  EXPECT_EQ(TakeOutput(), "\r\x1B[Kembed  50/100 documents  100 kB/s  0 errors  ETA 2.0 s");
  narrow.Report(progress);
  EXPECT_EQ(TakeOutput(), "\r\x1B[Kembed  50/100 documents  0 errors  ETA 2.0 s");
}

TEST_F(ProgressLineTest, LineIsNarrowerThanTheTerminal) {
  ProgressLine line = Make(22);
  now_ms_ += 2'000;
  line.Report(At(50));
  EXPECT_EQ(TakeOutput(), "\r\x1B[Kembed  50/100 docume…");
  ProgressLine narrow = Make(10);
  now_ms_ += 5'000;
  narrow.Report(At(50));
  EXPECT_EQ(TakeOutput(), "");
}

TEST_F(ProgressLineTest, WrongFiguresDoNoHarm) {
  ProgressLine line = Make(100);
  line.Report(At(50));
  now_ms_ += 2'000;
  line.Report(At(200));
  now_ms_ += 2'000;
  line.Report(At(10));
  now_ms_ += 2'000;
  line.Report({.stage = "embed\x1B", .unit = "", .done = -1, .total = INT64_MAX});
  EXPECT_NE(TakeOutput(), "");
}

}  // namespace
}  // namespace intarsia::client
