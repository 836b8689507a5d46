#include "storage/rocks_current.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "base/log.h"

namespace intarsia::storage {
namespace {

constexpr std::string_view kListPrefix = "MANIFEST-";
constexpr int64_t kCurrentBytesMax = 256;

bool IsList(std::string_view name) {
  return name.starts_with(kListPrefix) && name.size() > kListPrefix.size() &&
         std::ranges::all_of(name.substr(kListPrefix.size()),
                             [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

Status RestoreCurrent(FileSystem* file_system, const std::string& path) {
  if (!file_system->Exists(path)) return Status::Ok();  // RocksDB says what is missing.
  INTARSIA_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, file_system->List(path));
  std::vector<std::string> lists;
  for (const DirectoryEntry& entry : entries) {
    if (IsList(entry.name)) lists.push_back(entry.name);
  }
  const std::string current = path + "/CURRENT";
  if (const auto bytes = file_system->ReadAll(current, kCurrentBytesMax);
      bytes.ok() && bytes->ends_with('\n')) {
    const std::string named = bytes->substr(0, bytes->size() - 1);
    if (std::ranges::find(lists, named) != lists.end()) return Status::Ok();
  }
  if (lists.size() != 1) return Status::Ok();
  Log(LogLevel::kWarning, "CURRENT made anew: " + current);
  return file_system->WriteAtomically(current, lists[0] + "\n");
}

}  // namespace intarsia::storage
