// RandomDocuments: seeded Markdown and HTML, from sane to malformed, for property tests.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

namespace intarsia::query {

class RandomDocuments {
 public:
  explicit RandomDocuments(uint32_t seed) : random_(seed) {}

  std::string Markdown() {
    std::string text;
    const int64_t num_parts = Below(30);
    for (int64_t i = 0; i < num_parts; ++i) text += MarkdownPart();
    return text;
  }

  std::string Html() {
    std::string text;
    const int64_t num_parts = Below(80);
    for (int64_t i = 0; i < num_parts; ++i) text += HtmlPart();
    return text;
  }

  std::string Prose() {
    static constexpr std::array<std::string_view, 24> kWords = {
        "Fusion", "reuses", "the",   "keys.",    "Dr.",  "Smith", "saw",   "3.14",
        "e.g.",   "U.S.",   "Army",  "\"Yes!\"", "he",   "said.", "Naïve", "漢字。",
        "why?",   "`code`", "**b**", "[a](b)",   "(see", "No.",   "5)",    "...\n"};
    std::string text;
    const int64_t num_words = Below(60);
    for (int64_t i = 0; i < num_words; ++i) {
      text += kWords[static_cast<size_t>(Below(24))];
      text += Below(9) == 0 ? "\n" : " ";
    }
    return text;
  }

 private:
  int64_t Below(int64_t end) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(end));
  }

  std::string MarkdownPart() {
    static constexpr std::array<std::string_view, 22> kParts = {
        "\n",       "\n\n",        "# Title\n",   "## Part *two*\n", "### Deep ###\n",
        "- item: ", "  - sub ",    "1. one ",     "> quote ",        "```py\nx = 1\n",
        "```\n",    "| a | b |\n", "|---|---|\n", "Head\n====\n",    "***\n",
        "<div>\n",  "</div>\n",    "    code\n",  "Lead-in:\n",      "Table 1. Caption\n",
        "\t",       "---\n"};
    const int64_t choice = Below(30);
    if (choice < static_cast<int64_t>(kParts.size())) {
      return std::string(kParts[static_cast<size_t>(choice)]);
    }
    return choice == 29 ? std::string(static_cast<size_t>(Below(300)), 'w') : Prose();
  }

  std::string HtmlPart() {
    static constexpr std::array<std::string_view, 42> kParts = {"<p>",
                                                                "</p>",
                                                                "<div>",
                                                                "</div>",
                                                                "<ul>",
                                                                "</ul>",
                                                                "<li>",
                                                                "</li>",
                                                                "<table>",
                                                                "</table>",
                                                                "<tr>",
                                                                "<td>",
                                                                "</td>",
                                                                "<h1>",
                                                                "</h1>",
                                                                "<h3>",
                                                                "</h3>",
                                                                "<pre>",
                                                                "</pre>",
                                                                "<br>",
                                                                "<b x='>'>",
                                                                "</b>",
                                                                "<!-- x -->",
                                                                "&amp;",
                                                                "&nbsp;",
                                                                "<",
                                                                "</",
                                                                "<script>",
                                                                "</script>",
                                                                "<title>",
                                                                "</title>",
                                                                "<caption>",
                                                                "<nav>",
                                                                "</nav>",
                                                                "<dl>",
                                                                "</dl>",
                                                                "<dt>",
                                                                "</dt>",
                                                                "<dd>",
                                                                "</dd>",
                                                                "<div class=note>",
                                                                "</aside>"};
    const int64_t choice = Below(58);
    if (choice < static_cast<int64_t>(kParts.size())) {
      return std::string(kParts[static_cast<size_t>(choice)]);
    }
    return Prose();
  }

  std::mt19937 random_;
};

}  // namespace intarsia::query
