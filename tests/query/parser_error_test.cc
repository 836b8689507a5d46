#include <array>
#include <string>

#include <gtest/gtest.h>

#include "query/parser.h"

namespace intarsia::query {
namespace {

struct ErrorCase {
  std::string_view sql;
  int64_t column;  // 1-based, in code points of its line.
  std::string_view message;
  std::string_view hint;
};

constexpr std::string_view kStatementsAre =
    "expected a statement (ALTER, ANSWER, BACKUP, CACHE, CHECK, CLEAR, COMPACT, COPY, CREATE, "
    "DELETE, DESCRIBE, DROP, EXPLAIN, INSERT, PIN, REPAIR, RESTORE, SEARCH, SELECT, SET, SHOW or "
    "UNPIN), found ";
constexpr std::string_view kStringsHint = "Strings stand in single quotes: 'text'.";

constexpr std::array<ErrorCase, 73> kCases = {{
    {"", 1, "expected a statement, found nothing", ""},
    {"SHOW MODELS; SHOW CACHE", 14, "expected one statement, found another behind it",
     "Send one at a time."},
    {"SELCT * FROM c", 1, "\"SELCT\"", "Did you mean \"SELECT\"?"},
    {"42", 1, "\"42\"", ""},
    {"SELECT * FORM c", 10, "expected FROM, found \"FORM\"", "Did you mean \"FROM\"?"},
    {"SELECT a b FROM c", 10, "expected FROM, found \"b\"", ""},
    {"SELECT FROM c", 8, "expected a column, * or COUNT(*), found \"FROM\"",
     "\"FROM\" is a keyword; as a name it stands in double quotes."},
    {"SELECT * FROM", 14, "expected a collection name, found the end", ""},
    {"SELECT * FROM ;", 15, "expected a collection name, found \";\"", ""},
    {"SELECT * FROM 'c'", 15, "expected a collection name, found \"'c'\"",
     "Names stand bare or in double quotes."},
    {"SELECT * FROM \"\"", 15, "a quoted name may not be empty", ""},
    {"SELECT COUNT(a) FROM c", 14, "expected \"*\", found \"a\"", ""},
    {"SELECT SCOER() FROM c", 8,
     "expected a column, * or one of COUNT(*), SCORE(), TEXT_SCORE(), VECTOR_SCORE(), "
     "RERANK_SCORE() and SNIPPET(content), found \"SCOER\"",
     "Did you mean \"SCORE\"?"},
    {"SELECT SNIPPET() FROM c", 16, "expected content, found \")\"", ""},
    {"SELECT a FROM c SEARCH 'x'", 24, "expected MATCH, found \"'x'\"", ""},
    {"SELECT a FROM c SEARCH FUSION rrf", 24, "expected MATCH, found \"FUSION\"", ""},
    {"SELECT a FROM c SEARCH MATCH TXT (content, 'x')", 30,
     "expected TEXT or VECTOR, found \"TXT\"", "Did you mean \"TEXT\"?"},
    {"SELECT a FROM c SEARCH MATCH TEXT (title, 'x')", 36, "expected content, found \"title\"",
     "Words are looked for in the column content."},
    {"SELECT a FROM c SEARCH MATCH VECTOR (content, 'x')", 38,
     "expected embedding, found \"content\"", "Vectors are those of embedding."},
    {"SELECT a FROM c SEARCH MATCH TEXT (content, 'x', topn = 5)", 55,
     "expected \"=>\", found \"=\"", "Arguments of clauses are written name => value."},
    {"SELECT a FROM c SEARCH MATCH TEXT (content, 'x'), MATCH TEXT (content, 'y')", 57,
     "each of MATCH TEXT and MATCH VECTOR stands once", ""},
    {"SELECT a FROM c SEARCH MATCH TEXT (content, 'x'), LIMIT 3", 51,
     "expected MATCH or FUSION, found \"LIMIT\"", ""},
    {"SELECT a FROM c SEARCH MATCH TEXT (content, 'x') RERANK 'y' USING m", 61,
     "expected ON, found \"USING\"", ""},
    {"EXPLAIN SELECT * FROM c", 9, "only a SELECT with SEARCH has a plan to explain",
     "SELECT ... FROM collection SEARCH MATCH TEXT (content, 'text')."},
    {"SELECT * FROM c LIMT 3", 17,
     "expected WHERE, ORDER BY, LIMIT, OFFSET or the end of the statement, found \"LIMT\"",
     "Did you mean \"LIMIT\"?"},
    {"SELECT * FROM c LIMIT -1", 23, "expected a number of rows (0 or more), found \"-\"", ""},
    {"SELECT * FROM c LIMIT 99999999999999999999", 23, "integer does not fit 64 bits", ""},
    {"SELECT * FROM c ORDER a", 23, "expected BY, found \"a\"", ""},
    {"SELECT * FROM c WHERE", 22, "expected a column name, found the end", ""},
    {"SELECT * FROM c WHERE a", 24,
     "expected a comparison (=, !=, <, <=, >, >=, IN, LIKE, BETWEEN, CONTAINS or IS), found the "
     "end",
     ""},
    {"SELECT * FROM c WHERE a LIK 'x'", 25, "", "Did you mean \"LIKE\"?"},
    {"SELECT * FROM c WHERE a = b", 27, "expected a value, found \"b\"", kStringsHint},
    {"SELECT * FROM c WHERE a = \"b\"", 27, "expected a value, found \"\"b\"\"", kStringsHint},
    {"SELECT * FROM c WHERE a NOT 3", 29, "expected IN, LIKE, BETWEEN or CONTAINS, found \"3\"",
     ""},
    {"SELECT * FROM c WHERE a IS 3", 28, "expected NULL, EMPTY or NOT, found \"3\"", ""},
    {"SELECT * FROM c WHERE a IN 3", 28, "expected \"(\", found \"3\"", ""},
    {"SELECT * FROM c WHERE a IN ()", 29, "expected a value, found \")\"", ""},
    {"SELECT * FROM c WHERE a IN (1 2)", 31, "expected \",\" or \")\", found \"2\"", ""},
    {"SELECT * FROM c WHERE (a = 1", 29, "expected AND, OR or \")\", found the end", ""},
    {"SELECT * FROM c WHERE a BETWEEN 1, 2", 34, "expected AND, found \",\"", ""},
    {"SELECT * FROM c WHERE 1 a", 25, "expected a comparison (=, !=, <, <=, > or >=), found \"a\"",
     ""},
    {"SELECT * FROM c WHERE a = -'x'", 28, "expected a number, found \"'x'\"", ""},
    {"SELECT * FROM c WHERE a = 1e999", 27, "number does not fit a DOUBLE", ""},
    {"SELECT * FROM c WHERE a = 12ab", 27, "not a number: \"12ab\"",
     "A name that begins with a digit stands in double quotes."},
    {"SELECT * FROM c WHERE a = 'x", 27, "string without its closing quote (')", ""},
    {"SELECT * FROM \"c", 15, "quoted name without its closing quote (\")", ""},
    {"SELECT * FROM c /* x", 17, "comment without its closing */", ""},
    {"SELECT * FROM c ?", 17, "unexpected character: \"?\"", ""},
    {"SELECT * FROM c WHERE a = TIMESTAMP '2024-13-01'", 37,
     "not a timestamp (want YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ): 2024-13-01", ""},
    {"SEARCH refund IN c", 8, "expected the text to search in single quotes, found \"refund\"",
     kStringsHint},
    {"SEARCH ‘refund’ IN c", 8, "expected the text to search in single quotes, found \"‘refund’\"",
     kStringsHint},
    {"SEARCH 'x' FROM c", 12, "expected IN, found \"FROM\"",
     "SEARCH 'text' IN collection; ANSWER takes FROM."},
    {"SEARCH 'größe' IN c LIMIT x", 27, "expected a number of rows (0 or more), found \"x\"", ""},
    {"ANSWER 'q' IN c", 12, "expected FROM, found \"IN\"",
     "ANSWER 'question' FROM collection; SEARCH takes IN."},
    {"ANSWER 'q' FROM c LIMIT 3", 19, "",
     "How many chunks an answer reads is an option: WITH (k = 8)."},
    {"ANSWER 'q' FROM c USING m WHERE a = 1", 27, "",
     "Clauses have a fixed order, and each stands once."},
    {"ANSWER 'q' FROM c WITH k = 8", 24, "expected \"(\", found \"k\"", ""},
    {"ANSWER 'q' FROM c WITH ()", 25, "expected an option name, found \")\"", ""},
    {"ANSWER 'q' FROM c WITH (k => 8)", 27, "expected \"=\", found \"=>\"",
     "In WITH a value follows \"=\": k = value."},
    {"ANSWER 'q' FROM c WITH (k = 8", 30, "expected \",\" or \")\", found the end", ""},
    {"ANSWER 'q' FROM c WITH (k = )", 29, "expected a value, found \")\"", ""},
    {"CREATE TABLE t (a INT)", 8, "expected MODEL or COLLECTION, found \"TABLE\"",
     "Documents are kept in a COLLECTION."},
    {"CREATE COLLECTION c (a VARCHR)", 24,
     "expected a type (VARCHAR, INT, DOUBLE, BOOLEAN, TIMESTAMP, or one with []), found \"VARCHR\"",
     "Did you mean \"VARCHAR\"?"},
    {"CREATE COLLECTION c (a VARCHAR(40))", 31, "expected \",\" or \")\", found \"(\"",
     "Types have no length here."},
    {"CREATE COLLECTION c (a INT[3])", 28, "expected \"]\", found \"3\"", ""},
    {"CREATE MODEL m FRM 'x'", 16, "expected FROM or TYPE, found \"FRM\"",
     "Did you mean \"FROM\"?"},
    {"CREATE MODEL m TYPE CHAT FROM 'x'", 21,
     "expected GENERATE, EMBEDDING or RERANK, found \"CHAT\"", ""},
    {"CREATE MODEL IF EXISTS m FROM 'x'", 17, "expected NOT, found \"EXISTS\"", ""},
    {"DELETE FROM c", 14, "expected WHERE, found the end",
     "DELETE needs a condition; DROP COLLECTION removes everything."},
    {"INSERT INTO c VALUES ('a')", 15, "expected \"(\", found \"VALUES\"",
     "Columns are named: INSERT INTO c (id, content) VALUES ('...', '...')."},
    {"INSERT INTO c (id, content) VALUES ('a')", 36, "row with too few values: columns=2 values=1",
     ""},
    {"INSERT INTO c (id) VALUES ('a'), ('b', 'c')", 34, "row with too many values: columns=1", ""},
    {"SHOW MODLES", 6, "expected MODELS, COLLECTIONS, INDEXES, CACHE or SETTINGS, found \"MODLES\"",
     "Did you mean \"MODELS\"?"},
}};

TEST(ParserErrorTest, MessageColumnAndHintFitEachMistake) {
  for (const ErrorCase& error : kCases) {
    const Outcome<Statement> statement = ParseStatement(error.sql);
    ASSERT_FALSE(statement.ok()) << error.sql;
    const Diagnostic& diagnostic = statement.diagnostic();
    EXPECT_EQ(diagnostic.error_class, ErrorClass::kParser);
    EXPECT_EQ(diagnostic.position.line, 1) << error.sql;
    EXPECT_EQ(diagnostic.position.column, error.column) << error.sql << "\n" << diagnostic.message;
    EXPECT_EQ(diagnostic.hint, error.hint) << error.sql;
    if (error.message.starts_with("\"")) {
      EXPECT_EQ(diagnostic.message, std::string(kStatementsAre) + std::string(error.message));
    } else if (!error.message.empty()) {
      EXPECT_EQ(diagnostic.message, error.message) << error.sql;
    }
  }
}

TEST(ParserErrorTest, PositionCountsLinesOfTheWholeText) {
  const Outcome<Statement> statement = ParseStatement("-- title\nSELECT *\n  FORM c");
  ASSERT_FALSE(statement.ok());
  EXPECT_EQ(statement.diagnostic().position.line, 3);
  EXPECT_EQ(statement.diagnostic().position.column, 3);
}

TEST(ParserErrorTest, TextThatIsNoUtf8IsRefusedWithItsPlace) {
  const Outcome<Statement> statement = ParseStatement("SHOW \xFF MODELS");
  ASSERT_FALSE(statement.ok());
  EXPECT_EQ(statement.diagnostic().message, "the text is not UTF-8: byte=5");
  EXPECT_EQ(statement.diagnostic().position.column, 6);
}

TEST(ParserErrorTest, NulIsRefusedAlsoInsideStrings) {
  const Outcome<Statement> statement = ParseStatement(std::string_view("DESCRIBE \"a\0b\"", 14));
  ASSERT_FALSE(statement.ok());
  EXPECT_EQ(statement.diagnostic().message, "the text holds a NUL character");
}

TEST(ParserErrorTest, LongTokensAreShortenedInMessages) {
  const Outcome<Statement> statement = ParseStatement("SHOW " + std::string(5000, 'x'));
  ASSERT_FALSE(statement.ok());
  EXPECT_LT(statement.diagnostic().message.size(), 200U);
}

TEST(ParserErrorTest, ListsAndOptionsAreBounded) {
  std::string in_list = "DELETE FROM c WHERE a IN (1";
  for (int64_t i = 0; i < kTermsMax; ++i) in_list += ",1";
  EXPECT_FALSE(ParseStatement(in_list + ")").ok());
  std::string options = "SEARCH 'x' IN c WITH (a = 1";
  for (int64_t i = 0; i < kOptionsMax; ++i) options += ",a = 1";
  EXPECT_FALSE(ParseStatement(options + ")").ok());
}

TEST(ParserErrorTest, FirstMistakeOfAScriptIsReported) {
  const auto statements = ParseScript("SHOW MODELS;\nSHOW X;\nSHOW Y;");
  ASSERT_FALSE(statements.ok());
  EXPECT_EQ(statements.diagnostic().position.line, 2);
}

}  // namespace
}  // namespace intarsia::query
