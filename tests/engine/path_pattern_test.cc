#include "engine/path_pattern.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/storage/temporary_directory.h"

namespace intarsia::engine {
namespace {

class PathPatternTest : public testing::Test {
 protected:
  void Touch(const std::string& name) const {
    std::filesystem::create_directories(std::filesystem::path(folder_ / name).parent_path());
    storage::WriteFile(folder_ / name, "x");
  }
  // What the patterns find, without the folder and joined by blanks.
  std::string Find(const std::vector<std::string>& patterns) const {
    std::vector<std::string> paths;
    for (const std::string& pattern : patterns) paths.push_back(folder_ / pattern);
    const auto found = ExpandPaths(paths, FileSystem::Local());
    if (!found.ok()) return std::string(StatusCodeName(found.status().code()));
    std::string joined;
    for (const std::string& path : *found) {
      joined += (joined.empty() ? "" : " ") + path.substr((folder_ / "").size());
    }
    return joined;
  }

  storage::TemporaryDirectory folder_;
};

TEST_F(PathPatternTest, NamesMatchAsInAShell) {
  EXPECT_TRUE(MatchesName("*.md", "a.md"));
  EXPECT_TRUE(MatchesName("?.m?", "a.md"));
  EXPECT_TRUE(MatchesName("[a-c].md", "b.md"));
  EXPECT_FALSE(MatchesName("[!a-c].md", "b.md"));
  EXPECT_FALSE(MatchesName("*.md", ".md"));
  EXPECT_TRUE(MatchesName(".*", ".md"));
  EXPECT_FALSE(MatchesName("*.md", "a.mdx"));
}

TEST_F(PathPatternTest, PatternsFindFilesAtTheirDepth) {
  for (const char* name :
       {"a.md", "b.md", "c.txt", "d/a.md", "d/e/a.md", "d/e/f/g.txt", ".h/a.md", "d/.i.md"}) {
    Touch(name);
  }
  EXPECT_EQ(Find({"*.md"}), "a.md b.md");
  EXPECT_EQ(Find({"*/*.md"}), "d/a.md");
  EXPECT_EQ(Find({"**/*.md"}), "a.md b.md d/a.md d/e/a.md");
  EXPECT_EQ(Find({"**/**/**/*.md"}), "a.md b.md d/a.md d/e/a.md");
  EXPECT_EQ(Find({"d/**/a.md"}), "d/a.md d/e/a.md");
  EXPECT_EQ(Find({"d/**"}), "d/a.md d/e/a.md d/e/f/g.txt");
  EXPECT_EQ(Find({"d"}), "d/a.md d/e/a.md d/e/f/g.txt");
  EXPECT_EQ(Find({"d/e*"}), "d/e/a.md d/e/f/g.txt");
  EXPECT_EQ(Find({"{a,c}.{md,txt}"}), "a.md c.txt");
  EXPECT_EQ(Find({"{d/{a,e/a}.md,c.txt}"}), "c.txt d/a.md d/e/a.md");
  EXPECT_EQ(Find({"c.txt", "*", "c.txt"}), "a.md b.md c.txt d/a.md d/e/a.md d/e/f/g.txt");
  EXPECT_EQ(Find({"d/.*.md"}), "d/.i.md");
  EXPECT_EQ(Find({".h"}), ".h/a.md");
}

TEST_F(PathPatternTest, WhatMatchesNothingIsAnError) {
  Touch("a.md");
  EXPECT_EQ(Find({"*.txt"}), "not found");
  EXPECT_EQ(Find({"a.md", "*.txt"}), "not found");
  EXPECT_EQ(Find({"b/*.md"}), "not found");
  EXPECT_EQ(Find({"a.md/*"}), "not found");
  std::filesystem::create_directory(folder_ / "empty");
  EXPECT_EQ(Find({"empty"}), "not found");
  EXPECT_FALSE(ExpandPaths({""}, FileSystem::Local()).ok());
  EXPECT_FALSE(ExpandPaths({"{,}"}, FileSystem::Local()).ok());
}

TEST_F(PathPatternTest, NamesThatLookLikePatternsAreFoundAsTheyAre) {
  Touch("a[1].md");
  Touch("{b}.md");
  Touch("c{.md");
  EXPECT_EQ(Find({"a[1].md"}), "a[1].md");
  EXPECT_EQ(Find({"{b}.md"}), "{b}.md");
  EXPECT_EQ(Find({"c{.md"}), "c{.md");
}

TEST_F(PathPatternTest, HostilePatternsEndInAnError) {
  Touch("a.md");
  EXPECT_EQ(Find({"{a,b"}), "invalid argument");
  std::string doubled;
  for (int i = 0; i < 20; ++i) doubled += "{a,b}";
  EXPECT_EQ(Find({doubled}), "invalid argument");
  std::string deep;
  for (int i = 0; i < 400'000; ++i) deep += "{a}";
  EXPECT_EQ(Find({deep}), "invalid argument");
  EXPECT_EQ(Find({std::string(3'000, '{') + std::string(900, '}')}), "invalid argument");
  std::string stars;
  for (int i = 0; i < 900; ++i) stars += "**/";
  EXPECT_EQ(Find({stars + "*.md"}), "a.md");
  EXPECT_EQ(Find({std::string(900, '[')}), "not found");
}

TEST_F(PathPatternTest, LinksThatLeadUpwardsDoNoHarm) {
  Touch("d/a.md");
  // Two of them make a walk that follows links visit 2^64 folders.
  std::filesystem::create_directory_symlink(".", folder_ / "d/up");
  std::filesystem::create_directory_symlink("..", folder_ / "d/further");
  std::filesystem::create_symlink("a.md", folder_ / "d/link.md");
  EXPECT_EQ(Find({"d"}), "d/a.md d/link.md");
  EXPECT_EQ(Find({"**/*.md"}), "d/a.md d/link.md");
  EXPECT_EQ(Find({"d/up/*.md"}), "d/up/a.md d/up/link.md");
}

TEST_F(PathPatternTest, ADanglingLinkIsNoFile) {
  std::filesystem::create_symlink("nowhere", folder_ / "dangling.md");
  EXPECT_EQ(Find({"*.md"}), "not found");
}

}  // namespace
}  // namespace intarsia::engine
