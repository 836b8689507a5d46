#include "query/schema.h"

#include <string>

#include <gtest/gtest.h>

#include "query/parser.h"

namespace intarsia::query {
namespace {

const CollectionSchema& Schema() {
  static const CollectionSchema schema("docs", {{"lang", {BaseType::kVarchar, false}},
                                                {"year", {BaseType::kInt, false}},
                                                {"acl", {BaseType::kVarchar, true}}});
  return schema;
}

Outcome<std::vector<ColumnSpec>> Columns(const std::string& columns) {
  INTARSIA_ASSIGN_OR_FAIL(const Statement statement,
                          ParseStatement("CREATE COLLECTION c (" + columns + ")"));
  return BindColumns(std::get<CreateCollection>(statement).columns);
}

Outcome<Row> Metadata(const std::string& metadata) {
  INTARSIA_ASSIGN_OR_FAIL(const Statement statement,
                          ParseStatement("COPY docs FROM 'x' METADATA (" + metadata + ")"));
  return BindMetadata(std::get<Copy>(statement).metadata, Schema());
}

Outcome<std::vector<InsertDocument>> Documents(const std::string& rest) {
  INTARSIA_ASSIGN_OR_FAIL(const Statement statement, ParseStatement("INSERT INTO docs " + rest));
  return BindInsert(std::get<Insert>(statement), Schema());
}

TEST(SchemaTest, ImplicitColumnsComeFirst) {
  EXPECT_EQ(Schema().columns()[0].name, "doc_id");
  EXPECT_EQ(Schema().columns()[static_cast<size_t>(Schema().num_implicit())].name, "lang");
  EXPECT_EQ(*Schema().Find({"LANG", {}}), Schema().num_implicit());
}

TEST(SchemaTest, DeclaredColumnsMayNotCollide) {
  EXPECT_EQ(Columns("lang VARCHAR, year INT")->size(), 2U);
  EXPECT_EQ(Columns("lang VARCHAR, LANG INT").diagnostic().message,
            "column \"LANG\" is declared twice");
  for (const char* name : {"source", "Content", "id", "metadata"}) {
    EXPECT_EQ(Columns(std::string(name) + " VARCHAR").diagnostic().message,
              "column \"" + std::string(name) + "\" exists in every collection");
  }
}

TEST(SchemaTest, MetadataFillsDeclaredColumns) {
  const Outcome<Row> row = Metadata("acl = ['a', 'b'], year = 2024");
  ASSERT_TRUE(row.ok());
  EXPECT_TRUE((*row)[0].is_null());
  EXPECT_EQ((*row)[1].AsInteger(), 2024);
  EXPECT_EQ((*row)[2].AsList().size(), 2U);
}

TEST(SchemaTest, WrongMetadataIsNamed) {
  EXPECT_EQ(Metadata("yaer = 1").diagnostic().hint, "Did you mean \"year\"?");
  EXPECT_EQ(Metadata("year = 1, year = 2").diagnostic().message, "column \"year\" is given twice");
  EXPECT_EQ(Metadata("doc_id = 'x'").diagnostic().message,
            "column \"doc_id\" is set by the engine");
  EXPECT_EQ(Metadata("year = 'x'").diagnostic().message,
            "column \"year\" is INT, the value is a string");
  EXPECT_EQ(Metadata("lang = en").diagnostic().message,
            "column \"lang\" is VARCHAR, the value is a name");
  EXPECT_EQ(Metadata("lang = en").diagnostic().hint, "Strings stand in single quotes: 'text'.");
  EXPECT_EQ(Metadata("acl = 'x'").diagnostic().hint, "Lists stand in brackets: [...].");
  EXPECT_EQ(Metadata("acl = ['x', 1]").diagnostic().message,
            "column \"acl\" is VARCHAR[], the value is a list with an integer");
  EXPECT_EQ(Metadata("acl = ['x', NULL]").diagnostic().message,
            "column \"acl\" is VARCHAR[], the value is a list with a null");
}

TEST(SchemaTest, InsertGivesDocuments) {
  const auto documents = Documents(
      "(id, content, year, title) VALUES ('n1', 'text', 2024, 'T'), ('n2', 'more', NULL, NULL)");
  ASSERT_TRUE(documents.ok()) << documents.diagnostic().message;
  ASSERT_EQ(documents->size(), 2U);
  const InsertDocument& first = (*documents)[0];
  EXPECT_EQ(first.id, "n1");
  EXPECT_EQ(first.source, "n1");
  EXPECT_EQ(first.title, "T");
  EXPECT_EQ(first.metadata[1].AsInteger(), 2024);
  EXPECT_TRUE((*documents)[1].metadata[1].is_null());
  EXPECT_EQ((*documents)[1].content, "more");
}

TEST(SchemaTest, WrongInsertIsNamed) {
  EXPECT_EQ(Documents("(id) VALUES ('a')").diagnostic().message, "INSERT needs the column content");
  EXPECT_EQ(Documents("(content) VALUES ('a')").diagnostic().message, "INSERT needs the column id");
  EXPECT_EQ(Documents("(id, content, doc_id) VALUES ('a', 'b', 'c')").diagnostic().message,
            "column \"doc_id\" is given twice");
  EXPECT_EQ(Documents("(id, content, doc_id) VALUES ('a', 'b', 'c')").diagnostic().hint,
            "id and doc_id are two names of one column.");
  EXPECT_EQ(Documents("(id, content) VALUES ('a', ' \t\n')").diagnostic().message,
            "the content of a document may not be empty");
  EXPECT_EQ(Documents("(id, content, page) VALUES ('a', 'b', 3)").diagnostic().message,
            "column \"page\" is set by the engine");
  EXPECT_EQ(Documents("(id, content, lnag) VALUES ('a', 'b', 'c')").diagnostic().hint,
            "Did you mean \"lang\"?");
  EXPECT_EQ(Documents("(id, content) VALUES ('', 'b')").diagnostic().message,
            "the id of a document may not be empty");
  EXPECT_EQ(Documents("(id, content) VALUES (NULL, 'b')").diagnostic().message,
            "the id of a document may not be empty");
  EXPECT_EQ(Documents("(id, content) VALUES ('a', NULL)").diagnostic().message,
            "the content of a document may not be null");
  EXPECT_EQ(Documents("(id, content) VALUES ('a', 3)").diagnostic().message,
            "column \"content\" is VARCHAR, the value is an integer");
}

}  // namespace
}  // namespace intarsia::query
