#include "engine/path_pattern.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fnmatch.h>

namespace intarsia::engine {
namespace {

constexpr size_t kAlternativesMax = 1'000;
constexpr size_t kPatternBytesMax = 4'096;  // As long as a path may be.
constexpr int kDepthMax = 64;

bool HasMagic(std::string_view text) { return text.find_first_of("*?[") != std::string_view::npos; }

// Replaces each {a,b} by its alternatives.
Status ExpandBraces(const std::string& pattern, std::vector<std::string>* result) {
  const size_t open = pattern.find('{');
  if (open == std::string::npos) {
    result->push_back(pattern);
    if (result->size() <= kAlternativesMax) return Status::Ok();
    return Status(StatusCode::kInvalidArgument, "pattern has too many alternatives: " + pattern);
  }
  int depth = 0;
  std::vector<size_t> cuts = {open};
  for (size_t i = open; i < pattern.size(); ++i) {
    if (pattern[i] == '{') ++depth;
    if (pattern[i] == ',' && depth == 1) cuts.push_back(i);
    if (pattern[i] != '}' || --depth > 0) continue;
    cuts.push_back(i);
    for (size_t cut = 0; cut + 1 < cuts.size(); ++cut) {
      const std::string one = pattern.substr(cuts[cut] + 1, cuts[cut + 1] - cuts[cut] - 1);
      INTARSIA_RETURN_IF_ERROR(
          ExpandBraces(pattern.substr(0, open) + one + pattern.substr(i + 1), result));
    }
    return Status::Ok();
  }
  return Status(StatusCode::kInvalidArgument, "pattern has an unclosed brace: " + pattern);
}

std::string Join(const std::string& folder, const std::string& name) {
  if (folder.empty()) return name;
  return folder.back() == '/' ? folder + name : folder + "/" + name;
}

class Walker {
 public:
  explicit Walker(FileSystem* file_system) : file_system_(*file_system) {}

  // Adds what lies below `folder` and matches `parts` from `index` on.
  Status Match(const std::string& folder, const std::vector<std::string>& parts, size_t index,
               int depth) {
    if (depth > kDepthMax) return Status::Ok();
    if (index == parts.size()) return AddAll(folder, depth);
    const std::string& part = parts[index];
    if (!HasMagic(part)) {
      const std::string path = Join(folder, part);
      return file_system_.Exists(path) ? Match(path, parts, index + 1, depth + 1) : Status::Ok();
    }
    if (part == "**") INTARSIA_RETURN_IF_ERROR(Match(folder, parts, index + 1, depth + 1));
    const auto entries = file_system_.List(folder.empty() ? "." : folder);
    if (!entries.ok()) return Status::Ok();  // Not a directory, or not ours to read.
    for (const DirectoryEntry& entry : *entries) {
      const std::string path = Join(folder, entry.name);
      if (part == "**") {
        if (entry.is_directory && !entry.is_link && entry.name.front() != '.') {
          INTARSIA_RETURN_IF_ERROR(Match(path, parts, index, depth + 1));
        }
      } else if (MatchesName(part, entry.name)) {
        INTARSIA_RETURN_IF_ERROR(Match(path, parts, index + 1, depth + 1));
      }
    }
    return Status::Ok();
  }

  std::set<std::string> TakeFiles() { return std::move(files_); }

 private:
  // A file, or all files below a directory.
  Status AddAll(const std::string& path, int depth) {
    if (depth > kDepthMax) return Status::Ok();
    const auto entries = file_system_.List(path.empty() ? "." : path);
    if (!entries.ok()) {
      if (file_system_.Exists(path)) files_.insert(path);
      return Status::Ok();
    }
    for (const DirectoryEntry& entry : *entries) {
      if (entry.name.front() == '.') continue;
      const std::string below = Join(path, entry.name);
      if (entry.is_directory) {
        if (!entry.is_link) INTARSIA_RETURN_IF_ERROR(AddAll(below, depth + 1));
      } else {
        files_.insert(below);
      }
    }
    return Status::Ok();
  }

  FileSystem& file_system_;
  std::set<std::string> files_;
};

}  // namespace

bool MatchesName(std::string_view pattern, std::string_view name) {
  return ::fnmatch(std::string(pattern).c_str(), std::string(name).c_str(), FNM_PERIOD) == 0;
}

Result<std::vector<std::string>> ExpandPaths(const std::vector<std::string>& patterns,
                                             FileSystem* file_system) {
  std::set<std::string> all;
  for (const std::string& pattern : patterns) {
    if (pattern.size() > kPatternBytesMax) {
      return Status(StatusCode::kInvalidArgument, "pattern is longer than " +
                                                      std::to_string(kPatternBytesMax) +
                                                      " bytes: " + pattern.substr(0, 64) + "...");
    }
    std::vector<std::string> plain;
    if (file_system->Exists(pattern)) {
      plain.push_back(pattern);  // A name that happens to hold a bracket or a brace.
    } else {
      INTARSIA_RETURN_IF_ERROR(ExpandBraces(pattern, &plain));
    }
    size_t num_before = all.size();
    bool has_match = false;
    for (const std::string& one : plain) {
      if (one.empty()) continue;  // It would stand for the current directory.
      std::vector<std::string> parts;
      for (size_t begin = 0; begin < one.size();) {
        const size_t end = std::min(one.find('/', begin), one.size());
        const std::string part = one.substr(begin, end - begin);
        // One `**` is as good as several, and much faster.
        const bool is_repeated = part == "**" && !parts.empty() && parts.back() == "**";
        if (!part.empty() && !is_repeated) parts.push_back(part);
        begin = end + 1;
      }
      Walker walker(file_system);
      if (file_system->Exists(one)) {
        INTARSIA_RETURN_IF_ERROR(walker.Match(one, {}, 0, 0));
      } else {
        INTARSIA_RETURN_IF_ERROR(walker.Match(one.starts_with('/') ? "/" : "", parts, 0, 0));
      }
      const std::set<std::string> files = walker.TakeFiles();
      has_match = has_match || !files.empty();
      all.insert(files.begin(), files.end());
    }
    if (!has_match && all.size() == num_before) {
      return Status(StatusCode::kNotFound, "no file matches: " + pattern);
    }
  }
  return std::vector<std::string>(all.begin(), all.end());
}

}  // namespace intarsia::engine
