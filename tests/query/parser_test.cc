#include "query/parser.h"

#include <array>
#include <string>
#include <variant>

#include <gtest/gtest.h>

#include "query/ast_printer.h"

namespace intarsia::query {
namespace {

// The canonical form of `sql`, or the message of its error. The tree of the canonical form must be
// the tree of `sql`.
std::string Canonical(std::string_view sql) {
  const Outcome<Statement> statement = ParseStatement(sql);
  if (!statement.ok()) return RenderDiagnostic(statement.diagnostic(), sql);
  std::string canonical = ToSql(*statement);
  const Outcome<Statement> again = ParseStatement(canonical);
  if (!again.ok()) return canonical + " -> " + RenderDiagnostic(again.diagnostic(), canonical);
  EXPECT_TRUE(*statement == *again) << canonical;
  EXPECT_EQ(ToSql(*again), canonical);
  return canonical;
}

std::string CanonicalWhere(const std::string& predicate) {
  const std::string prefix = "DELETE FROM c WHERE ";
  std::string canonical = Canonical(prefix + predicate);
  if (canonical.starts_with(prefix)) canonical.erase(0, prefix.size());
  if (canonical.ends_with(";")) canonical.pop_back();
  return canonical;
}

struct Pair {
  std::string_view sql;
  std::string_view canonical;  // Empty: the same.
};

constexpr std::array<Pair, 72> kStatements = {{
    {"check model qa", "CHECK MODEL qa;"},
    {"check database", "CHECK DATABASE;"},
    {"REPAIR DATABASE;", ""},
    {"backup database to 'a' with (base='b')", "BACKUP DATABASE TO 'a' WITH (base = 'b');"},
    {"CHECK BACKUP 'it''s';", ""},
    {"restore database from 'a' as 'b'", "RESTORE DATABASE FROM 'a' AS 'b';"},
    {"ANSWER 'q' FROM docs WITH (order = 'score', \"a b\" = 1);", ""},
    {"SET search.limit = 3;", ""},
    {"CREATE MODEL qa FROM '/models/qa.gguf';", ""},
    {"create model if not exists e5 type embedding from '/m' with (dim=384, pooling=mean)",
     "CREATE MODEL IF NOT EXISTS e5 TYPE EMBEDDING FROM '/m' WITH (dim = 384, pooling = mean);"},
    {"CREATE MODEL qa TYPE GENERATE FROM 'it''s';", ""},
    {"DROP MODEL qa", "DROP MODEL qa;"},
    {"DROP MODEL IF EXISTS \"my model\";", ""},
    {"DROP MODEL \"if\";", ""},
    {"show models", "SHOW MODELS;"},
    {"SET DEFAULT EMBEDDING e5;", ""},
    {"set default generate qa", "SET DEFAULT GENERATE qa;"},
    {"CREATE COLLECTION docs;", ""},
    {"CREATE COLLECTION IF NOT EXISTS docs (lang VARCHAR, year INT, score DOUBLE, open BOOLEAN, "
     "at TIMESTAMP, acl VARCHAR[]) WITH (embedding = e5, kv_cache = 'lazy');",
     ""},
    {"create collection d (a text, b integer, c bigint, d float[], e bool, f string)",
     "CREATE COLLECTION d (a VARCHAR, b INT, c INT, d DOUBLE[], e BOOLEAN, f VARCHAR);"},
    {"DROP COLLECTION docs;", ""},
    {"DROP COLLECTION IF EXISTS docs;", ""},
    {"SHOW COLLECTIONS;", ""},
    {"DESCRIBE \"Docs 1\";", ""},
    {"describe \"plain\"", "DESCRIBE plain;"},
    {"COPY docs FROM './handbook/**/*.md';", ""},
    {"COPY docs FROM 'a.md','b.md' METADATA (lang='en',year=2024,acl=['x','y']) WITH "
     "(format='auto',threads=8)",
     "COPY docs FROM 'a.md', 'b.md' METADATA (lang = 'en', year = 2024, acl = ['x', 'y']) WITH "
     "(format = 'auto', threads = 8);"},
    {"INSERT INTO docs (id, content, lang) VALUES ('n1', 'text', 'en'), ('n2', '', NULL);", ""},
    {"insert into docs (id, content, x) values ('a', 'b', -9223372036854775808)",
     "INSERT INTO docs (id, content, x) VALUES ('a', 'b', -9223372036854775808);"},
    {"SEARCH 'refund window' IN docs;", ""},
    {"search 'x' in docs where lang='en' and year>=2023 limit 8 with (mode=text)",
     "SEARCH 'x' IN docs WHERE lang = 'en' AND year >= 2023 LIMIT 8 WITH (mode = text);"},
    {"ANSWER 'What is the refund window?' FROM docs;", ""},
    {"ANSWER 'q' FROM docs WHERE lang = 'en' USING qa WITH (k = 8, ratio = 0.15, "
     "fusion = 'attention', temperature = 0);",
     ""},
    {"ANSWER 'q' FROM docs WITH (preset = \"default\", citations = TRUE);", ""},
    {"answer 'q' from docs with (preset = default)",
     "ANSWER 'q' FROM docs WITH (preset = \"default\");"},
    {"EXPLAIN SEARCH 'x' IN docs LIMIT 0;", ""},
    {"EXPLAIN ANALYZE ANSWER 'q' FROM docs USING qa;", ""},
    {"CACHE COLLECTION docs;", ""},
    {"CACHE COLLECTION docs WHERE year = 2025 USING qa;", ""},
    {"SHOW CACHE;", ""},
    {"SHOW CACHE FOR docs;", ""},
    {"SHOW INDEXES;", ""},
    {"show indexes for docs", "SHOW INDEXES FOR docs;"},
    {"CLEAR CACHE;", ""},
    {"PIN CACHE FOR docs;", ""},
    {"pin cache for docs where doc_id = '1' tier memory", "PIN CACHE FOR docs WHERE doc_id = '1';"},
    {"PIN CACHE FOR docs WHERE source LIKE 'a%' TIER DISK;", ""},
    {"UNPIN CACHE FOR docs;", ""},
    {"UNPIN CACHE FOR docs WHERE year = 2025;", ""},
    {"ALTER COLLECTION docs SET (kv_ttl = '7d');", ""},
    {"COMPACT DATABASE;", ""},
    {"compact collection docs", "COMPACT COLLECTION docs;"},
    {"DROP COLLECTION IF EXISTS docs WITH (secure = TRUE);", ""},
    {"DELETE FROM docs WHERE year = 2025 WITH (secure = on);", ""},
    {"clear cache kv for docs", "CLEAR CACHE KV FOR docs;"},
    {"SET search.ef = 200;", ""},
    {"SET result_cache to off", "SET result_cache = off;"},
    {"SET \"a..b\" = 'x';", ""},
    {"SET a.\"b c\" = 'x';", "SET \"a.b c\" = 'x';"},
    {"SHOW SETTINGS;", ""},
    {"SHOW SETTINGS LIKE 'cache%';", ""},
    {"DELETE FROM docs WHERE source LIKE 'old/%';", ""},
    {"SELECT * FROM docs;", ""},
    {"SELECT COUNT(*) FROM docs WHERE lang = 'en';", ""},
    {"SELECT source, count FROM docs ORDER BY source DESC, page asc LIMIT 10 OFFSET 20;",
     "SELECT source, count FROM docs ORDER BY source DESC, page LIMIT 10 OFFSET 20;"},
    {"/* a */ SELECT *, \"order\" -- b\n FROM docs ;;", "SELECT *, \"order\" FROM docs;"},
    {"SELECT größe FROM 名前;", ""},
    {"SELECT source, SCORE(), SNIPPET(content) FROM docs SEARCH MATCH TEXT (content, 'a', topn => "
     "50), MATCH VECTOR (embedding, EMBED('b')), FUSION rrf (k => 60, weights => [1, 2]) WHERE "
     "lang = 'en' RERANK 'c' ON content USING ce TOP 30 LIMIT 8 OFFSET 2;",
     ""},
    {"select * from docs search match vector (embedding, 'it''s') rerank using \"my ce\"",
     "SELECT * FROM docs SEARCH MATCH VECTOR (embedding, EMBED('it''s')) RERANK USING \"my ce\";"},
    {"EXPLAIN ANALYZE SELECT rerank_score() FROM docs SEARCH MATCH TEXT (content, 'a')",
     "EXPLAIN ANALYZE SELECT RERANK_SCORE() FROM docs SEARCH MATCH TEXT (content, 'a');"},
    {"SET DEFAULT RERANK ce;", ""},
    {"DESCRIBE \"a\"\"b\";", ""},
}};

TEST(ParserTest, StatementsReadBackFromTheirCanonicalForm) {
  for (const Pair& pair : kStatements) {
    EXPECT_EQ(Canonical(pair.sql), pair.canonical.empty() ? pair.sql : pair.canonical);
  }
}

constexpr std::array<Pair, 26> kPredicates = {{
    {"a = 1", ""},
    {"a == 1", "a = 1"},
    {"a <> 1", "a != 1"},
    {"a < -1.5", ""},
    {"a > 1 AND b <= 2 OR c >= 3", "(a > 1 AND b <= 2) OR c >= 3"},
    {"a > 1 AND (b <= 2 OR c >= 3)", ""},
    {"a = 1 and b = 2 and c = 3", "a = 1 AND b = 2 AND c = 3"},
    {"(a = 1 AND b = 2) AND c = 3", ""},
    {"((a = 1))", "a = 1"},
    {"NOT a = 1", ""},
    {"NOT NOT a = 1", ""},
    {"NOT (a = 1 OR b = 2)", ""},
    {"2023 <= a", "a >= 2023"},
    {"2023 > a", "a < 2023"},
    {"'x' = a", "a = 'x'"},
    {"a IN (1, 2, 3)", ""},
    {"a not in ('x', null)", "a NOT IN ('x', NULL)"},
    {"a LIKE '%x_'", ""},
    {"a NOT LIKE 'x'", ""},
    {"a CONTAINS 'x'", ""},
    {"a NOT CONTAINS 'x'", ""},
    {"a IS NULL", ""},
    {"a IS NOT NULL AND b IS EMPTY AND c IS NOT EMPTY", ""},
    {"a BETWEEN 1 AND 2 AND b = 3", "(a >= 1 AND a <= 2) AND b = 3"},
    {"a NOT BETWEEN 1 AND 2", "NOT (a >= 1 AND a <= 2)"},
    {"a = timestamp '2024-01-01' and b = TRUE and c = [1, 2.0, 'x']",
     "a = TIMESTAMP '2024-01-01T00:00:00Z' AND b = TRUE AND c = [1, 2.0, 'x']"},
}};

TEST(ParserTest, PredicatesKeepTheirMeaning) {
  for (const Pair& pair : kPredicates) {
    EXPECT_EQ(CanonicalWhere(std::string(pair.sql)),
              pair.canonical.empty() ? pair.sql : pair.canonical);
  }
}

TEST(ParserTest, EveryPartHasItsRange) {
  const std::string sql = "SELECT sorce FROM demo WHERE lang = 'en'";
  const Outcome<Statement> statement = ParseStatement(sql);
  ASSERT_TRUE(statement.ok());
  const auto& select = std::get<Select>(*statement);
  EXPECT_EQ(select.items[0].column.range.begin, 7);
  EXPECT_EQ(select.items[0].column.range.end, 12);
  EXPECT_EQ(select.collection.range.begin, 18);
  const auto& comparison = std::get<Comparison>(select.where->node);
  EXPECT_EQ(comparison.op_range.begin, 34);
  EXPECT_EQ(comparison.value.range.begin, 36);
  EXPECT_EQ(comparison.value.range.end, 40);
}

TEST(ParserTest, DeepNestingIsRefusedAndTheLimitIsNot) {
  const auto nested = [](int64_t depth) {
    const auto size = static_cast<size_t>(depth);
    return "DELETE FROM c WHERE " + std::string(size, '(') + "a = 1" + std::string(size, ')');
  };
  EXPECT_TRUE(ParseStatement(nested(kDepthMax - 1)).ok());
  EXPECT_FALSE(ParseStatement(nested(kDepthMax)).ok());
  EXPECT_FALSE(ParseStatement(nested(1'000'000)).ok());
}

TEST(ParserTest, ScriptsGiveTheRangeOfEachStatement) {
  const std::string sql = "\n-- first\nSHOW MODELS;;  SHOW CACHE -- last\n";
  const auto statements = ParseScript(sql);
  ASSERT_TRUE(statements.ok());
  ASSERT_EQ(statements->size(), 2U);
  const auto text = [&sql](const SourceRange& range) {
    return sql.substr(static_cast<size_t>(range.begin),
                      static_cast<size_t>(range.end - range.begin));
  };
  EXPECT_EQ(text((*statements)[0].range), "SHOW MODELS");
  EXPECT_EQ(text((*statements)[1].range), "SHOW CACHE");
}

TEST(ParserTest, ScriptWithoutStatementsIsEmpty) {
  const auto statements = ParseScript(" ; -- nothing\n;");
  ASSERT_TRUE(statements.ok());
  EXPECT_TRUE(statements->empty());
}

std::string Slice(std::string_view sql, const SourceRange& range) {
  return std::string(
      sql.substr(static_cast<size_t>(range.begin), static_cast<size_t>(range.end - range.begin)));
}

TEST(ParserTest, PiecesEndAtTerminatorsOutsideOfStrings) {
  const std::string_view sql = "a ';' /* ; */ b; ;c\\G d -- ;\n e";
  const auto first = NextPiece(sql, 0);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(Slice(sql, first->range), "a ';' /* ; */ b");
  EXPECT_EQ(first->terminator, Terminator::kSemicolon);
  const auto second = NextPiece(sql, first->next);
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(Slice(sql, second->range), "c");
  EXPECT_EQ(second->terminator, Terminator::kVertical);
  EXPECT_EQ(Slice(sql, {second->next, static_cast<int64_t>(sql.size())}), " d -- ;\n e");
  EXPECT_FALSE(NextPiece(sql, second->next).has_value());
}

TEST(ParserTest, WhatIsNotTerminatedIsNoPiece) {
  for (const std::string_view sql : {"", "  -- only a comment", " ; ;", "SHOW MODELS", "/* open; ",
                                     "SEARCH 'a;", "SEARCH \"a;"}) {
    EXPECT_FALSE(NextPiece(sql, 0).has_value()) << sql;
  }
}

}  // namespace
}  // namespace intarsia::query
