#include "query/text_extractor.h"

#include <algorithm>
#include <string>

#include <gtest/gtest.h>

#include "base/utf8.h"
#include "tests/query/random_documents.h"
#include "tests/query/word_counter.h"

namespace intarsia::query {
namespace {

using namespace std::string_literals;

// "kind level path|text" of each block.
std::vector<std::string> BlocksOf(const ExtractedText& document) {
  std::vector<std::string> blocks;
  for (const Block& block : document.blocks) {
    std::string line(BlockKindName(block.kind));
    if (block.level > 0) line += " " + std::to_string(block.level);
    line += " (" + document.HeadingPath(block.section) + ") ";
    blocks.push_back(line + std::string(block.range.Of(document.text)));
  }
  return blocks;
}

ExtractedText Extract(std::string_view bytes, std::string_view hint) {
  Result<ExtractedText> result = ExtractText(bytes, hint, {});
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : ExtractedText{};
}

StatusCode CodeOf(std::string_view bytes, std::string_view hint) {
  return ExtractText(bytes, hint, {}).status().code();
}

// What holds for every document.
void CheckInvariants(const ExtractedText& document) {
  ASSERT_LT(FindInvalidUtf8(document.text), 0);
  int64_t at = 0;
  for (const Block& block : document.blocks) {
    ASSERT_LE(at, block.range.begin);
    ASSERT_LT(block.range.begin, block.range.end);
    for (; at < block.range.begin; ++at) {
      ASSERT_TRUE(IsBlankByte(document.text[static_cast<size_t>(at)])) << at;
    }
    const std::string_view text = block.range.Of(document.text);
    ASSERT_FALSE(IsBlankByte(text.back()));
    if (block.kind != BlockKind::kCode) {
      ASSERT_FALSE(IsBlankByte(text.front()));
    }
    ASSERT_LT(FindInvalidUtf8(text), 0);
    ASSERT_GE(block.section, 0);
    ASSERT_LT(block.section, static_cast<int32_t>(document.sections.size()));
    at = block.range.end;
  }
  for (; at < static_cast<int64_t>(document.text.size()); ++at) {
    ASSERT_TRUE(IsBlankByte(document.text[static_cast<size_t>(at)])) << at;
  }
  ASSERT_EQ(document.sections[0].parent, -1);
  for (size_t i = 1; i < document.sections.size(); ++i) {
    const Section& section = document.sections[i];
    ASSERT_GE(section.parent, 0);
    ASSERT_LT(section.parent, static_cast<int32_t>(i));
    ASSERT_GT(section.level, document.sections[static_cast<size_t>(section.parent)].level);
  }
}

using Blocks = std::vector<std::string>;

TEST(TextExtractorTest, PlainTextHasParagraphs) {
  const ExtractedText document = Extract("one\ntwo\r\n\r\n  three \n\n\n\nfour", "notes.txt");
  EXPECT_EQ(document.media_type, MediaType::kPlainText);
  EXPECT_EQ(document.text, "one\ntwo\r\n\r\n  three \n\n\n\nfour");
  EXPECT_EQ(BlocksOf(document),
            (Blocks{"paragraph () one\ntwo", "paragraph () three", "paragraph () four"}));
}

TEST(TextExtractorTest, MarkdownIsKeptVerbatimWithItsStructure) {
  const std::string source =
      "# Manual\n\nIntro with `code` and\nmore.\n\n## Set-up ##\n\n- one\n  - two\n\n    more\n"
      "- three\n\n```py\n# no heading\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nSub\n---\n"
      "> quoted\n\n    indented\n\n[ref]: http://example.com\n";
  const ExtractedText document = Extract(source, "text/markdown; charset=utf-8");
  EXPECT_EQ(document.text, source);
  EXPECT_EQ(document.title, "Manual");
  EXPECT_EQ(
      BlocksOf(document),
      (Blocks{"heading 1 (Manual) # Manual", "paragraph (Manual) Intro with `code` and\nmore.",
              "heading 2 (Manual > Set-up) ## Set-up ##", "list item 1 (Manual > Set-up) - one",
              "list item 2 (Manual > Set-up) - two\n\n    more",
              "list item 1 (Manual > Set-up) - three",
              "code (Manual > Set-up) ```py\n# no heading\n```",
              "table (Manual > Set-up) | a | b |\n|---|---|\n| 1 | 2 |",
              "heading 2 (Manual > Sub) Sub\n---", "paragraph (Manual > Sub) > quoted",
              "code (Manual > Sub)     indented",
              "paragraph (Manual > Sub) [ref]: http://example.com"}));
  CheckInvariants(document);
}

TEST(TextExtractorTest, FrontMatterGivesTheTitle) {
  const ExtractedText document = Extract("---\ntitle: \"The book\"\nx: 1\n---\n# Other\n", "a.md");
  EXPECT_EQ(document.title, "The book");
  EXPECT_EQ(BlocksOf(document),
            (Blocks{"other () ---\ntitle: \"The book\"\nx: 1\n---", "heading 1 (Other) # Other"}));
  EXPECT_EQ(BlocksOf(Extract("---\n\ntext\n\n---\n", "a.md")).size(), 3U);  // Two rules.
}

TEST(TextExtractorTest, MarkdownThatOnlyLooksLikeABlockIsNone) {
  EXPECT_EQ(BlocksOf(Extract("``` not a fence ``` here\n\n# h", "a.md")),
            (Blocks{"paragraph () ``` not a fence ``` here", "heading 1 (h) # h"}));
  EXPECT_EQ(BlocksOf(Extract("\\# no\n\n#no\n", "a.md")),
            (Blocks{"paragraph () \\# no", "paragraph () #no"}));
  EXPECT_EQ(BlocksOf(Extract("<script>a</script>\n\n# h", "a.md")),
            (Blocks{"other () <script>a</script>", "heading 1 (h) # h"}));
}

TEST(TextExtractorTest, HeadingsAreShownWithoutMarks) {
  const ExtractedText document = Extract("# The `x` **y** C# #\n\nWrapped\nline\n===\n", "a.md");
  EXPECT_EQ(document.sections[1].heading, "The x y C#");
  EXPECT_EQ(document.sections[2].heading, "Wrapped line");
}

TEST(TextExtractorTest, HtmlBecomesReadableText) {
  const ExtractedText document = Extract(
      "<!doctype html><html><head><meta charset=utf-8><title>A &amp; B</title>"
      "<style>p{}</style><script>if (a<b) { \"</div>\" }</script></head><body><nav>Home</nav>"
      "<h1>Top <em>it</em></h1><p>One\n two<br>three&nbsp;caf&eacute; &lt;x&gt;<p>Next"
      "<h2><div>Sub</div></h2><ul><li>a<li>b<ol><li>c<li><p>d<p>e</ol></ul>"
      "<pre>  x &amp;\n    y\n</pre>"
      "<table><caption>T</caption><tr><th>h1<th>h2<tr><td><b>1</b><td>2<br>3</table>"
      "1 < 2<!-- hidden --><textarea>no</textarea></body></html>",
      "");
  EXPECT_EQ(document.media_type, MediaType::kHtml);
  EXPECT_EQ(document.title, "A & B");
  EXPECT_EQ(document.text,
            "Top it\n\nOne two\nthree café <x>\n\nNext\n\nSub\n\n- a\n- b\n  1. c\n  2. d\n"
            "    e\n\n  x &\n    y\n\nT\nh1 | h2\n1 | 2 3\n\n1 < 2");
  const Blocks blocks = BlocksOf(document);
  ASSERT_EQ(blocks.size(), 11U);
  EXPECT_EQ(blocks[0], "heading 1 (Top it) Top it");
  EXPECT_EQ(blocks[7], "list item 2 (Top it > Sub) 2. d\n    e");
  EXPECT_EQ(blocks[8], "code (Top it > Sub)   x &\n    y");
  EXPECT_EQ(blocks[9], "table (Top it > Sub) T\nh1 | h2\n1 | 2 3");
  CheckInvariants(document);
}

TEST(TextExtractorTest, ATableForLayoutIsNoTable) {
  EXPECT_EQ(BlocksOf(Extract("<table><tr><td><h2>Head</h2><p>text<td>side</table>", "a.html")),
            (Blocks{"heading 2 (Head) Head", "paragraph (Head) text", "paragraph (Head) side"}));
}

TEST(TextExtractorTest, TermsAreHeadingsOfWhatTheyMean) {
  const ExtractedText document = Extract(
      "<h2>Options</h2><dl><dt><b>-a</b><br></dt><dt>--all<dd><p>Takes all.<p>Really."
      "<dt>mode<dd><dl><dt>fast<dd>Quick.</dl><p>Either.<dt>alone</dl><p>After.",
      "a.html");
  EXPECT_EQ(
      BlocksOf(document),
      (Blocks{"heading 2 (Options) Options", "heading 7 (Options > -a, --all) -a, --all",
              "paragraph (Options > -a, --all) Takes all.",
              "paragraph (Options > -a, --all) Really.", "heading 7 (Options > mode) mode",
              "heading 8 (Options > mode > fast) fast", "paragraph (Options > mode > fast) Quick.",
              "paragraph (Options > mode) Either.", "paragraph (Options > mode) alone",
              "paragraph (Options) After."}));
  CheckInvariants(document);
}

TEST(TextExtractorTest, NavigationIsLeftOutHoweverItIsMarked) {
  EXPECT_EQ(Extract("<div class='NavHeader wide'><table><tr><td>Prev<td>Next</table></div>"
                    "<table class=navbar><tr><td>Home</table><p>Text</p>"
                    "<ul role = \"navigation\"><li>Up<li>Down</ul>"
                    "<div class=toc><dl><dt>1. One<dt>2. Two</dl></div><p class=nav>Kept.</p>"
                    "<article class=toc>Also kept.</article>",
                    "a.html")
                .text,
            "Text\n\nKept.\n\nAlso kept.");
}

TEST(TextExtractorTest, AttributesMayHoldAnything) {
  EXPECT_EQ(
      Extract("<p class = a>b=\"c>d\"</p><p title='>' / class=\"x\"y>e</p>"
              "<div data-class=nav =class=nav class = 'x\nnav'>f</div><p class=>g</p><p role=",
              "a.html")
          .text,
      "b=\"c>d\"\n\ne\n\ng");
}

TEST(TextExtractorTest, AHeadingOfANoteDoesNotTakeTheTextBehindIt) {
  EXPECT_EQ(BlocksOf(Extract("<h2>Use</h2><div class=\"warning\"><h3>Warning</h3><p>Hot.</div>"
                             "<p>Text",
                             "a.html")),
            (Blocks{"heading 2 (Use) Use", "paragraph (Use) Warning", "paragraph (Use) Hot.",
                    "paragraph (Use) Text"}));
}

TEST(TextExtractorTest, MediaTypesFollowNamesAndTypes) {
  EXPECT_EQ(*MediaTypeOf("a/b.c/README.MD"), MediaType::kMarkdown);
  EXPECT_EQ(*MediaTypeOf("page.HTM"), MediaType::kHtml);
  EXPECT_EQ(*MediaTypeOf("text/html; charset=utf-8"), MediaType::kHtml);
  EXPECT_EQ(*MediaTypeOf("text/notes.md"), MediaType::kMarkdown);
  EXPECT_EQ(*MediaTypeOf("Makefile"), MediaType::kPlainText);
  EXPECT_EQ(*MediaTypeOf("text/csv"), MediaType::kPlainText);
  EXPECT_EQ(MediaTypeOf("book.pdf").status().code(), StatusCode::kUnsupported);
  EXPECT_EQ(MediaTypeOf("application/pdf").status().code(), StatusCode::kUnsupported);
}

TEST(TextExtractorTest, FilesWithoutTextAreRefused) {
  EXPECT_EQ(CodeOf("", "a.txt"), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(" \n\t", "a.txt"), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf("<script>x</script>", "a.html"), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf("ab\0cd"s, "a.txt"), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf("%PDF-1.7 ...", "a.txt"), StatusCode::kUnsupported);
  EXPECT_EQ(CodeOf("PK\x03\x04zip", ""), StatusCode::kUnsupported);
  std::string noise;
  for (int i = 0; i < 400; ++i) noise.push_back(static_cast<char>(0x80 + i % 0x7F));
  EXPECT_EQ(CodeOf(noise, "a.txt"), StatusCode::kInvalidArgument);
}

TEST(TextExtractorTest, LimitsAreKept) {
  ExtractOptions options;
  options.num_bytes_max = 3;
  EXPECT_TRUE(ExtractText("abc", "", options).ok());
  const Status status = ExtractText("abcd", "", options).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("bytes=4 max=3"), std::string_view::npos);
  options = {};
  options.elements_max = 10;
  std::string lines;
  std::string elements;
  for (int i = 0; i < 20; ++i) {
    lines += "a\n\n";
    elements += "<p>a";
  }
  EXPECT_EQ(ExtractText(lines, "a.txt", options).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ExtractText(lines, "a.md", options).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ExtractText(elements, "a.html", options).status().code(), StatusCode::kInvalidArgument);
  options = {};
  options.html_depth_max = 0;
  EXPECT_EQ(ExtractText("a", "", options).status().code(), StatusCode::kInvalidArgument);
}

TEST(TextExtractorTest, EncodingsAreConvertedOrRepairedWithANotice) {
  EXPECT_EQ(Extract("\xEF\xBB\xBFtext", "a.txt").text, "text");
  const ExtractedText utf16 = Extract(
      "\xFF\xFE"
      "a\0\xE4\0\x3D\xD8\0\xDE"s,
      "a.txt");
  EXPECT_EQ(utf16.text, "a\xC3\xA4\xF0\x9F\x98\x80");
  EXPECT_EQ(Extract("\xFE\xFF\0a\0b"s, "a.txt").text, "ab");
  const ExtractedText repaired = Extract("good text \xFF here", "a.txt");
  EXPECT_EQ(repaired.text, "good text \xEF\xBF\xBD here");
  ASSERT_EQ(repaired.notices.size(), 1U);
  EXPECT_NE(repaired.notices[0].find("count=1"), std::string::npos);
  const ExtractedText latin =
      Extract("<meta charset=\"ISO-8859-1\"><p>caf\xE9 \x93q\x94</p>", "a.html");
  EXPECT_EQ(latin.text, "caf\xC3\xA9 \xE2\x80\x9Cq\xE2\x80\x9D");
  EXPECT_EQ(latin.notices.size(), 1U);
  EXPECT_EQ(CodeOf("<meta charset=shift_jis><p>\x83\x65\x83\x58</p>", "a.html"),
            StatusCode::kUnsupported);
}

TEST(TextExtractorTest, RandomMarkdownKeepsTheInvariants) {
  RandomDocuments documents(1);
  for (int round = 0; round < 2'000; ++round) {
    const std::string source = documents.Markdown();
    SCOPED_TRACE(source);
    const auto document = ExtractText(source, "a.md", {});
    if (!document.ok()) {
      ASSERT_TRUE(std::all_of(source.begin(), source.end(), IsBlankByte)) << document.status();
      continue;
    }
    ASSERT_EQ(document->text, source);
    CheckInvariants(*document);
    if (HasFatalFailure()) return;
  }
}

TEST(TextExtractorTest, RandomHtmlKeepsTheInvariants) {
  RandomDocuments documents(2);
  for (int round = 0; round < 2'000; ++round) {
    const std::string source = documents.Html();
    SCOPED_TRACE(source);
    const auto document = ExtractText(source, "a.html", {});
    if (!document.ok()) continue;  // A random script may swallow all.
    CheckInvariants(*document);
    if (HasFatalFailure()) return;
  }
}

struct Hostile {
  std::string_view hint;
  std::string_view begin;
  std::string_view unit;
};

class TextExtractorHostileTest : public testing::TestWithParam<Hostile> {};

// Quadratic work would take hours, which the runner of the tests does not wait for.
TEST_P(TextExtractorHostileTest, EndsInLinearTimeAndBoundedDepth) {
  constexpr size_t kSize = size_t{1} << 20;
  std::string source(GetParam().begin);
  while (source.size() < kSize) source += GetParam().unit;
  source += "\nend of text";
  const auto document = ExtractText(source, GetParam().hint, {});
  if (document.ok()) {
    CheckInvariants(*document);
  } else {
    EXPECT_EQ(document.status().code(), StatusCode::kInvalidArgument) << document.status();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Files, TextExtractorHostileTest,
    testing::Values(
        Hostile{"a.html", "", "<div>x"}, Hostile{"a.html", "", "<b a=1>"},
        Hostile{"a.html", "", "<table><tr><td>"}, Hostile{"a.html", "<p ", "a1 b2=c "},
        Hostile{"a.html", "", "<li><dd>x"}, Hostile{"a.html", "", "<span><div></span>x"},
        Hostile{"a.html", "", "<svg>x"}, Hostile{"a.html", "", "x<!--"},
        Hostile{"a.html", "", "<a b='"}, Hostile{"a.html", "", "<"}, Hostile{"a.html", "", "&amp"},
        Hostile{"a.html", "", "</div></p>x"}, Hostile{"a.html", "<select>", "<option>x"},
        Hostile{"a.html", "", "<h1>x"}, Hostile{"a.html", "<pre>", "<ul><li>x"},
        Hostile{"a.md", "", ">"}, Hostile{"a.md", "", "- "},
        Hostile{"a.md", "- - - - - - - - - x\n", "\n"}, Hostile{"a.md", "", "["},
        Hostile{"a.md", "", "*a_"}, Hostile{"a.md", "", "![a]("}, Hostile{"a.md", "", "`a "},
        Hostile{"a.md", "x\n", "     <!--\n"}, Hostile{"a.md", "", "<a b=\"\n"},
        Hostile{"a.md", "", "[a]: b\n"}, Hostile{"a.md", "", "# a\n"}, Hostile{"a.md", "", "\t"},
        Hostile{"a.md", "", "&lt;"}, Hostile{"a.md", "", "|a"}, Hostile{"a.md", "|a|\n", "|-|\n"},
        Hostile{"a.txt", "", "a\n\n"}));

}  // namespace
}  // namespace intarsia::query
