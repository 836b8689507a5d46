#include "query/value.h"

#include <cmath>
#include <limits>
#include <string>

#include <gtest/gtest.h>

namespace intarsia::query {
namespace {

std::string RoundTrip(std::string_view text) {
  const Result<Timestamp> timestamp = ParseTimestamp(text);
  return timestamp.ok() ? FormatTimestamp(*timestamp) : "error";
}

TEST(ValueTest, KindFollowsTheConstructor) {
  EXPECT_EQ(Value().kind(), ValueKind::kNull);
  EXPECT_EQ(Value(true).kind(), ValueKind::kBoolean);
  EXPECT_EQ(Value(7).kind(), ValueKind::kInteger);
  EXPECT_EQ(Value(int64_t{7}).AsInteger(), 7);
  EXPECT_EQ(Value(0.5).kind(), ValueKind::kDouble);
  EXPECT_EQ(Value("text").kind(), ValueKind::kString);
  EXPECT_EQ(Value(Timestamp{1}).kind(), ValueKind::kTimestamp);
  EXPECT_EQ(Value(Value::List{Value(1)}).kind(), ValueKind::kList);
  EXPECT_EQ(Value(Value::Object{}).kind(), ValueKind::kObject);
}

TEST(ValueTest, FindGivesTheFieldOfAnObjectOnly) {
  const Value object(Value::Object{{"n", Value(1)}});
  ASSERT_NE(object.Find("n"), nullptr);
  EXPECT_EQ(object.Find("n")->AsInteger(), 1);
  EXPECT_EQ(object.Find("m"), nullptr);
  EXPECT_EQ(Value(1).Find("n"), nullptr);
}

TEST(ValueTest, EqualityLooksAtKindAndContent) {
  EXPECT_EQ(Value(1), Value(1));
  EXPECT_FALSE(Value(1) == Value(1.0));
  EXPECT_FALSE(Value(std::nan("")) == Value(std::nan("")));
  EXPECT_EQ(Value(Value::Object{{"a", Value("b")}}), Value(Value::Object{{"a", Value("b")}}));
}

TEST(ValueTest, JsonNestsAndEscapes) {
  const Value value(Value::Object{
      {"quote", Value("a\"b\\c\n\t\x01")},
      {"list", Value(Value::List{Value(1), Value(0.5), Value(), Value(true)})},
      {"empty", Value(Value::List{})},
      {"object", Value(Value::Object{})},
      {"when", Value(Timestamp{0})},
  });
  EXPECT_EQ(ToJson(value),
            R"({"quote":"a\"b\\c\n\t\u0001","list":[1,0.5,null,true],"empty":[],"object":{},)"
            R"("when":"1970-01-01T00:00:00Z"})");
}

TEST(ValueTest, JsonHasNoNumberForNanAndInfinity) {
  EXPECT_EQ(ToJson(Value(std::nan(""))), "null");
  EXPECT_EQ(ToJson(Value(std::numeric_limits<double>::infinity())), "null");
}

TEST(ValueTest, JsonRepairsIllFormedText) {
  EXPECT_EQ(ToJson(Value("a\xFFz")), "\"a\xEF\xBF\xBDz\"");
}

TEST(ValueTest, DoublesReadBackAndStayDoubles) {
  EXPECT_EQ(ToText(Value(0.1), ""), "0.1");
  EXPECT_EQ(ToText(Value(3.0), ""), "3.0");
  EXPECT_EQ(ToText(Value(1e300), ""), "1e+300");
  EXPECT_EQ(ToText(Value(), "NULL"), "NULL");
}

TEST(ValueTest, TimestampsReadBack) {
  EXPECT_EQ(RoundTrip("2025-01-31"), "2025-01-31T00:00:00Z");
  EXPECT_EQ(RoundTrip("2025-01-31 12:30"), "2025-01-31T12:30:00Z");
  EXPECT_EQ(RoundTrip("2025-01-31T12:30:05.25Z"), "2025-01-31T12:30:05.25Z");
  EXPECT_EQ(RoundTrip("2025-01-31T12:30:05+02:00"), "2025-01-31T10:30:05Z");
  EXPECT_EQ(RoundTrip("2025-01-01T00:00-0130"), "2025-01-01T01:30:00Z");
  EXPECT_EQ(RoundTrip("1969-12-31T23:59:59.999999Z"), "1969-12-31T23:59:59.999999Z");
  EXPECT_EQ(RoundTrip("0001-01-01"), "0001-01-01T00:00:00Z");
  EXPECT_EQ(RoundTrip("9999-12-31T23:59:59Z"), "9999-12-31T23:59:59Z");
}

TEST(ValueTest, WrongTimestampsAreRefused) {
  for (const char* text :
       {"", "2025", "2025-13-01", "2025-02-30", "2025-1-1", "2025-01-31T", "2025-01-31T24:00",
        "2025-01-31T12:60", "2025-01-31T12:00:00.", "2025-01-31T12:00:00.1234567",
        "2025-01-31T12:00:00Zx", "2025-01-31X12:00", "0000-01-01", "0001-01-01T00:00+18:00",
        "9999-12-31T23:59-18:00", "-001-01-01", "2025-01-31T12:00:00+2:00"}) {
    EXPECT_EQ(RoundTrip(text), "error") << text;
  }
}

TEST(ValueTest, ColumnTypesHaveNames) {
  EXPECT_EQ(ColumnTypeName({BaseType::kVarchar, true}), "VARCHAR[]");
  EXPECT_EQ(ColumnTypeName({BaseType::kTimestamp, false}), "TIMESTAMP");
  EXPECT_EQ(KindOf({BaseType::kInt, true}), ValueKind::kList);
  EXPECT_EQ(KindOf({BaseType::kDouble, false}), ValueKind::kDouble);
}

}  // namespace
}  // namespace intarsia::query
